"""From a stream of decoded frames to shots and keyframe files. Runs in the child only."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from av.video.stream import VideoStream

from pipeline.errors import MediaLimitError
from pipeline.media.containers import Orientation, stored_size
from pipeline.media.decoding import PipedFrame
from pipeline.media.ffmpeg_command import VideoPlan
from pipeline.media.keyframes import Candidate, KeyframePicker
from pipeline.media.limits import MediaLimits
from pipeline.media.params import SplitParams
from pipeline.media.shots import CutDetector

#: Small frames of extreme shapes stay small in both directions.
_MAX_SMALL_RATIO = 4


def plan_video(stream: VideoStream, start: Fraction, params: SplitParams) -> VideoPlan:
    """Sizes and clock of what ffmpeg is to send of this stream."""
    width, height = stored_size(stream)
    small = params.analysis_width
    small_height = min(max(2, round(small * height / width)), small * _MAX_SMALL_RATIO)
    shrink = min(Fraction(1), Fraction(params.keyframe_max_side_px, max(width, height)))
    time_base = Fraction(stream.time_base or Fraction(1, 90_000))
    return VideoPlan(
        stream_index=stream.index,
        time_base=time_base,
        origin_pts=start // time_base,
        small_size=(small, small_height),
        keyframe_size=(max(1, round(width * shrink)), max(1, round(height * shrink))),
        is_intra_only=stream.codec_context.codec.intra_only,
    )


@dataclass(frozen=True, slots=True)
class _Span:
    start_pts: int
    end_pts: int


class VideoSplitter:
    """Takes frames in order of time; writes each shot's keyframe as soon as the shot is over."""

    def __init__(
        self,
        plan: VideoPlan,
        start: Fraction,
        turn: Orientation,
        params: SplitParams,
        limits: MediaLimits,
    ) -> None:
        self._plan = plan
        self._start = start
        self._turn = turn
        self._params = params
        self._limits = limits
        self._detector = CutDetector(
            threshold=params.cut_threshold,
            ratio=params.cut_ratio,
            min_shot_pts=round(Fraction(params.min_shot_ms, 1000) / plan.time_base),
        )
        self._picker = KeyframePicker()
        self._shots: list[_Span] = []
        self._keyframes: dict[int, dict[str, Any]] = {}
        self._shot_start_pts = 0
        self._last_pts = 0
        self._last_step = 0
        self.frame_count = 0

    def push(self, frame: PipedFrame) -> None:
        """Take the next frame.

        Raises:
            MediaLimitError: it lies beyond the longest duration allowed.
        """
        if frame.is_candidate:
            self._picker.add(Candidate(frame.pts, frame.pixels))
            return
        if self.frame_count == 0:
            self._shot_start_pts = frame.pts
        else:
            self._last_step = frame.pts - self._last_pts
        self._last_pts = frame.pts
        self.frame_count += 1
        if self.milliseconds(frame.pts) > self._limits.max_duration_seconds * 1000:
            raise MediaLimitError(
                f"the video lasts longer than the limit of {self._limits.max_duration_seconds} s; "
                "split it or raise max_duration_seconds"
            )
        for cut_pts in self._detector.push(frame.pts, frame.pixels):
            self._close_shot(cut_pts)

    def finish(self, stated_end_pts: int | None, frame_rate: float | None) -> None:
        """The video is over. The last frame lasts as stated, or like the one before it."""
        step = self._last_step
        if self.frame_count == 1:
            step = round(Fraction(1 / (frame_rate or 25)) / self._plan.time_base)
        end_pts = self._last_pts + max(1, step)
        longest = self._last_pts + 2 * max(1, step)
        if stated_end_pts is not None and self._last_pts < stated_end_pts <= longest:
            end_pts = stated_end_pts
        for cut_pts in self._detector.finish(end_pts):
            self._close_shot(cut_pts)
        self._close_shot(end_pts)

    def milliseconds(self, pts: int) -> int:
        """On the presentation's clock."""
        return max(0, round((pts * self._plan.time_base - self._start) * 1000))

    @property
    def end_ms(self) -> int:
        """Where the last frame ends."""
        return self.milliseconds(self._shots[-1].end_pts)

    def plan_for_missing(self) -> VideoPlan | None:
        """How to decode again for shots too short to have had a candidate; ``None``: none were."""
        if len(self._keyframes) == len(self._shots):
            return None
        every_ms = max(1, self._params.min_shot_ms // 2)
        return replace(self._plan, only_candidates_every_ms=every_ms)

    def fill_missing(self, frames: Iterable[PipedFrame]) -> None:
        """Take the candidates of the second decoding, for shots without a keyframe only."""
        index = 0
        for frame in frames:
            while index < len(self._shots) and frame.pts >= self._shots[index].end_pts:
                self._choose_keyframe(index)
                index += 1
            if index < len(self._shots) and index not in self._keyframes:
                self._picker.add(Candidate(frame.pts, frame.pixels))
        for left in range(index, len(self._shots)):
            self._choose_keyframe(left)

    def records(self, end_ms: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Shots, the first from 0 and the last to ``end_ms``, and keyframes."""
        edges = [0, *(self.milliseconds(span.end_pts) for span in self._shots[:-1])]
        edges.append(max(end_ms, edges[-1]))
        shots = [
            {
                "shot_index": index,
                "start_ms": edges[index],
                "end_ms": edges[index + 1],
                "start_pts": span.start_pts,
                "end_pts": span.end_pts,
                "time_base_num": self._plan.time_base.numerator,
                "time_base_den": self._plan.time_base.denominator,
            }
            for index, span in enumerate(self._shots)
        ]
        return shots, [self._keyframes[index] for index in sorted(self._keyframes)]

    def _close_shot(self, end_pts: int) -> None:
        self._shots.append(_Span(self._shot_start_pts, end_pts))
        self._shot_start_pts = end_pts
        self._choose_keyframe(len(self._shots) - 1)

    def _choose_keyframe(self, index: int) -> None:
        if index in self._keyframes:
            return
        span = self._shots[index]
        chosen = self._picker.close_shot(span.start_pts, span.end_pts)
        if chosen is None:
            return
        upright = _turn(chosen.pixels, self._turn)
        name = f"keyframe-{index:05d}-0.jpg"
        quality = [cv2.IMWRITE_JPEG_QUALITY, self._params.jpeg_quality]
        _, jpeg = cv2.imencode(".jpg", upright, quality)
        Path(name).write_bytes(jpeg.tobytes())
        self._keyframes[index] = {
            "shot_index": index,
            "keyframe_index": 0,
            "at_ms": self.milliseconds(chosen.pts),
            "pts": chosen.pts,
            "width_px": upright.shape[1],
            "height_px": upright.shape[0],
            "name": name,
        }


def _turn(pixels: npt.NDArray[np.uint8], how: Orientation) -> npt.NDArray[np.uint8]:
    if how.transpose:
        pixels = pixels.transpose(1, 0, 2)
    if how.flip_horizontal:
        pixels = pixels[:, ::-1]
    if how.flip_vertical:
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)
