import random
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from media_factory import make_video
from shot_frames import STEP, TIME_BASE, Frame, dissolve, grey, mixed, picture

from pipeline.media.shots import Run, StretchFinder, merged, stretch_reach_ms

ONE, TWO = picture(1), picture(2)


def find(frames: Sequence[Frame], pts: Sequence[int] = (), end: int | None = None) -> list[Run]:
    times = list(pts) or [n * STEP for n in range(len(frames))]
    finder = StretchFinder(time_base=TIME_BASE)
    for at, frame in zip(times, frames, strict=True):
        finder.push(at, frame)
    return finder.finish(times[-1] + STEP if end is None else end)


def spans(found: Sequence[Run], kind: str) -> list[tuple[int, int]]:
    return [(one.start_pts // STEP, one.end_pts // STEP) for one in found if one.kind == kind]


def moving(count: int, seed: int = 3) -> list[Frame]:
    wide = picture(seed, width=500)
    return [wide[:, n % 400 : n % 400 + 64] for n in range(count)]


def test_nothing_at_all() -> None:
    finder = StretchFinder(time_base=TIME_BASE)
    assert finder.finish(0) == []
    assert find([ONE]) == []
    assert find([ONE, ONE]) == []


def test_black_frames_of_any_length() -> None:
    frames = [*moving(50), grey(0), *moving(50), *[grey(0)] * 200, *moving(20)]

    found = find(frames)

    assert spans(found, "black") == [(50, 51), (101, 301)]
    assert spans(found, "frozen") == []


def test_black_with_noise_and_a_logo_is_black() -> None:
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 20, (36, 64, 3), dtype=np.uint8) for _ in range(40)]
    for frame in frames:
        frame[2:6, 54:62] = 200

    assert spans(find(frames), "black") == [(0, 40)]


def test_a_dark_scene_and_credits_are_not_black() -> None:
    dark = [mixed(grey(0), frame, 0.25) for frame in moving(40)]
    titles = grey(0)
    titles[8:12, 10:54] = 230
    titles[20:24, 10:54] = 230

    assert spans(find(dark + [titles] * 40), "black") == []


def test_slides_are_frozen() -> None:
    found = find([*moving(50), *[ONE] * 100, *[TWO] * 30, *moving(50)])

    assert spans(found, "frozen") == [(50, 180)]


def test_shorter_than_a_second_is_not_frozen() -> None:
    assert spans(find([*moving(50), *[ONE] * 25, *moving(50)]), "frozen") == []
    assert spans(find([*moving(50), *[ONE] * 26, *moving(50)]), "frozen") == [(50, 76)]


@pytest.mark.parametrize("pixels_per_second", [0.5, 1, 5])
def test_a_slow_pan_is_not_frozen(pixels_per_second: float) -> None:
    wide = picture(1, width=1100, height=360)
    per_frame = 10 * pixels_per_second * STEP / 1000
    frames = []
    for n in range(200):
        left = round(per_frame * n)
        seen = wide[:, left : left + 640].reshape(36, 10, 64, 10, 3).mean(axis=(1, 3))
        frames.append(seen.astype(np.uint8))

    assert find(frames) == []


def test_someone_who_speaks_is_not_frozen() -> None:
    rng = np.random.default_rng(0)
    frames = []
    for _ in range(100):
        frame = ONE.copy()
        frame[20:24, 28:36] = rng.integers(60, 160)
        frames.append(frame)

    assert find(frames) == []


def test_noise_of_a_camera_that_does_not_move_is_not_frozen() -> None:
    rng = np.random.default_rng(0)
    frames = [np.clip(ONE + rng.normal(0, 4, ONE.shape), 0, 255) for _ in range(100)]

    assert find([frame.astype(np.uint8) for frame in frames]) == []


def test_a_slow_dissolve_is_not_frozen() -> None:
    assert find(dissolve(ONE, TWO, 250)) == []


def test_a_frame_that_lasts_long_stands_still() -> None:
    found = find([ONE, TWO, ONE], pts=[0, 400, 5400], end=5800)

    assert found == [Run(kind="frozen", start_pts=400, end_pts=5400)]


@pytest.mark.parametrize("crf", [23, 34])
def test_a_still_that_was_compressed_is_frozen(tmp_path: Path, crf: int) -> None:
    path = make_video(
        tmp_path / "still.mp4", frames_per_shot=(100,), patterns=("smptehdbars",), sound=False,
        codec=("-c:v", "libx264", "-crf", str(crf), "-g", "25", "-pix_fmt", "yuv420p"),
    )  # fmt: skip
    with av.open(str(path)) as container:
        frames = [
            frame.reformat(64, 36, "bgr24", interpolation="AREA").to_ndarray()
            for frame in container.decode(video=0)
        ]

    assert spans(find(frames), "frozen") == [(0, 100)]


@pytest.mark.parametrize("seed", range(4))
def test_ranges_with_their_reach_give_what_the_whole_gives(seed: int) -> None:
    rng = random.Random(seed)
    frames: list[Frame] = []
    while len(frames) < 2500:
        kind = rng.choice(["black", "still", "moving"])
        count = rng.randrange(1, 150)
        still = picture(rng.randrange(1 << 30))
        frames += (
            moving(count) if kind == "moving" else [grey(0) if kind == "black" else still] * count
        )
    pts = np.cumsum([rng.choice([17, 33, 40]) for _ in frames]).tolist()
    end = pts[-1] + 40
    whole = find(frames, pts, end)
    reach = stretch_reach_ms()
    cut: list[Run] = []
    for low, high in pairwise([0, *sorted(rng.sample(range(pts[-1]), 6)), end]):
        inside = [n for n, at in enumerate(pts) if low - reach <= at < high + reach]
        stop = pts[inside[-1] + 1] if inside[-1] + 1 < len(pts) else end
        part = find([frames[n] for n in inside], [pts[n] for n in inside], stop)
        cut += [
            Run(kind=one.kind, start_pts=max(one.start_pts, low), end_pts=min(one.end_pts, high))
            for one in part
            if one.start_pts < high and one.end_pts > low
        ]

    assert len(whole) >= 10
    assert merged(cut) == whole


def test_an_hour_of_a_still_is_one_run_in_little_memory() -> None:
    finder = StretchFinder(time_base=Fraction(1, 25))
    for n in range(90_000):
        finder.push(n, ONE)
    assert len(finder._pts) < 200
    assert finder.finish(90_000) == [Run(kind="frozen", start_pts=0, end_pts=90_000)]
