import numpy as np
import numpy.typing as npt
import pytest

from pipeline.media.keyframes import Candidate, KeyframePicker, choose
from pipeline.media.shots import CutDetector

Frame = npt.NDArray[np.uint8]
STEP = 40  # 25 frames per second, in ms


def noise(seed: int, level: int = 128, size: tuple[int, int] = (36, 64)) -> Frame:
    """A picture with structure, around a grey level."""
    rng = np.random.default_rng(seed)
    return np.clip(rng.normal(level, 40, (*size, 3)), 0, 255).astype(np.uint8)


def cuts_of(frames: list[Frame], *, min_shot: int = 200, threshold: float = 6.0) -> list[int]:
    detector = CutDetector(threshold=threshold, ratio=3.0, min_shot_pts=min_shot)
    found = [cut for n, frame in enumerate(frames) for cut in detector.push(n * STEP, frame)]
    return found + detector.finish(len(frames) * STEP)


def test_cut_is_the_first_frame_of_the_new_shot() -> None:
    assert cuts_of([noise(1)] * 20 + [noise(2)] * 20) == [20 * STEP]


def test_still_picture_has_no_cut() -> None:
    assert cuts_of([noise(1)] * 50) == []


def test_steady_motion_has_no_cut() -> None:
    wide = noise(1, size=(36, 400))
    assert cuts_of([wide[:, 3 * n : 3 * n + 64] for n in range(100)]) == []


@pytest.mark.parametrize("length", [1, 2, 4])
def test_flash_has_no_cut(length: int) -> None:
    white = np.full((36, 64, 3), 255, dtype=np.uint8)
    assert cuts_of([noise(1)] * 20 + [white] * length + [noise(1)] * 20) == []


def test_shorter_than_the_shortest_shot_is_no_shot() -> None:
    frames = [noise(1)] * 20 + [noise(2)] * 4 + [noise(3)] * 20
    assert len(cuts_of(frames)) == 1
    assert cuts_of(frames, min_shot=120) == [20 * STEP, 24 * STEP]


def test_cut_near_the_end_leaves_no_short_shot() -> None:
    assert cuts_of([noise(1)] * 20 + [noise(2)] * 5) == [20 * STEP]
    assert cuts_of([noise(1)] * 20 + [noise(2)] * 4) == []


def test_dark_frames_are_not_cut_by_their_colours() -> None:
    # Nearly black, of changing hue and saturation.
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 6, (36, 64, 3), dtype=np.uint8) for _ in range(50)]
    assert cuts_of(frames) == []


def test_small_change_of_a_still_picture_is_a_cut() -> None:
    slide = np.full((36, 64, 3), 200, dtype=np.uint8)
    next_slide = slide.copy()
    next_slide[:14] = 160  # a third of the picture, a mean difference of about 5
    moving = [noise(5, size=(36, 400))[:, 2 * n : 2 * n + 64] for n in range(20)]
    assert cuts_of([slide] * 20 + [next_slide] * 20) == [20 * STEP]
    assert cuts_of(moving) == []


def blank(level: int) -> Frame:
    return np.full((90, 160, 3), level, dtype=np.uint8)


def picture(seed: int, contrast: float = 1.0) -> Frame:
    soft = noise(seed, size=(90, 160)).astype(float)
    return (128 + (soft - 128) * contrast).astype(np.uint8)


def test_sharpest_near_the_middle_is_chosen() -> None:
    candidates = [
        Candidate(0, picture(0, 1.0)),
        Candidate(40, picture(0, 0.3)),
        Candidate(50, picture(0, 0.4)),
        Candidate(60, picture(0, 0.5)),
        Candidate(99, picture(0, 1.0)),
    ]
    chosen = choose(candidates, 0, 100)
    assert chosen is not None
    assert chosen.pts == 60


def test_empty_frames_are_avoided() -> None:
    candidates = [Candidate(pts, blank(0)) for pts in (30, 50, 70)]
    chosen = choose([*candidates, Candidate(95, picture(1))], 0, 100)
    assert chosen is not None
    assert chosen.pts == 95


def test_of_empty_frames_only_the_middle_one_is_taken() -> None:
    chosen = choose([Candidate(pts, blank(0)) for pts in (10, 45, 90)], 0, 100)
    assert chosen is not None
    assert chosen.pts == 45


def test_nothing_to_choose_from() -> None:
    assert choose([], 0, 100) is None


def test_picker_keeps_few_and_spread_candidates() -> None:
    picker = KeyframePicker()
    for pts in range(0, 1000, 10):
        picker.add(Candidate(pts, picture(pts)))
    # The next shot's candidate, seen before the cut was certain.
    picker.add(Candidate(1005, picture(9)))

    chosen = picker.close_shot(0, 1000)
    following = picker.close_shot(1000, 1100)

    assert chosen is not None
    assert following is not None
    assert 250 <= chosen.pts <= 750
    assert following.pts == 1005
