"""Finding shots by what the small frames show, without a model."""

from fractions import Fraction
from typing import Literal

import numpy as np
import numpy.typing as npt

from pipeline.media.params import SplitParams
from pipeline.media.shots.boundary import Boundary, strongest
from pipeline.media.shots.cuts import CutRules, find_cuts
from pipeline.media.shots.fades import FLAT, find_fades
from pipeline.media.shots.gradual import LENGTHS_MS, find_gradual
from pipeline.media.shots.grids import Grids, Ints
from pipeline.media.shots.window import GridMaker, Pixels, Window

#: What moves so near to a change is compared with it.
_AROUND_MS = 200
#: A picture that is back after this long was interrupted, by a flash for example.
_INTERRUPTION_MS = 400
#: A picture that does not move for so long stands still, as slides do.
_STILL_MS = 500
#: Longer black is no transition, but the end of the shot before it.
_LONGEST_GAP_MS = 2000
#: How far from black the picture that fades is looked for.
_LOOK_MS = 600
#: See :func:`reach_ms`; the longest way is that of gradual transitions: half of one, another one
#: that overlaps it, its surroundings, a cut in these.
_REACH_MS = 4000
#: Frames that come slowly do not wait until there are enough to be reduced at once.
_FLUSH_MS = 1500
#: Judged at once; longer saves work done twice at the borders, and costs delay and memory.
_BLOCK_MS = 12_000
#: Frames before a change that it is compared with, whenever they were shown.
_ALWAYS_KEPT = 3
#: Frames kept at most. Beyond some 800 frames a second boundaries are judged by what is kept.
_MOST_FRAMES = 16_384


def reach_ms(params: SplitParams) -> int:
    """Frames further away than this from a boundary have no influence on whether and how it is
    found: a video may be split in ranges that overlap by this on both sides."""
    return _REACH_MS + 2 * params.min_shot_ms


def delay_ms(params: SplitParams) -> int:
    """How long after a boundary it is told at most, where frames follow each other quickly."""
    return reach_ms(params) + _BLOCK_MS + _FLUSH_MS


class ContentDetector:
    """Hard cuts, dissolves, wipes and fades; not flashes, motion of camera or things, or light.

    Memory is bounded: coarse grids (432 bytes at 16:9) of some 20 seconds.
    """

    def __init__(self, *, time_base: Fraction, params: SplitParams) -> None:
        def pts(milliseconds: int) -> int:
            return max(1, round(Fraction(milliseconds, 1000) / time_base))

        self.reach_ms = reach_ms(params)
        self.told_to: int | None = None
        self._rules = CutRules(
            threshold=params.cut_threshold,
            ratio=params.cut_ratio,
            around=pts(min(_AROUND_MS, params.min_shot_ms)),
            interruption=pts(_INTERRUPTION_MS),
            still=pts(_STILL_MS),
        )
        self._min_shot = pts(params.min_shot_ms)
        self._lengths = tuple(pts(length) for length in LENGTHS_MS)
        self._look = pts(_LOOK_MS)
        self._longest_gap = pts(_LONGEST_GAP_MS)
        self._reach = pts(reach_ms(params))
        self._block = pts(_BLOCK_MS)
        self._flush = pts(_FLUSH_MS)
        self._maker = GridMaker()
        self._new_pts: list[int] = []
        self._parts: list[Window] = []
        self._kept = 0
        self._first_pts = 0
        self._judged_to = 0

    def push(self, pts: int, frame: Pixels) -> list[Boundary]:
        """Take the next frame (uint8, HWC, BGR; PTS rising); boundaries that became certain.

        Raises:
            ContractError: the frame is of another kind or shape than the first one.
        """
        grids = self._maker.add(frame)
        self._new_pts.append(pts)
        if grids is None:
            if pts - self._new_pts[0] < self._flush:
                return []
            grids = self._maker.flush()
        self._keep(grids)
        certain = pts - self._reach
        if self._kept <= _MOST_FRAMES and certain - self._judged_to < self._block:
            return []
        window = Window.joined(self._parts)
        # However long ago the frames before were shown: slides change after many seconds.
        passed = int(np.searchsorted(window.pts, certain - self._reach))
        passed = max(0, passed - _ALWAYS_KEPT)
        if self._kept > _MOST_FRAMES:
            certain = max(certain, int(window.pts[len(window) // 2]))
            passed = max(passed, len(window) // 4)
        found = self._judge(window, certain)
        self._parts = [window.without(passed)]
        self._kept = len(window) - passed
        return found

    def finish(self, end_pts: int) -> list[Boundary]:
        """The video is over at ``end_pts``: the last boundaries."""
        self._keep(self._maker.flush())
        if self._kept == 0:
            return []
        return [
            boundary
            for boundary in self._judge(Window.joined(self._parts), end_pts)
            if end_pts - boundary.pts >= self._min_shot
        ]

    def _keep(self, grids: Grids) -> None:
        if len(grids) == 0:
            return
        if not self._parts:
            self._first_pts = self._judged_to = self._new_pts[0]
        before = self._parts[-1].grids[-1:] if self._parts else None
        self._parts.append(Window.of(self._new_pts, grids, self._maker.rows, before))
        self._kept += len(grids)
        self._new_pts = []

    def _judge(self, window: Window, certain: int) -> list[Boundary]:
        """Boundaries from where the last call ended up to ``certain``, both PTS."""
        since, self._judged_to = self._judged_to, certain
        self.told_to = certain
        since = max(since, self._first_pts + self._min_shot)
        boundaries = strongest(self._boundaries(window), self._min_shot)
        return [boundary for boundary in boundaries if since <= boundary.pts < certain]

    def _boundaries(self, window: Window) -> list[Boundary]:
        fades, is_taken, is_fading = find_fades(window, look=self._look, longest=self._longest_gap)
        cuts = find_cuts(window, is_taken, self._rules)
        is_closed = _closed(window, cuts) | is_fading
        gradual = find_gradual(window, is_closed, self._lengths, self._rules)
        pts, steps = window.pts, window.steps
        found = [_boundary(pts, "cut", at, at, at, float(steps[at])) for at in cuts]
        fades = [fade for fade in fades if fade.score >= self._rules.threshold]
        found += [_boundary(pts, f.kind, f.start, f.middle, f.end, f.score) for f in fades]
        return found + [
            _boundary(pts, "dissolve", one.start, one.middle, one.end, one.score) for one in gradual
        ]


def _closed(window: Window, cuts: list[int]) -> npt.NDArray[np.bool_]:
    """Frames that no gradual transition may hold: cuts, and what is flat or beside it."""
    is_flat = window.contrasts <= FLAT
    is_closed = is_flat.copy()
    is_closed[1:] |= is_flat[:-1]
    is_closed[:-1] |= is_flat[1:]
    is_closed[cuts] = True
    return is_closed


def _boundary(
    pts: Ints, kind: Literal["cut", "dissolve", "fade"], start: int, at: int, end: int, score: float
) -> Boundary:
    return Boundary(
        pts=int(pts[at]), kind=kind, start_pts=int(pts[start]), end_pts=int(pts[end]), score=score
    )
