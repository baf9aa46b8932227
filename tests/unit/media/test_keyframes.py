import numpy as np
import pytest

from pipeline.media.colour import Planes, to_bgr
from pipeline.media.first_look import FirstLook
from pipeline.media.keyframes import PieceChooser, judge
from pipeline.media.likeness import THUMBNAIL_SHAPE, DistinctPictures, shows_the_same

WIDTH, HEIGHT = 64, 36


def planes(luma: np.ndarray, *, u: int = 128, v: int = 128) -> Planes:
    height, width = luma.shape
    chroma = np.full(height * width // 4, u), np.full(height * width // 4, v)
    return Planes(width, height, np.concatenate([luma.ravel(), *chroma]).astype(np.uint8))


def noise(seed: int, deviation: float = 40) -> Planes:
    rng = np.random.default_rng(seed)
    return planes(np.clip(rng.normal(128, deviation, (HEIGHT, WIDTH)), 16, 235))


def grey(level: int) -> Planes:
    return planes(np.full((HEIGHT, WIDTH), level))


def chosen(*pictures: tuple[Planes, bool]) -> tuple[int, int] | None:
    """Index and rank of the choice among (picture, whether it is in a transition)."""
    chooser = PieceChooser()
    for index, (picture, in_transition) in enumerate(pictures):
        chooser.add(judge(index, picture), in_transition=in_transition)
    choice = chooser.choose()
    return None if choice is None else (choice.candidate.pts, choice.rank)


def test_the_sharpest_is_chosen() -> None:
    soft, sharp = noise(1, 15), noise(1, 50)
    assert chosen((soft, False), (sharp, False), (soft, False)) == (1, 2)


def test_an_empty_picture_only_where_there_is_no_other() -> None:
    assert chosen((grey(16), False), (noise(1), False), (grey(128), False)) == (1, 2)
    assert chosen((grey(16), False), (grey(128), False)) in {(0, 0), (1, 0)}
    assert chosen() is None


def test_a_picture_of_a_transition_only_where_there_is_no_better_one() -> None:
    assert chosen((noise(1, 60), True), (noise(1, 20), False)) == (1, 2)
    assert chosen((noise(1, 60), True), (grey(128), False)) == (0, 1)


def test_of_equally_sharp_pictures_the_typical_one_is_chosen() -> None:
    rows = np.arange(HEIGHT)[:, None] + np.arange(WIDTH)[None, :]
    checks = (rows % 2) * 60
    usual = planes(np.where(np.arange(WIDTH) < 32, 40, 140)[None, :] + checks)
    odd = planes(np.where(np.arange(WIDTH) < 32, 140, 40)[None, :] + checks)
    assert chosen((odd, False), *[(usual, False)] * 6) == (1, 2)


@pytest.mark.parametrize(
    ("matrix", "yuv", "rgb"),
    [
        # 75 % colour bars of each standard.
        ("bt601", (65, 100, 212), (191, 0, 0)),
        ("bt601", (112, 72, 58), (0, 191, 0)),
        ("bt709", (51, 109, 212), (191, 0, 0)),
        ("bt709", (133, 63, 52), (0, 191, 0)),
        ("bt2020", (16, 128, 128), (0, 0, 0)),
        ("bt709", (235, 128, 128), (255, 255, 255)),
    ],
)
def test_colours(matrix: str, yuv: tuple[int, int, int], rgb: tuple[int, int, int]) -> None:
    luma, u, v = yuv
    look = FirstLook(matrix=matrix)  # type: ignore[arg-type]
    picture = to_bgr(planes(np.full((HEIGHT, WIDTH), luma), u=u, v=v), look)
    assert picture[10, 10, ::-1].tolist() == pytest.approx(rgb, abs=2)


@pytest.mark.parametrize(
    ("transfer", "code", "grey_level"),
    [
        # Code values of 10 bits, limited range: black, a grey card (26 cd/m²), white (203 cd/m²),
        # the brightest.
        ("pq", 64, (0, 2)),
        ("pq", 64 + round(0.378 * 876), (95, 105)),
        ("pq", 64 + round(0.581 * 876), (230, 250)),
        ("pq", 64 + round(0.7518 * 876), (254, 255)),
        ("hlg", 64 + round(0.75 * 876), (230, 250)),
        ("hlg", 64, (0, 2)),
    ],
)
def test_hdr_is_tone_mapped(transfer: str, code: int, grey_level: tuple[int, int]) -> None:
    count = WIDTH * HEIGHT
    samples = np.concatenate([np.full(count, code), np.full(count // 2, 512)]).astype(np.uint16)
    look = FirstLook(matrix="bt2020", transfer=transfer)  # type: ignore[arg-type]
    picture = to_bgr(Planes(WIDTH, HEIGHT, samples), look)
    low, high = grey_level
    assert picture.min() >= low
    assert picture.max() <= high
    # A grey stays grey.
    assert int(picture.max()) - int(picture.min()) <= 2


def thumbnail(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (9, 16))
    return np.kron(blocks, np.ones((8, 8))).astype(np.uint8)


def test_like_pictures_have_one_number() -> None:
    rng = np.random.default_rng(5)
    pictures = DistinctPictures()
    first, other = thumbnail(1), thumbnail(2)
    noisy = np.clip(first + rng.normal(0, 3, THUMBNAIL_SHAPE), 0, 255).astype(np.uint8)

    numbers = [pictures.number(picture) for picture in (first, other, noisy, other)]

    assert [number for number, _ in numbers] == [0, 1, 0, 1]
    assert all(len(phash) == 16 for _, phash in numbers)
    assert numbers[1] == numbers[3]


def test_a_changed_word_makes_another_picture() -> None:
    page = np.full(THUMBNAIL_SHAPE, 230, np.uint8)
    page[10:14, 10:100:3] = 30
    changed = page.copy()
    changed[10:14, 40:60] = 230
    pictures = DistinctPictures()
    assert [pictures.number(picture)[0] for picture in (page, changed)] == [0, 1]
    # As a whole the page is the same.
    assert shows_the_same(page, changed, strictly=False)
    assert not shows_the_same(page, changed, strictly=True)
