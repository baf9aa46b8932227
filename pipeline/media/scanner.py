"""From decoded frames, in order of time, to pieces of shots with their proposed keyframes.

What is found at a time depends only on frames near to it: a video may be scanned in ranges, by
several workers, and give the same pieces as in one. Runs in the child only.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil, floor
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.errors import MediaLimitError
from pipeline.media import bounds
from pipeline.media.colour import Planes, to_bgr
from pipeline.media.decoding import PipedFrame
from pipeline.media.ffmpeg_command import VideoPlan
from pipeline.media.first_look import FirstLook
from pipeline.media.keyframes import Candidate, Choice, PieceChooser, judge
from pipeline.media.likeness import THUMBNAIL_SHAPE, shows_the_same
from pipeline.media.limits import MediaLimits
from pipeline.media.params import SplitParams
from pipeline.media.ranges import CELLS
from pipeline.media.shots import Boundary, Detector, Run, StretchFinder

#: A candidate is judged when boundaries so much later are known: half the longest transition, which
#: is a fade out, two seconds of black, and a fade in.
_AFTERMATH_MS = 1750
#: How long candidates wait beyond the reach of the detector.
WAITED_MS = _AFTERMATH_MS
#: Frames so near to a cut may be blended with those beyond it.
_NEAR_CUT_MS = 60
#: Of two pictures that show the same, the later one stands for both if it is so many times sharper:
#: a slow fade, or a lens that finds its focus.
_CLEARLY_SHARPER = 2.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Proposal:
    """A picture that may become a keyframe.

    ``jpeg``: its file, ``None`` where it shows the same as the proposal before it in its shot, no
    better.
    ``thumbnail``: uint8, grey, of the shape of likeness. ``worth``: the rank of the choice and its
    sharpness; larger is better.
    """

    pts: int
    width_px: int
    height_px: int
    worth: tuple[int, float]
    thumbnail: npt.NDArray[np.uint8]
    jpeg: str | None

    def shows_the_same(self, before: "Proposal", *, strictly: bool) -> bool:
        """See :func:`pipeline.media.likeness.shows_the_same`."""
        return shows_the_same(before.thumbnail, self.thumbnail, strictly=strictly)

    def is_better_than(self, before: "Proposal") -> bool:
        """Whether it should stand for both, where they show the same."""
        rank, sharpness = before.worth
        return self.worth[0] > rank or (
            self.worth[0] == rank and self.worth[1] > _CLEARLY_SHARPER * sharpness
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Piece:
    """A part of a shot, half-open. ``boundary``: that of the shot it begins, if it begins one.

    ``is_strict``: its proposal counts although it shows much the same as the one before it, unless
    it shows just the same.
    """

    start_pts: int
    end_pts: int
    boundary: Boundary | None
    is_strict: bool
    proposal: Proposal | None


class VideoScanner:
    """Takes frames; gives pieces as soon as they are certain. Memory does not grow with length.

    ``span``: milliseconds of the presentation between which frames count, on lines of the grid of
    pieces; ``None``: where the video begins, or ends.
    """

    def __init__(
        self,
        *,
        plan: VideoPlan,
        look: FirstLook,
        start: Fraction,
        params: SplitParams,
        limits: MediaLimits,
        detector: Detector,
        take: Callable[[Piece], None],
        span: tuple[int | None, int | None] = (None, None),
    ) -> None:
        self._plan = plan
        self._look = look
        self._start = start
        self._params = params
        self._limits = limits
        self._take = take
        self._first_pts, self._stop_pts = (
            None if edge is None else self._pts_of(Fraction(edge, 1000) + start) for edge in span
        )
        self._detector = detector
        self._stretches = StretchFinder(time_base=plan.time_base)
        self._runs: list[Run] = []
        longest = limits.max_duration_seconds + start
        self._longest_pts = floor(longest / plan.time_base)
        self._cell_ms = params.keyframe_every_ms // CELLS
        self._reach_pts = self._pts(detector.reach_ms)
        self._aftermath_pts = self._pts(_AFTERMATH_MS)
        self._near_cut_pts = self._pts(_NEAR_CUT_MS)
        self._boundaries: deque[Boundary] = deque()
        self._waiting: deque[Candidate] = deque()
        self._recent: deque[int] = deque()
        self._chooser = PieceChooser()
        self._newest_candidate: int | None = None
        #: The boundary before those that are waited for.
        self._passed: Boundary | None = None
        self._piece_start: int | None = None
        self._next_cell = 0
        self._next_line = 0
        #: The proposal before, of the same shot.
        self._before: Proposal | None = None
        self._jpeg_count = 0
        self._written_bytes = 0
        self._last_pts = 0
        self._last_step = 0
        self.frame_count = 0

    @property
    def runs(self) -> list[Run]:
        """Black and frozen stretches of the span, of any length; complete once it is finished."""
        first = self._first_pts
        stop = self._stop_pts
        clipped = (
            Run(
                kind=run.kind,
                start_pts=run.start_pts if first is None else max(run.start_pts, first),
                end_pts=run.end_pts if stop is None else min(run.end_pts, stop),
            )
            for run in self._runs
        )
        return [run for run in clipped if run.start_pts < run.end_pts]

    @property
    def is_done(self) -> bool:
        """Everything before the end of the span is certain."""
        return (
            self._stop_pts is not None
            and self._piece_start is not None
            and self._piece_start >= self._stop_pts
        )

    def push(self, frame: PipedFrame) -> None:
        """Take the next frame.

        Raises:
            MediaLimitError: it lies beyond the longest duration allowed, or is one too many.
            ResourceExhaustedError: keyframes fill more than may be written.
        """
        if isinstance(frame.picture, Planes):
            self._push_candidate(frame.pts, frame.picture)
        else:
            self._push_small(frame.pts, frame.picture)

    def finish(self, end_of: Callable[[int, int], int], frame_rate: float | None) -> int:
        """No more frames come. The end: what ``end_of`` makes of the PTS of the last frame and its
        distance to the one before it."""
        step = self._last_step
        if self.frame_count == 1:
            step = round(Fraction(1 / (frame_rate or 25)) / self._plan.time_base)
        end_pts = max(self._last_pts + 1, end_of(self._last_pts, max(1, step)))
        self._boundaries += self._detector.finish(end_pts)
        self._runs = self._stretches.finish(end_pts)
        self._advance(end_pts + self._aftermath_pts, end_pts)
        return end_pts

    def milliseconds(self, pts: int) -> int:
        """On the presentation's clock."""
        return max(0, round((pts * self._plan.time_base - self._start) * 1000))

    def _push_small(self, pts: int, pixels: npt.NDArray[np.uint8]) -> None:
        if self.frame_count:
            self._last_step = pts - self._last_pts
        if self._piece_start is None:
            self._begin(pts if self._first_pts is None else self._first_pts)
        self._last_pts = pts
        self.frame_count += 1
        if pts > self._longest_pts:
            raise MediaLimitError(
                f"the video lasts longer than the limit of {self._limits.max_duration_seconds} s; "
                "split it or raise max_duration_seconds"
            )
        if self.frame_count > self._limits.max_frames:
            raise MediaLimitError(
                f"the video holds more frames than the limit of {self._limits.max_frames}; split "
                "it or raise max_frames"
            )
        self._recent.append(pts)
        self._forget_recent(pts - self._reach_pts)
        self._boundaries += self._detector.push(pts, pixels)
        self._stretches.push(pts, pixels)
        if self._detector.told_to is not None:
            self._advance(self._detector.told_to, None)

    def _push_candidate(self, shown_at: int, planes: Planes) -> None:
        """Its own time is that of the frame that was shown then."""
        self._forget_recent(shown_at)
        if not self._recent:
            return
        newest, own = self._newest_candidate, self._recent[0]
        if newest is None or newest < own:
            self._newest_candidate = own
            self._waiting.append(judge(own, planes))

    def _forget_recent(self, pts: int) -> None:
        """Of the frames up to ``pts`` only the last is still shown."""
        while len(self._recent) > 1 and self._recent[1] <= pts:
            self._recent.popleft()

    def _begin(self, first_pts: int) -> None:
        self._piece_start = first_pts
        self._go_to_cell(self.milliseconds(first_pts) // self._cell_ms + 1)

    def _advance(self, horizon: int, end_pts: int | None) -> None:
        """Close every piece of which all is certain: boundaries before ``horizon`` are known."""
        certain = horizon - self._aftermath_pts
        while self._piece_start is not None and not self.is_done:
            if end_pts is not None and self._piece_start >= end_pts:
                return
            while self._boundaries and self._boundaries[0].pts < self._piece_start:
                self._passed = self._boundaries.popleft()
            own = self._boundaries[0] if self._starts_with_boundary(self._piece_start) else None
            later = list(self._boundaries)[1 if own else 0 :]
            grid_line = self._next_line
            edge = min(
                grid_line,
                later[0].pts if later else grid_line,
                grid_line if end_pts is None else end_pts,
            )
            self._feed(min(certain, edge))
            if edge > certain:
                return
            self._close_piece(self._piece_start, edge, own)
            self._piece_start = edge
            if edge == grid_line:
                self._go_to_cell(self._next_cell + 1)

    def _starts_with_boundary(self, pts: int) -> bool:
        return bool(self._boundaries) and self._boundaries[0].pts == pts

    def _feed(self, until: int) -> None:
        while self._waiting and self._waiting[0].pts < until:
            candidate = self._waiting.popleft()
            if candidate.pts >= (self._piece_start or 0):
                blended = self._is_in_transition(candidate.pts)
                self._chooser.add(candidate, in_transition=blended)

    def _is_in_transition(self, pts: int) -> bool:
        near = [] if self._passed is None else [self._passed]
        near += [b for b in self._boundaries if b.pts <= pts + self._aftermath_pts]
        margin = self._near_cut_pts
        return any(
            b.start_pts <= pts < b.end_pts
            if b.start_pts < b.end_pts
            else b.pts - margin <= pts < b.pts
            for b in near
        )

    def _close_piece(self, start_pts: int, end_pts: int, boundary: Boundary | None) -> None:
        if boundary is not None:
            self._before = None
            self._passed = self._boundaries.popleft()
        # The line that the piece begins after; it counts for pieces that begin on it only.
        is_strict = (self._next_cell - 1) % CELLS == 0
        choice = self._chooser.choose()
        self._chooser = PieceChooser()
        proposal = None if choice is None else self._propose(choice, is_strict=is_strict)
        self._take(
            Piece(
                start_pts=start_pts,
                end_pts=end_pts,
                boundary=boundary,
                is_strict=is_strict,
                proposal=proposal,
            )
        )

    def _propose(self, choice: Choice, *, is_strict: bool) -> Proposal:
        candidate = choice.candidate
        grey = candidate.planes.luma
        shape = THUMBNAIL_SHAPE[::-1]
        thumbnail = np.asarray(cv2.resize(grey, shape, interpolation=cv2.INTER_AREA), np.uint8)
        width, height = candidate.planes.width, candidate.planes.height
        if self._look.orientation.transpose:
            width, height = height, width
        proposal = Proposal(
            pts=candidate.pts,
            width_px=width,
            height_px=height,
            worth=(choice.rank, candidate.sharpness),
            thumbnail=thumbnail,
            jpeg=None,
        )
        before, self._before = self._before, proposal
        if (
            before is not None
            and proposal.shows_the_same(before, strictly=is_strict)
            and not proposal.is_better_than(before)
        ):
            return proposal
        return replace(proposal, jpeg=self._write_jpeg(candidate.planes))

    def _write_jpeg(self, planes: Planes) -> str:
        name = f"keyframe-{self._jpeg_count:06d}.jpg"
        self._jpeg_count += 1
        quality = [cv2.IMWRITE_JPEG_QUALITY, self._params.jpeg_quality]
        _, jpeg = cv2.imencode(".jpg", to_bgr(planes, self._look), quality)
        self._written_bytes += jpeg.size
        if self._written_bytes > self._limits.output_bytes:
            raise bounds.too_many_bytes(self._limits)
        if self._jpeg_count > self._limits.max_output_files:
            raise bounds.too_many_files(self._limits)
        Path(name).write_bytes(jpeg.tobytes())
        return name

    def _go_to_cell(self, cell: int) -> None:
        self._next_cell = cell
        self._next_line = self._pts_of(Fraction(cell * self._cell_ms, 1000) + self._start)

    def _pts(self, milliseconds: int) -> int:
        return self._pts_of(Fraction(milliseconds, 1000))

    def _pts_of(self, seconds: Fraction) -> int:
        """The first PTS that is not before."""
        return ceil(seconds / self._plan.time_base)
