"""From pieces, in order of time, to shots with their keyframes. Runs in the child only."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

from pipeline.media.likeness import DistinctPictures
from pipeline.media.scanner import Piece, Proposal
from pipeline.media.shots import Run, merged


class Assembler:
    """Takes the pieces of a whole video, from one scan or from those of its ranges."""

    def __init__(self, *, time_base: Fraction, start: Fraction, is_exact: bool) -> None:
        self._time_base = time_base
        self._start = start
        self._is_exact = is_exact
        self._shots: list[dict[str, Any]] = []
        self._keyframes: list[dict[str, Any]] = []
        self._pictures = DistinctPictures()
        self._proposals: list[Proposal] = []
        self._before: Proposal | None = None
        self._shots_without = 0

    @property
    def keyframes(self) -> list[dict[str, Any]]:
        """The fields of keyframes, by shot."""
        return self._keyframes

    @property
    def shots_without_keyframe(self) -> int:
        return self._shots_without

    def take(self, piece: Piece) -> None:
        """Take the next piece."""
        if piece.boundary is not None or not self._shots:
            self._close_shot()
            self._shots.append(
                {
                    "shot_index": len(self._shots),
                    "start_pts": piece.start_pts,
                    "time_base_num": self._time_base.numerator,
                    "time_base_den": self._time_base.denominator,
                    "starts_with": piece.boundary.kind if piece.boundary else "start",
                    "is_exact": self._is_exact,
                }
            )
        self._shots[-1]["end_pts"] = piece.end_pts
        if piece.proposal is not None:
            self._consider(piece.proposal, is_strict=piece.is_strict)

    def finish(self) -> int:
        """All pieces were taken; where the last one ends, in milliseconds."""
        self._close_shot()
        return self._milliseconds(self._shots[-1]["end_pts"])

    def shots(self, end_ms: int) -> list[dict[str, Any]]:
        """The fields of shots: without gaps, the first from 0 and the last to ``end_ms``."""
        edges = [0, *(self._milliseconds(shot["start_pts"]) for shot in self._shots[1:])]
        # A header may state an end before the last frame.
        last_keyframe = max((k["at_ms"] + 1 for k in self._keyframes), default=0)
        edges.append(max(end_ms, edges[-1], last_keyframe))
        return [
            {**shot, "start_ms": edges[index], "end_ms": edges[index + 1]}
            for index, shot in enumerate(self._shots)
        ]

    def stretches(self, runs: Iterable[Run], min_ms: int) -> list[dict[str, Any]]:
        """The fields of stretches: runs that touch, as at the edge of two ranges, are one; but one
        that stands still ends where a shot does."""
        spans = [
            (run.kind, self._milliseconds(run.start_pts), self._milliseconds(run.end_pts))
            for whole in merged(runs)
            for run in self._within_shots(whole)
        ]
        return [
            {"kind": kind, "start_ms": start_ms, "end_ms": end_ms}
            for kind, start_ms, end_ms in spans
            if end_ms - start_ms >= min_ms
        ]

    def _within_shots(self, run: Run) -> list[Run]:
        if run.kind != "frozen":
            return [run]
        begins = [shot["start_pts"] for shot in self._shots]
        inside = begins[bisect_right(begins, run.start_pts) : bisect_left(begins, run.end_pts)]
        edges = [run.start_pts, *inside, run.end_pts]
        return [replace(run, start_pts=start, end_pts=end) for start, end in pairwise(edges)]

    def _consider(self, proposal: Proposal, *, is_strict: bool) -> None:
        before, self._before = self._before, proposal
        if proposal.jpeg is None:
            return
        if before is not None and proposal.shows_the_same(before, strictly=is_strict):
            if not proposal.is_better_than(before):
                # Only at the edge of ranges: the scan did not know what came before.
                _discard(proposal)
                return
            last = self._proposals[-1]
            if proposal.shows_the_same(last, strictly=False) and proposal.is_better_than(last):
                _discard(self._proposals.pop())
        self._proposals.append(proposal)

    def _close_shot(self) -> None:
        if not self._shots:
            return
        # Black, or a picture of a transition, only where there is no other.
        rank = max((proposal.worth[0] for proposal in self._proposals), default=0)
        proposals = []
        for proposal in self._proposals:
            if proposal.worth[0] < rank:
                _discard(proposal)
            else:
                proposals.append(proposal)
        self._shots_without += not proposals
        # The best one stands for the shot; the others follow in order of time.
        best = max(range(len(proposals)), key=lambda at: proposals[at].worth, default=0)
        ordered = proposals[best : best + 1] + proposals[:best] + proposals[best + 1 :]
        self._keyframes += [self._keyframe(index, p) for index, p in enumerate(ordered)]
        self._proposals, self._before = [], None

    def _keyframe(self, index: int, proposal: Proposal) -> dict[str, Any]:
        picture_index, phash = self._pictures.number(proposal.thumbnail)
        return {
            "shot_index": len(self._shots) - 1,
            "keyframe_index": index,
            "at_ms": self._milliseconds(proposal.pts),
            "pts": proposal.pts,
            "width_px": proposal.width_px,
            "height_px": proposal.height_px,
            "picture_index": picture_index,
            "phash": phash,
            "name": proposal.jpeg,
        }

    def _milliseconds(self, pts: int) -> int:
        return max(0, round((pts * self._time_base - self._start) * 1000))


def _discard(proposal: Proposal) -> None:
    if proposal.jpeg is not None:
        Path(proposal.jpeg).unlink()
