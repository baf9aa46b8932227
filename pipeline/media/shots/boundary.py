"""What detectors of shots say."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True, kw_only=True)
class Boundary:
    """Where one shot ends and the next begins. Times are PTS of the video stream.

    ``pts``: the first frame of the new shot; of a gradual transition the frame nearest to its
    middle. ``start_pts`` and ``end_pts``: the first mixed frame, and the first of the new shot
    alone; both are ``pts`` for a cut. ``score``: how different the pictures on its sides are, in
    the detector's own measure; comparable within one detector only.
    """

    pts: int
    kind: Literal["cut", "dissolve", "fade"]
    start_pts: int
    end_pts: int
    score: float


class Detector(Protocol):
    """Finds where shots begin, in a stream of small frames."""

    @property
    def reach_ms(self) -> int:
        """Frames further away than this from a boundary have no influence on whether and how it
        is found."""

    @property
    def told_to(self) -> int | None:
        """All boundaries before this PTS have been given; ``None`` before there is one."""

    def push(self, pts: int, frame: npt.NDArray[np.uint8]) -> list[Boundary]:
        """Take the next frame (uint8, HWC, BGR; PTS rising); boundaries that became certain."""

    def finish(self, end_pts: int) -> list[Boundary]:
        """The video is over at ``end_pts``: the last boundaries."""


def strongest(boundaries: Iterable[Boundary], min_shot: int) -> list[Boundary]:
    """Those that no stronger one within the shortest shot (PTS) beats, in order of time; of equals
    the earlier. It matters only what is near, so a range of a video keeps what the whole does."""
    ordered = sorted(boundaries, key=lambda one: one.pts)
    times = [one.pts for one in ordered]
    kept = []
    for place, one in enumerate(ordered):
        first, end = bisect_right(times, one.pts - min_shot), bisect_left(times, one.pts + min_shot)
        beaten = any(other.score >= one.score for other in ordered[first:place])
        if not beaten and all(other.score <= one.score for other in ordered[place + 1 : end]):
            kept.append(one)
    return kept
