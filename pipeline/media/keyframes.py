"""Choosing the frame that stands for a piece of a shot, among candidates that arrive in order.

A piece is what two neighbouring edges enclose, an edge being the begin of a shot or a line of a
fixed grid of time. A choice depends on the piece alone, so that ranges of a video that are worked
on apart choose like the whole.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.media.colour import Planes

#: The best ones so far are kept with their pixels.
_KEPT = 4
#: Pictures are judged at this to twice this height, all of a video at the same.
_JUDGED_HEIGHT = 180
#: A picture whose grey levels deviate less than this is empty: black, white, one colour.
_EMPTY_DEVIATION = 6.0
#: Width and height of the pictures whose mean tells what is typical.
_TYPICAL_SIZE = (16, 9)
#: A picture that differs from the mean by this many grey levels counts half.
_HALF_AT = 12.0


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A frame that may become a keyframe, judged when it came.

    ``sharpness``: mean square of the Laplacian. ``small``: uint8, grey, 9 × 16.
    """

    pts: int
    planes: Planes
    sharpness: float
    is_empty: bool
    small: npt.NDArray[np.uint8]


def judge(pts: int, planes: Planes) -> Candidate:
    grey = planes.luma
    while grey.shape[0] >= 2 * _JUDGED_HEIGHT and grey.shape[1] > 1:
        # Halves are by far the cheapest: OpenCV has code of its own for them.
        half = (grey.shape[1] // 2, grey.shape[0] // 2)
        grey = np.asarray(cv2.resize(grey, half, interpolation=cv2.INTER_AREA), np.uint8)
    edges = cv2.Laplacian(grey, cv2.CV_16S)
    return Candidate(
        pts,
        planes,
        sharpness=float(cv2.norm(edges, cv2.NORM_L2SQR)) / edges.size,
        is_empty=float(cv2.meanStdDev(grey)[1][0, 0]) < _EMPTY_DEVIATION,
        small=np.asarray(cv2.resize(grey, _TYPICAL_SIZE, interpolation=cv2.INTER_AREA), np.uint8),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """``rank`` 2: a good picture, 1: in the middle of a transition, 0: empty."""

    candidate: Candidate
    rank: int


class PieceChooser:
    """The sharpest and most typical picture; an empty one, or one of a transition, only where
    there is no other."""

    def __init__(self) -> None:
        self._best: list[Choice] = []
        self._sum = np.zeros(_TYPICAL_SIZE[::-1], np.int64)
        self._count = 0

    def add(self, candidate: Candidate, *, in_transition: bool) -> None:
        """Take the next candidate, in order of PTS."""
        rank = 0 if candidate.is_empty else 1 if in_transition else 2
        self._best.append(Choice(candidate, rank))
        self._best.sort(key=lambda c: (-c.rank, -c.candidate.sharpness, c.candidate.pts))
        del self._best[_KEPT:]
        if rank == 2:
            self._sum += candidate.small
            self._count += 1

    def choose(self) -> Choice | None:
        """``None`` where there was no candidate."""
        if not self._best:
            return None
        first = self._best[0]
        if not self._count:
            return first
        mean = self._sum / self._count
        equals = [choice for choice in self._best if choice.rank == first.rank]
        return max(equals, key=lambda choice: _worth(choice.candidate, mean))


def _worth(candidate: Candidate, mean: npt.NDArray[np.float64]) -> float:
    distance = float(np.abs(candidate.small - mean).mean())
    return candidate.sharpness * float(0.5 ** (distance / _HALF_AT))
