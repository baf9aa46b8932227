"""A range of a video, seen with its reach on both sides, has the boundaries of the whole."""

import random
from itertools import pairwise

import numpy as np
import pytest
from shot_frames import TIME_BASE, Frame, dissolve, grey, mixed, picture

from pipeline.media.params import SplitParams
from pipeline.media.shots import Boundary, ContentDetector, reach_ms

PARAMS = SplitParams()


def long_video(rng: random.Random) -> list[tuple[int, Frame]]:
    """Two minutes of stills, pans, every transition and flashes, at a variable frame rate."""
    frames: list[Frame] = []
    step = rng.choice([17, 33, 40])
    while len(frames) * step < 120_000:
        wide = picture(rng.randrange(1 << 30), width=200)
        speed = rng.choice([0, 0, 0, 2])
        count = rng.randrange(3, 4000 // step)
        shot = [wide[:, x : x + 64] for x in (abs(speed * n % 250 - 125) for n in range(count))]
        kind = rng.choice(["cut", "dissolve", "dissolve", "fade", "flash", "black"])
        last, first = (frames[-1] if frames else shot[0]), shot[0]
        if kind == "dissolve":
            frames += dissolve(last, first, rng.randrange(3, 40))
        elif kind == "fade":
            frames += dissolve(last, grey(0), rng.randrange(1, 20))
            frames += dissolve(grey(0), first, rng.randrange(1, 20))
        elif kind == "black":
            frames += [grey(0)] * rng.randrange(1, rng.choice([4000, 20_000]) // step)
        elif kind == "flash" and len(shot) > 10:
            shot[5] = mixed(shot[5], grey(255), 0.9)
        frames += shot
    pts = np.cumsum([rng.choice([step, step, step + 7]) for _ in frames]).tolist()
    return list(zip(pts, frames, strict=True))


def find(video: list[tuple[int, Frame]]) -> list[Boundary]:
    detector = ContentDetector(time_base=TIME_BASE, params=PARAMS)
    found = [one for pts, frame in video for one in detector.push(pts, frame)]
    return found + detector.finish(video[-1][0] + 40)


@pytest.mark.parametrize("seed", range(8))
def test_ranges_with_their_reach_give_what_the_whole_gives(seed: int) -> None:
    rng = random.Random(seed)
    video = long_video(rng)
    reach = reach_ms(PARAMS)
    whole = find(video)
    edges = sorted(rng.sample(range(video[-1][0]), 6))

    assert len(whole) > 10
    assert {one.kind for one in whole} == {"cut", "dissolve", "fade"}
    for start, end in pairwise([0, *edges, video[-1][0] + 1]):
        seen = [(pts, frame) for pts, frame in video if start - reach <= pts < end + reach]
        in_range = [one for one in find(seen) if start <= one.pts < end]
        assert in_range == [one for one in whole if start <= one.pts < end]
