"""The detector around TransNetV2, with a stand-in that sees plain differences; the model itself has
its own tests."""

import random
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from shot_frames import STEP, TIME_BASE, Frame, dissolve, grey, picture, places

from pipeline.media.params import SplitParams
from pipeline.media.shots import Boundary, TransNetDetector, transnet_reach_ms

ONE, TWO, THREE = picture(1), picture(2), picture(3)


def stand_in(windows: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Probabilities that depend on the whole window, as the model's do."""
    assert windows.shape[1:] == (100, 27, 48, 3)
    assert windows.dtype == np.uint8
    steps = np.abs(np.diff(windows.astype(np.float32), axis=1)).mean(axis=(2, 3, 4))
    scores = np.zeros((*windows.shape[:2], 2), np.float32)
    scores[:, :-1, 0] = np.clip(steps / 20, 0, 0.9)
    scores[:, :-1, 1] = np.clip(steps, 0, 0.9)
    # A window that begins one frame later gives something else.
    return scores + (windows.astype(np.int64).sum(axis=(1, 2, 3, 4)) % 97 / 1e4)[
        :, None, None
    ].astype(np.float32) * (scores > 0.01)


def find(
    frames: Sequence[Frame], pts: Sequence[int] = (), *, min_shot_ms: int = 200
) -> list[Boundary]:
    times = list(pts) or [n * STEP for n in range(len(frames))]
    params = SplitParams(min_shot_ms=min_shot_ms)
    detector = TransNetDetector(time_base=TIME_BASE, params=params, score=stand_in)
    found = [
        one for at, frame in zip(times, frames, strict=True) for one in detector.push(at, frame)
    ]
    return found + detector.finish((times[-1] if times else 0) + STEP)


@pytest.mark.parametrize("count", [0, 1, 2, 300])
def test_a_still_of_any_length_is_one_shot(count: int) -> None:
    assert find([ONE] * count) == []


def test_cuts_are_at_the_first_frame_of_the_new_shot() -> None:
    frames = [picture(n) for n in range(20) for _ in range(47)]

    assert places(find(frames)) == [("cut", 47 * n) for n in range(1, 20)]


@pytest.mark.parametrize("count", [4, 8])
def test_dissolve_has_an_extent(count: int) -> None:
    one, other = grey(0), grey(255)
    one[:, :32], other[:, :32] = 255, 0

    (found,) = find([one] * 60 + dissolve(one, other, count) + [other] * 60)

    assert found.kind in {"dissolve", "fade"}
    assert (found.start_pts // STEP, found.end_pts // STEP) == (59, 60 + count)
    assert 59 <= found.pts // STEP <= 60 + count


def test_shorter_than_the_shortest_shot_is_no_shot() -> None:
    frames = [ONE] * 30 + [TWO] * 4 + [THREE] * 30

    assert len(find(frames)) == 1
    assert places(find(frames, min_shot_ms=120)) == [("cut", 30), ("cut", 34)]


def test_no_short_shot_at_the_borders() -> None:
    assert find([ONE] * 4 + [TWO] * 30) == []
    assert find([ONE] * 30 + [TWO] * 4) == []


@pytest.mark.parametrize("step", [2, 17, 40, 100, 1500])
def test_any_frame_rate_in_bounded_memory(step: int) -> None:
    detector = TransNetDetector(time_base=TIME_BASE, params=SplitParams(), score=stand_in)
    found, most = [], 0
    for n in range(3000):
        found += detector.push(n * step, (ONE, TWO)[n // 1000 % 2])
        most = max(most, len(detector._frames))
    found += detector.finish(3000 * step)

    assert [one.pts for one in found] == [1000 * step, 2000 * step]
    assert most <= 100 + 20_000 // step


@pytest.mark.parametrize("seed", range(3))
def test_ranges_with_their_reach_give_what_the_whole_gives(seed: int) -> None:
    rng = random.Random(seed)
    frames: list[Frame] = []
    while len(frames) < 2500:
        last = frames[-1] if frames else ONE
        first = picture(rng.randrange(1 << 30))
        frames += dissolve(last, first, rng.choice([0, 0, 3, 8]))
        frames += [first] * rng.randrange(3, 120)
    pts = np.cumsum([rng.choice([25, 33, 40]) for _ in frames]).tolist()
    reach = transnet_reach_ms(SplitParams())
    whole = find(frames, pts)

    assert len(whole) > 15
    for low, high in pairwise([0, *sorted(rng.sample(range(pts[-1]), 5)), pts[-1] + 1]):
        inside = [n for n, at in enumerate(pts) if low - reach <= at < high + reach]
        part = find([frames[n] for n in inside], [pts[n] for n in inside])
        assert [one for one in part if low <= one.pts < high] == [
            one for one in whole if low <= one.pts < high
        ]


def test_the_detectors_bring_no_torch() -> None:
    code = "import sys, pipeline.media.shots; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
