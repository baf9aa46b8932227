"""Pictures that move as pictures in films do: what stands between two cuts."""

import random
from typing import TypeVar

import cv2
import numpy as np

from bench.shots.sources import HEIGHT, WIDTH, Pixels, Sources

T = TypeVar("T")

_FONTS = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_COMPLEX)
_WORDS = (
    "harbour winter signal paper engine garden mirror station copper river method result sample "
    "number theory market budget season figure report window summer evening forest bridge cotton"
).split()


class Camera:
    """Takes of any length out of the sources; never the same source twice in a row."""

    def __init__(self, sources: Sources, rng: random.Random) -> None:
        self._sources = sources
        self._rng = rng
        self._last = -1

    def real(self, count: int) -> list[Pixels]:
        """A real clip from anywhere in it; there and back where it is too short."""
        frames = self._other(self._sources.takes)
        there_and_back = [*frames, *frames[-2:0:-1]]
        start = self._rng.randrange(len(there_and_back))
        return [there_and_back[(start + n) % len(there_and_back)] for n in range(count)]

    def still(self, count: int) -> list[Pixels]:
        """A photograph that does not move."""
        return self.moving(count, speed=0.0)

    def moving(
        self, count: int, *, speed: float, shake_px: float = 0.0, zoom_speed: float = 0.0
    ) -> list[Pixels]:
        """A photograph under a moving camera. ``speed``: widths of the picture per frame;
        ``zoom_speed``: growth per frame."""
        photo = self._other(self._sources.photos)
        rng = self._rng
        angle = rng.uniform(0, 2 * np.pi)
        zoom = rng.uniform(1.0, 1.3) if zoom_speed <= 0 else 1.0
        x, y = rng.uniform(-0.2, 0.2), rng.uniform(-0.2, 0.2)
        dx, dy = speed * np.cos(angle), speed * np.sin(angle)
        frames = []
        for n in range(count):
            # Bounces at the borders of the photograph, as a camera that pans there and back.
            left, top = _bounce(x + dx * n), _bounce(y + dy * n)
            shake_x, shake_y = rng.gauss(0, shake_px), rng.gauss(0, shake_px)
            scale = 0.5 * zoom * (1 + zoom_speed) ** n
            frames.append(_look(photo, left * WIDTH + shake_x, top * HEIGHT + shake_y, scale))
        return frames

    def any(self, count: int) -> list[Pixels]:
        """Half of them real, the others photographs under a quiet camera."""
        if self._rng.random() < 0.5:
            return self.real(count)
        return self.moving(count, speed=self._rng.choice([0.0, 0.002, 0.005]))

    def credits(self, count: int) -> list[Pixels]:
        """Names that roll upwards on black."""
        tall = np.zeros((HEIGHT * 8, WIDTH, 3), np.uint8)
        for line in range(8 * HEIGHT // 14):
            if self._rng.random() < 0.8:
                _write(tall, self._words(2), (40, 14 * line), 0.4, (230, 230, 230), 0)
        step = self._rng.choice([1, 2])
        return [tall[step * n % (7 * HEIGHT) :][:HEIGHT].copy() for n in range(count)]

    def kinetic_words(self, count: int) -> list[Pixels]:
        """Words of changing size that jump every few frames, on one dark ground, now and then
        inverted for a frame."""
        rng = self._rng
        ground = np.full((HEIGHT, WIDTH, 3), [rng.randrange(40) for _ in range(3)], np.uint8)
        frames: list[Pixels] = []
        while len(frames) < count:
            page = ground.copy()
            size = rng.uniform(0.5, 1.2)
            _write(page, self._words(1), (rng.randrange(60), rng.randrange(40, 120)), size)
            frames += [page] * rng.randrange(4, 15)
            if rng.random() < 0.3:
                frames.append(np.asarray(255 - page, np.uint8))
        return frames[:count]

    def slide(self, count: int, ground: tuple[int, int, int]) -> list[Pixels]:
        """A slide of text on a ground: it stands still."""
        page = np.full((HEIGHT, WIDTH, 3), ground, np.uint8)
        ink = (40, 40, 40) if sum(ground) > 380 else (220, 220, 220)
        _write(page, self._words(2), (16, 26), 0.6, ink)
        for line in range(self._rng.randrange(2, 7)):
            _write(page, self._words(self._rng.randrange(2, 4)), (22, 50 + 16 * line), 0.4, ink)
        return [page] * count

    def _words(self, count: int) -> str:
        return " ".join(self._rng.choice(_WORDS) for _ in range(count))

    def _other(self, things: list[T]) -> T:
        """Another one than the last time, if there is."""
        index = self._rng.randrange(len(things))
        if index == self._last and len(things) > 1:
            index = (index + 1) % len(things)
        self._last = index
        return things[index]


def _bounce(at: float) -> float:
    """Into -0.2..0.2."""
    phase = (at + 0.2) % 0.8
    return (phase if phase < 0.4 else 0.8 - phase) - 0.2


def _look(photo: Pixels, dx: float, dy: float, scale: float) -> Pixels:
    height, width = photo.shape[:2]
    matrix = np.array(
        [
            [scale, 0, WIDTH / 2 - scale * width / 2 + dx],
            [0, scale, HEIGHT / 2 - scale * height / 2 + dy],
        ]
    )
    seen = cv2.warpAffine(
        photo, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REFLECT
    )
    return np.asarray(seen, np.uint8)


def _write(
    page: Pixels,
    text: str,
    at: tuple[int, int],
    size: float,
    ink: tuple[int, int, int] = (230, 230, 230),
    font: int = 1,
) -> None:
    cv2.putText(page, text, at, _FONTS[font], size, ink, 1, cv2.LINE_AA)
