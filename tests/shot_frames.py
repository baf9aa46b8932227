"""Small frames as ffmpeg sends them (uint8, 36×64, BGR), made of smooth random pictures."""

from collections.abc import Sequence
from fractions import Fraction

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.media.params import SplitParams
from pipeline.media.shots import Boundary, ContentDetector

Frame = npt.NDArray[np.uint8]
#: PTS are milliseconds here.
TIME_BASE = Fraction(1, 1000)
STEP = 40


def picture(seed: int, *, width: int = 64, height: int = 36) -> Frame:
    """Blots of colour, unlike those of another seed."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (max(2, height // 6), max(2, width // 6), 3), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def grey(level: int) -> Frame:
    return np.full((36, 64, 3), level, np.uint8)


def mixed(one: Frame, other: Frame, share: float) -> Frame:
    return np.asarray(cv2.addWeighted(one, 1 - share, other, share, 0), np.uint8)


def dissolve(one: Frame, other: Frame, count: int) -> list[Frame]:
    """The mixed frames between two stills."""
    return [mixed(one, other, (n + 1) / (count + 1)) for n in range(count)]


def boundaries(
    frames: Sequence[Frame], *, step: int = STEP, pts: Sequence[int] = (), **params: float
) -> list[Boundary]:
    """What the content detector finds; frame ``n`` is at ``n * step`` unless ``pts`` are given."""
    times = list(pts) or [n * step for n in range(len(frames))]
    detector = ContentDetector(time_base=TIME_BASE, params=SplitParams(**params))
    found = [
        one for at, frame in zip(times, frames, strict=True) for one in detector.push(at, frame)
    ]
    return found + detector.finish((times[-1] if times else 0) + step)


def places(found: Sequence[Boundary]) -> list[tuple[str, int]]:
    """Kind and frame number."""
    return [(one.kind, one.pts // STEP) for one in found]
