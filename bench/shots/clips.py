"""Seeded clips of known cuts: splices of takes with every transition, and what is none."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from bench.shots.sources import HEIGHT, WIDTH, Pixels, Sources
from bench.shots.takes import Camera

_RATES = (Fraction(10), Fraction(24000, 1001), Fraction(25), Fraction(50), Fraction(60))
_CLOCK = Fraction(1, 90_000)


@dataclass(frozen=True, slots=True)
class Truth:
    """A boundary. ``start``: the first mixed frame; ``end``: the first of the new shot alone, the
    same for a hard cut. Indexes of decoded frames."""

    start: int
    end: int
    kind: str


@dataclass(slots=True)
class Reel:
    """A clip while it is made."""

    rate: Fraction
    frames: list[Pixels] = field(default_factory=list)
    truths: list[Truth] = field(default_factory=list)

    def cut_to(self, take: list[Pixels]) -> None:
        if self.frames:
            self.truths.append(Truth(len(self.frames), len(self.frames), "cut"))
        self.frames += take

    def mix_to(self, take: list[Pixels], count: int, kind: str, mix: "Mix") -> None:
        """The last ``count`` frames change into the first ones of the take."""
        first = len(self.frames) - count
        for n in range(count):
            share = (n + 1) / (count + 1)
            self.frames[first + n] = mix(self.frames[first + n], take[n], share)
        self.truths.append(Truth(first, first + count, kind))
        self.frames += take[count:]

    def seconds(self, seconds: float) -> int:
        return max(1, round(seconds * self.rate))


Mix = Callable[[Pixels, Pixels, float], Pixels]


def dissolve(old: Pixels, new: Pixels, share: float) -> Pixels:
    mixed = old.astype(np.float32) * (1 - share) + new.astype(np.float32) * share
    return np.asarray(np.rint(mixed), np.uint8)


def fade_through(level: int) -> Mix:
    """Old to one grey in the first 45 %, new from it in the last."""

    def mix(old: Pixels, new: Pixels, share: float) -> Pixels:
        ground = np.full_like(old, level)
        if share < 0.45:
            return dissolve(old, ground, share / 0.45)
        return ground if share < 0.55 else dissolve(ground, new, (share - 0.55) / 0.45)

    return mix


def wipe(rng: random.Random) -> Mix:
    """Over a straight edge, from one of four sides."""
    side = rng.randrange(4)

    def mix(old: Pixels, new: Pixels, share: float) -> Pixels:
        mixed = old.copy()
        x, y = round(WIDTH * share), round(HEIGHT * share)
        part = (
            np.s_[:, :x], np.s_[:, WIDTH - x :], np.s_[:y], np.s_[HEIGHT - y :]
        )[side]  # fmt: skip
        mixed[part] = new[part]
        return mixed

    return mix


def _cuts(reel: Reel, camera: Camera, rng: random.Random) -> None:
    for _ in range(8):
        reel.cut_to(camera.any(reel.seconds(rng.uniform(0.8, 2.0))))


def _rapid(reel: Reel, camera: Camera, rng: random.Random) -> None:
    for _ in range(14):
        reel.cut_to(camera.any(max(4, reel.seconds(rng.uniform(0.28, 0.5)))))


def _motion(reel: Reel, camera: Camera, rng: random.Random) -> None:
    """Pans, zooms and shaking, with a cut between them."""
    for _ in range(5):
        count = reel.seconds(rng.uniform(1.5, 2.5))
        per_second = 1 / float(reel.rate)
        kind = rng.randrange(3)
        if kind == 0:
            reel.cut_to(camera.moving(count, speed=rng.uniform(0.3, 1.2) * per_second))
        elif kind == 1:
            zoom = rng.uniform(0.2, 0.6) * per_second
            reel.cut_to(camera.moving(count, speed=0, zoom_speed=zoom))
        else:
            reel.cut_to(camera.moving(count, speed=0.002, shake_px=rng.uniform(1, 6)))


def _gradual(kind: str) -> "Maker":
    def make(reel: Reel, camera: Camera, rng: random.Random) -> None:
        reel.cut_to(camera.any(reel.seconds(2.5)))
        for _ in range(5):
            mixes: dict[str, Mix] = {
                "dissolve": dissolve,
                "fade": fade_through(rng.choice([0, 0, 255])),
                "wipe": wipe(rng),
            }
            shortest = 0.5 if kind == "fade" else 0.2
            count = max(3, reel.seconds(rng.uniform(shortest, 1.6)))
            take = camera.any(count + reel.seconds(rng.uniform(1.8, 3.0)))
            reel.mix_to(take, count, kind, mixes[kind])

    return make


def _flashes(reel: Reel, camera: Camera, rng: random.Random) -> None:
    """Camera flashes, lightning that flickers, an explosion that dies away."""
    for _ in range(4):
        take = camera.any(reel.seconds(2.5))
        at = reel.seconds(rng.uniform(0.8, 1.4))
        kind = rng.randrange(3)
        if kind == 0:
            light = [rng.uniform(0.6, 1.0)] * rng.randrange(1, 3)
        elif kind == 1:
            light = [rng.choice([0.0, 0.5, 0.9]) for _ in range(max(3, reel.seconds(0.3)))]
        else:
            light = [1.0 - n / reel.seconds(0.8) for n in range(reel.seconds(0.8))]
        white = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
        for n, share in enumerate(light):
            if at + n < len(take):
                take[at + n] = dissolve(take[at + n], white, share)
        reel.cut_to(take)


def _pumping(reel: Reel, camera: Camera, rng: random.Random) -> None:
    """Brightness that drifts and jumps a little, as exposure does, and noise."""
    for _ in range(5):
        noise = rng.uniform(2, 10)
        gain = 1.0
        take = []
        for frame in camera.any(reel.seconds(2)):
            if rng.random() < 0.03:
                gain = min(1.3, max(0.7, gain + rng.choice([-0.1, 0.1])))
            grain = np.random.default_rng(rng.randrange(1 << 30)).normal(0, noise, frame.shape)
            take.append(np.clip(frame * gain + grain, 0, 255).astype(np.uint8))
        reel.cut_to(take)


def _slides(reel: Reel, camera: Camera, rng: random.Random) -> None:
    ground = rng.choice([(245, 245, 245), (225, 215, 205), (60, 40, 20), (120, 120, 120)])
    for _ in range(6):
        reel.cut_to(camera.slide(reel.seconds(rng.uniform(1, 3)), ground))


def _repeated(reel: Reel, camera: Camera, rng: random.Random) -> None:
    """A film of few frames, each shown several times; the cuts are where its own are."""
    times = rng.choice([2, 3, 5])
    for _ in range(5):
        count = max(4, reel.seconds(2) // times)
        take = camera.real(count) if rng.random() < 0.5 else camera.moving(count, speed=0.01)
        reel.cut_to([frame for frame in take for _ in range(times)])


def _combed(reel: Reel, camera: Camera, rng: random.Random) -> None:
    """Interlaced: every other line is of the next frame."""
    for _ in range(6):
        reel.cut_to(camera.any(reel.seconds(rng.uniform(1, 2))))
    for n in range(len(reel.frames) - 1):
        combed = reel.frames[n].copy()
        combed[1::2] = reel.frames[n + 1][1::2]
        reel.frames[n] = combed


def _words(reel: Reel, camera: Camera, rng: random.Random) -> None:
    """Rolling credits and jumping words beside ordinary shots."""
    for n in range(4):
        count = reel.seconds(2.5)
        take = camera.credits if rng.random() < 0.5 else camera.kinetic_words
        reel.cut_to(camera.any(count) if n % 2 else take(count))


Maker = Callable[[Reel, Camera, random.Random], None]
CLASSES: dict[str, Maker] = {
    "cuts": _cuts,
    "rapid cuts": _rapid,
    "dissolves": _gradual("dissolve"),
    "fades": _gradual("fade"),
    "wipes": _gradual("wipe"),
    "pan, zoom, shake": _motion,
    "flashes": _flashes,
    "pumping, noise": _pumping,
    "slides": _slides,
    "repeated frames": _repeated,
    "interlaced": _combed,
    "rolling, jumping words": _words,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """A file and what is known of it."""

    path: Path
    kind: str
    truths: tuple[Truth, ...]


def make_clips(folder: Path, sources: Sources, *, per_class: int, seed: str) -> Iterator[Clip]:
    """Write ``per_class`` clips of every class; the same seed gives the same frames."""
    for kind, make in CLASSES.items():
        for index in range(per_class):
            rng = random.Random(f"{seed} {kind} {index}")  # noqa: S311 - not for secrets
            reel = Reel(rng.choice(_RATES))
            make(reel, Camera(sources, rng), rng)
            path = folder / f"{kind.replace(', ', '-').replace(' ', '-')}-{index}.mp4"
            drop_every = rng.choice([0, 0, 0, 4])
            truths = _write(path, reel, crf=rng.randrange(20, 34), drop_every=drop_every)
            yield Clip(path=path, kind=kind, truths=truths)


def _write(path: Path, reel: Reel, *, crf: int, drop_every: int) -> tuple[Truth, ...]:
    """H.264; of a variable frame rate where every ``drop_every``-th frame is left out."""
    kept = [n for n in range(len(reel.frames)) if not drop_every or n % drop_every]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=reel.rate)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.time_base = _CLOCK
        stream.options = {"crf": str(crf), "preset": "veryfast", "threads": "1"}
        for n in kept:
            frame = av.VideoFrame.from_ndarray(reel.frames[n], format="bgr24")
            frame.pts = round(n / reel.rate / _CLOCK)
            frame.time_base = _CLOCK
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    # The first frame kept that is not before it.
    place = {n: sum(1 for k in kept if k < n) for t in reel.truths for n in (t.start, t.end)}
    return tuple(Truth(place[t.start], place[t.end], t.kind) for t in reel.truths)
