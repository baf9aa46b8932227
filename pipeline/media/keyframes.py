"""Choosing the frame that stands for a shot, among candidates that arrive in order."""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

_Pixels = npt.NDArray[np.uint8]
#: Candidates kept for one shot; they are full size, so few.
_MAX_CANDIDATES = 8
#: The newest ones may belong to the next shot, whose cut is not certain yet.
_NEWEST_KEPT = 2
#: Sharpness is judged on pictures brought to this width, so that it compares.
_JUDGED_WIDTH = 320
#: A picture whose grey levels deviate less than this is empty: black, white, one colour.
_EMPTY_DEVIATION = 6.0
#: "Near the middle" is the middle half.
_MIDDLE = 0.25


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A frame that may become a keyframe; ``pixels``: uint8, HWC, BGR."""

    pts: int
    pixels: _Pixels


class KeyframePicker:
    """Keeps a bounded, evenly spread choice of candidates of the shot that is still open."""

    def __init__(self) -> None:
        self._candidates: list[Candidate] = []

    def add(self, candidate: Candidate) -> None:
        """Take the next candidate, in order of PTS."""
        self._candidates.append(candidate)
        if len(self._candidates) > _MAX_CANDIDATES:
            times = [c.pts for c in self._candidates]
            inner = range(1, len(times) - _NEWEST_KEPT)
            del self._candidates[min(inner, key=lambda at: times[at + 1] - times[at - 1])]

    def close_shot(self, start_pts: int, end_pts: int) -> Candidate | None:
        """The keyframe of ``[start_pts, end_pts)``, or ``None`` where no candidate fell into it.

        Forgets everything before ``end_pts``.
        """
        inside = [c for c in self._candidates if start_pts <= c.pts < end_pts]
        self._candidates = [c for c in self._candidates if c.pts >= end_pts]
        return choose(inside, start_pts, end_pts)


def choose(candidates: list[Candidate], start_pts: int, end_pts: int) -> Candidate | None:
    """The sharpest near the middle that is not empty; else the one nearest to the middle that is
    not empty; else the one nearest to the middle."""
    middle = (start_pts + end_pts) / 2
    reach = (end_pts - start_pts) * _MIDDLE
    by_distance = sorted(candidates, key=lambda c: abs(c.pts - middle))
    near = {c.pts: _sharpness(c) for c in by_distance if abs(c.pts - middle) <= reach}
    sharp = [c for c in by_distance if near.get(c.pts) is not None]
    if sharp:
        return max(sharp, key=lambda c: near[c.pts] or 0.0)
    filled = (c for c in by_distance if c.pts not in near and _sharpness(c) is not None)
    return next(filled, by_distance[0] if by_distance else None)


def _sharpness(candidate: Candidate) -> float | None:
    """Variance of the Laplacian; ``None`` for an empty picture."""
    grey = cv2.cvtColor(candidate.pixels, cv2.COLOR_BGR2GRAY)
    height, width = grey.shape
    if width > _JUDGED_WIDTH:
        size = (_JUDGED_WIDTH, max(1, round(height * _JUDGED_WIDTH / width)))
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    if float(np.std(grey)) < _EMPTY_DEVIATION:
        return None
    return float(cv2.Laplacian(grey, cv2.CV_32F).var())
