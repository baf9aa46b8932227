"""Where the picture is black or stands still."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.media.shots.fades import runs
from pipeline.media.shots.grids import Floats, Grids, Ints, mean_difference
from pipeline.media.shots.window import GridMaker, Pixels

#: A colour of a cell is lit above this level: 10 %, as ffmpeg's blackdetect has it.
_BLACK_LEVEL = 25
#: In a black picture at most so many are: room for a logo.
_LIT_SHARE = 0.05
#: A picture stands still while it differs from that of a second ago, and each frame from the one
#: before it, by at most this in the mean and in any colour of a cell (0-255): a codec may refresh
#: what it shows. But most of its frames are the one before, but for a trifle: a camera has noise,
#: and a pan, however slow, moves on.
_STILL_MEAN = 1.2
_STILL_CELL = 10
_TRIFLE = 0.05
_MOST_OTHERS = 0.15
_STILL_MS = 1000
#: Frames kept at most: with more than this in a second nothing is frozen.
_MOST_FRAMES = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A span ``[start_pts, end_pts)`` in which the picture is black, or stands still."""

    kind: Literal["black", "frozen"]
    start_pts: int
    end_pts: int


def stretch_reach_ms() -> int:
    """Frames further away than this from an instant have no influence on whether it is in a run,
    as long as frames follow each other within a second."""
    return 2 * _STILL_MS


def merged(found: Iterable[Run]) -> list[Run]:
    """In order of time, with those of a kind that touch or overlap as one.

    Cut the runs of each range of a video to that range, and merge all: these are the runs of the
    whole video, if each range was seen with :func:`stretch_reach_ms` on both sides.
    """
    whole: list[Run] = []
    for run in sorted(found, key=lambda one: (one.kind, one.start_pts)):
        before = whole[-1] if whole else None
        if before and before.kind == run.kind and run.start_pts <= before.end_pts:
            whole[-1] = replace(before, end_pts=max(before.end_pts, run.end_pts))
        else:
            whole.append(run)
    return sorted(whole, key=lambda one: (one.start_pts, one.kind))


class StretchFinder:
    """Finds runs of black frames, of any length, and of frozen ones, of a second or longer.

    What is black is not told as frozen too. Memory: a second of grids, and the runs.
    """

    def __init__(self, *, time_base: Fraction) -> None:
        self._span = max(1, round(Fraction(_STILL_MS, 1000) / time_base))
        self._maker = GridMaker()
        self._new_pts: list[int] = []
        self._pts: Ints = np.zeros(0, np.int64)
        self._grids: Grids | None = None
        #: Of the frames kept: those already judged.
        self._judged = 0
        self._runs: list[Run] = []

    def push(self, pts: int, frame: Pixels) -> None:
        """Take the next frame (uint8, HWC, BGR; PTS rising).

        Raises:
            ContractError: the frame is of another kind or shape than the first one.
        """
        grids = self._maker.add(frame)
        self._new_pts.append(pts)
        if grids is not None:
            self._keep(grids)
            # When the last frame ends, the next one tells.
            self._judge(self._pts[1:])

    def finish(self, end_pts: int) -> list[Run]:
        """The video is over at ``end_pts``: all runs, in order of time."""
        grids = self._maker.flush()
        if len(grids):
            self._keep(grids)
        self._judge(np.append(self._pts[1:], end_pts)[: len(self._pts)])
        return merged(self._runs)

    def _keep(self, grids: Grids) -> None:
        new = np.array(self._new_pts, np.int64)
        self._new_pts = []
        if self._grids is None:
            self._pts, self._grids = new, grids
            return
        # Of what was judged, only the second before the next frame still matters.
        first_new = self._pts[self._judged] if self._judged < len(self._pts) else new[0]
        ago = int(np.searchsorted(self._pts, first_new - self._span, side="right")) - 1
        gone = max(0, ago, len(self._pts) - _MOST_FRAMES)
        self._pts = np.concatenate([self._pts[gone:], new])
        self._grids = np.concatenate([self._grids[gone:], grids])
        self._judged = max(0, self._judged - gone)

    def _judge(self, ends: Ints) -> None:
        """Judge all frames kept whose end is known."""
        first, self._judged = self._judged, len(ends)
        if self._grids is None or first >= len(ends):
            return
        pts = self._pts
        now = np.arange(first, len(ends))
        is_black = _is_black(self._grids[now])
        ago = np.searchsorted(pts, pts[now] - self._span, side="right") - 1
        mean, cell = _changes(self._grids[1:], self._grids[:-1])
        # These count up at every frame that differs from the one before it, much or at all.
        jumps = np.cumsum(np.append(False, (mean > _STILL_MEAN) | (cell > _STILL_CELL)))
        others = np.cumsum(np.append(False, mean > _TRIFLE))
        mean, cell = _changes(self._grids[now], self._grids[ago])
        is_still = ~is_black & (ago >= 0) & (mean <= _STILL_MEAN) & (cell <= _STILL_CELL)
        is_still &= jumps[now] == jumps[ago]
        is_still &= others[now] - others[ago] <= _MOST_OTHERS * (now - ago)
        for low, high in runs(is_black):
            self._add("black", pts[now[low]], ends[now[high - 1]])
        for low, high in runs(is_still):
            self._add("frozen", pts[ago[low]], ends[now[high - 1]])
        for one in now[~is_black & (ends[now] - pts[now] >= self._span)]:
            self._add("frozen", pts[one], ends[one])

    def _add(self, kind: Literal["black", "frozen"], start: np.int64, end: np.int64) -> None:
        run = Run(kind=kind, start_pts=int(start), end_pts=int(end))
        self._runs[-2:] = merged([*self._runs[-2:], run])


def _is_black(grids: Grids) -> npt.NDArray[np.bool_]:
    _, lit = cv2.threshold(grids, _BLACK_LEVEL, 1, cv2.THRESH_BINARY)
    count = cv2.reduce(lit, 1, cv2.REDUCE_SUM, dtype=cv2.CV_32S)[:, 0]
    return np.asarray(count <= _LIT_SHARE * grids.shape[1], np.bool_)


def _changes(one: Grids, other: Grids) -> tuple[Floats, Ints]:
    """Mean and largest difference of each row."""
    if len(one) == 0:
        return np.zeros(0), np.zeros(0, np.int64)
    largest = cv2.reduce(cv2.absdiff(one, other), 1, cv2.REDUCE_MAX)[:, 0]
    return mean_difference(one, other), np.asarray(largest, np.int64)
