"""Finding shots by TransNetV2's probabilities; the model itself is the caller's."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from fractions import Fraction
from typing import Literal, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.media.params import SplitParams
from pipeline.media.shots.boundary import Boundary, strongest
from pipeline.media.shots.fades import FLAT, runs
from pipeline.media.shots.grids import Ints, contrast, highest
from pipeline.media.shots.window import Pixels

#: uint8 ``(n, 100, 27, 48, 3)`` RGB windows to float32 ``(n, 100, 2)`` probabilities, see
#: :class:`pipeline.models.base.ShotModel`.
Scorer: TypeAlias = Callable[[Pixels], npt.NDArray[np.float32]]

_SIZE = (48, 27)
_WINDOW = 100
#: Of a window only what is in the middle is taken, the rest gives context.
_CONTEXT = 25
_TAKEN = 50
#: A boundary is a peak of at least this probability, as in the model's own evaluation.
_THRESHOLD = 0.5
#: What the model gives for a frame depends a little on where its window begins. So windows begin
#: anew at every multiple of this time, wherever the decoding began.
_CELL_MS = 8000
#: Context further away than this is replaced by the nearest that is not.
_CONTEXT_MS = 2500
#: The longest transition.
_LONGEST_MS = 2000
#: Cells of more frames than this end early.
_MOST_FRAMES = 2048
#: A transition of more mixed frames than this is gradual; encoders blend one or two into cuts.
_CUT_FRAMES = 2


def transnet_reach_ms(params: SplitParams) -> int:
    """Frames further away than this from a boundary have no influence on whether and how it is
    found: a video may be split in ranges that overlap by this on both sides."""
    return _CELL_MS + _CONTEXT_MS + 2 * _LONGEST_MS + 2 * params.min_shot_ms


def transnet_delay_ms(params: SplitParams) -> int:
    """How long after a boundary it is told at most, where frames follow each other quickly."""
    return transnet_reach_ms(params) + _CELL_MS


class TransNetDetector:
    """Hard cuts and gradual transitions, wherever TransNetV2 sees one.

    Memory is bounded: tiny frames (4 KB) of some 16 seconds.
    """

    def __init__(self, *, time_base: Fraction, params: SplitParams, score: Scorer) -> None:
        def pts(milliseconds: int) -> int:
            return max(1, round(Fraction(milliseconds, 1000) / time_base))

        self.reach_ms = transnet_reach_ms(params)
        self.told_to: int | None = None
        self._score = score
        self._cell = pts(_CELL_MS)
        self._context = pts(_CONTEXT_MS)
        self._longest = pts(_LONGEST_MS)
        self._min_shot = pts(params.min_shot_ms)
        self._frames: list[Pixels] = []
        self._pts: list[int] = []
        #: Probabilities of the first of these frames; the others wait for their cell to be over.
        self._known: npt.NDArray[np.float32] = np.zeros((0, 2), np.float32)
        self._first_pts: int | None = None
        self._told_to = 0

    def push(self, pts: int, frame: Pixels) -> list[Boundary]:
        """Take the next frame (uint8, HWC, BGR, any size; PTS rising); boundaries that became
        certain. Scores as soon as all context is there, so it may take long."""
        if self._first_pts is None:
            self._first_pts = self._told_to = pts
        small = cv2.resize(frame, _SIZE, interpolation=cv2.INTER_AREA)
        self._frames.append(np.asarray(small[..., ::-1], np.uint8))
        self._pts.append(pts)
        begin = len(self._known)
        end = self._cell_end(begin)
        if end is None:
            return []
        if len(self._pts) - end < _WINDOW and pts - self._pts[end] <= self._context:
            return []
        self._score_cell(begin, end)
        return self._tell(self._pts[end] - self._longest - self._min_shot)

    def finish(self, end_pts: int) -> list[Boundary]:
        """The video is over at ``end_pts``: the last boundaries."""
        if not self._pts:
            return []
        while (begin := len(self._known)) < len(self._pts):
            self._score_cell(begin, self._cell_end(begin) or len(self._pts))
        return [one for one in self._tell(end_pts) if end_pts - one.pts >= self._min_shot]

    def _cell_end(self, begin: int) -> int | None:
        """Index of the first frame of the next cell, if it is there."""
        if begin >= len(self._pts):
            return None
        next_cell = (self._pts[begin] // self._cell + 1) * self._cell
        if self._pts[-1] >= next_cell:
            end = bisect_left(self._pts, next_cell)
            return min(end, begin + _MOST_FRAMES)
        return begin + _MOST_FRAMES if len(self._pts) - begin > _MOST_FRAMES else None

    def _score_cell(self, begin: int, end: int) -> None:
        blocks = [(at, min(at + _TAKEN, end)) for at in range(begin, end, _TAKEN)]
        windows = np.stack([self._window(*block) for block in blocks])
        scores = self._score(windows)
        taken = [
            score[_CONTEXT : _CONTEXT + stop - start]
            for score, (start, stop) in zip(scores, blocks, strict=True)
        ]
        self._known = np.concatenate([self._known, *taken])

    def _window(self, start: int, stop: int) -> Pixels:
        """A block with its context; where there is none near enough, the nearest is repeated."""
        first = bisect_left(self._pts, self._pts[start] - self._context)
        last = bisect_right(self._pts, self._pts[stop - 1] + self._context)
        places = np.arange(start - _CONTEXT, start - _CONTEXT + _WINDOW).clip(first, last - 1)
        return np.stack([self._frames[place] for place in places])

    def _tell(self, certain: int) -> list[Boundary]:
        """Boundaries up to ``certain`` (PTS); forgets frames that no longer matter."""
        since, self._told_to = self._told_to, max(self._told_to, certain)
        self.told_to = self._told_to
        since = max(since, (self._first_pts or 0) + self._min_shot)
        found = [
            one
            for one in strongest(self._boundaries(), self._min_shot)
            if since <= one.pts < self._told_to
        ]
        needed = self._told_to - self._longest - self._min_shot
        known_pts = self._pts[len(self._known) - 1] - self._context
        gone = bisect_left(self._pts, min(needed, known_pts))
        del self._frames[:gone], self._pts[:gone]
        self._known = self._known[gone:]
        return found

    def _boundaries(self) -> list[Boundary]:
        pts = np.array(self._pts[: len(self._known)], np.int64)
        scores = np.asarray(self._known[:, 0], np.float64)
        found = []
        for first, end in runs(scores > _THRESHOLD):
            # One peak, but for those of stretches longer than any transition.
            at = np.arange(first, end)
            low = np.searchsorted(pts, pts[at] - self._longest // 2).clip(first)
            high = np.searchsorted(pts, pts[at] + self._longest // 2, side="right").clip(max=end)
            is_peak = (highest(scores, low, at) < scores[at]) & (
                highest(scores, at + 1, high) <= scores[at]
            )
            found += [self._boundary(pts, int(peak)) for peak in at[is_peak]]
        return found

    def _boundary(self, pts: Ints, peak: int) -> Boundary:
        """Of a peak: the last frame of the old shot, or the middle of a gradual transition."""
        low = int(np.searchsorted(pts, pts[peak] - self._longest // 2))
        high = int(np.searchsorted(pts, pts[peak] + self._longest // 2, side="right"))
        is_mixed = self._known[low:high, 1] > _THRESHOLD
        # The stretch of mixed frames around the peak.
        start = peak - int(np.argmin(np.append(is_mixed[: peak - low][::-1], False)))
        end = peak + 1 + int(np.argmin(np.append(is_mixed[peak - low + 1 :], False)))
        end = min(end, len(pts) - 1)
        kind: Literal["cut", "dissolve", "fade"] = "cut"
        at = begins = ends = min(peak + 1, len(pts) - 1)
        if end - start > _CUT_FRAMES:
            at, begins, ends = peak, start, end
            grid = np.ascontiguousarray(self._frames[peak]).reshape(1, -1)
            kind = "fade" if contrast(grid)[0] <= FLAT else "dissolve"
        return Boundary(
            pts=int(pts[at]),
            kind=kind,
            start_pts=int(pts[begins]),
            end_pts=int(pts[ends]),
            score=float(self._known[peak, 0]),
        )
