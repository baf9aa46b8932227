"""Animated pictures (GIF, WebP, APNG, AVIF, HEIC sequences) as the short videos that they are.

Not every FFmpeg reads them all, and none puts them on white with the times that browsers show. So
their frames are written, one at a time and losslessly, to a file that takes the place of the
input. Loops are ignored.
"""

import errno
import itertools
import math
import time
from collections.abc import Generator
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.stream import VideoStream
from PIL import Image as PillowImage

from pipeline.errors import InvalidMediaError, MediaLimitError, ResourceExhaustedError
from pipeline.media.containers import open_container
from pipeline.media.limits import MediaLimits
from pipeline.media.messages import one_line
from pipeline.media.params import SplitParams
from pipeline.media.pictures import chunks
from pipeline.media.pictures.chunks import Timing, may_move
from pipeline.media.pictures.opening import (
    DAMAGE,
    TOO_MANY_PIXELS,
    OpenedPicture,
    open_picture,
)
from pipeline.media.pictures.rendering import render
from pipeline.media.progress import Progress

_INPUT = Path("input")
_UNROLLED = Path("animation.mov")
_EXHAUSTED = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}
_SIDEWAYS = {5, 6, 7, 8}
#: Finer clocks than this do not fit where FFmpeg keeps a time base; times are then rounded to it.
_FINEST_CLOCK = 1_000_000
#: With less than this share of its time decoded, an animation counts as cut off.
_ENOUGH = 0.95


def probe(picture_format: str, limits: MediaLimits) -> dict[str, Any] | None:
    """The fields of a :class:`~schemas.records.MediaInfo`; ``None``: it does not move."""
    timing = _timing(picture_format, limits)
    if timing is None:
        return None
    if picture_format == "HEIF":
        with open_container(limits) as container:
            track = _track(container)
            size = track.codec_context.width, track.codec_context.height
    else:
        with open_picture(picture_format, limits, "") as opened:
            _check_frames(timing, opened.image, limits)
            size = opened.image.size
            if opened.orientation in _SIDEWAYS:
                size = size[1], size[0]
    seconds = sum(timing.durations)
    rate = float(len(timing.durations) / seconds)
    codec = "apng" if picture_format == "PNG" else picture_format.lower()
    clock = _clock(timing)
    return {
        "kind": "video",
        "container": codec,
        "duration_ms": round(seconds * 1000),
        "width_px": size[0],
        "height_px": size[1],
        "frame_rate": rate,
        "streams": [
            {
                "stream_index": 0,
                "kind": "video",
                "codec": codec,
                "is_default": True,
                "width_px": size[0],
                "height_px": size[1],
                "frame_rate": rate,
                "time_base_num": 1,
                "time_base_den": clock,
            }
        ],
    }


def unroll(
    picture_format: str, params: SplitParams, limits: MediaLimits, progress: Progress
) -> tuple[list[str], float]:
    """Put a plain video in the place of the animated input. Returns notes and CPU seconds.

    Raises:
        InvalidMediaError: its first frame cannot be decoded, or it is cut off.
        MediaLimitError: it has too many frames, or pixels over all frames.
        ResourceExhaustedError: the disk is too small for it.
    """
    before = time.process_time()
    timing = _timing(picture_format, limits)
    notes: list[str] = []
    if timing is not None:
        try:
            if picture_format == "HEIF":
                _copy_track(limits)
            else:
                with open_picture(picture_format, limits, "") as opened:
                    _check_frames(timing, opened.image, limits)
                    _write(opened, timing, params, limits, progress)
                    notes = opened.notes
        except MemoryError:
            raise
        except FFmpegError as error:
            kind = ResourceExhaustedError if error.errno in _EXHAUSTED else InvalidMediaError
            raise kind(f"the animation could not be unrolled: {one_line(error)}") from error
        _INPUT.unlink()
        _UNROLLED.rename(_INPUT)
    return list(dict.fromkeys(notes)), time.process_time() - before


def _timing(picture_format: str, limits: MediaLimits) -> Timing | None:
    """When frames are shown; ``None`` for a still."""
    if not may_move(picture_format, _INPUT):
        return None
    if picture_format in {"AVIF", "HEIF"}:
        with open_container(limits) as container:
            found = _track_timing(container)
    else:
        found = chunks.timing(picture_format, _INPUT)
    return found if len(found.durations) > 1 else None


def _track(container: InputContainer) -> VideoStream:
    """The moving pictures, not the still beside them, nor their opacity."""
    streams = [stream for stream in container.streams.video if stream.codec_context is not None]
    if not streams:
        raise InvalidMediaError("the picture sequence holds no pictures that can be decoded")
    return max(streams, key=lambda stream: stream.frames)


def _track_timing(container: InputContainer) -> Timing:
    track = _track(container)
    base = Fraction(track.time_base or 1)
    packets = [packet for packet in container.demux(track) if packet.pts is not None]
    packets.sort(key=lambda packet: packet.pts or 0)
    durations = [
        ((later.pts or 0) - (earlier.pts or 0)) * base
        for earlier, later in itertools.pairwise(packets)
    ]
    if packets:
        durations.append(max(packets[-1].duration or 0, 1) * base)
    return Timing(durations=tuple(d for d in durations if d > 0))


def _check_frames(timing: Timing, picture: PillowImage.Image, limits: MediaLimits) -> None:
    frames = len(timing.durations)
    if frames > limits.max_animation_frames:
        raise MediaLimitError(
            f"the animation has {frames} frames, more than the limit of "
            f"{limits.max_animation_frames}; submit it as a video"
        )
    pixels = frames * picture.width * picture.height
    if pixels > limits.max_animation_pixels:
        raise MediaLimitError(
            f"the animation has {pixels} pixels in all its frames, more than the limit of "
            f"{limits.max_animation_pixels}; submit it as a video"
        )


def _clock(timing: Timing) -> int:
    """Ticks per second that hold every duration exactly, where there are such."""
    ticks = math.lcm(*{duration.denominator for duration in timing.durations})
    return min(ticks, _FINEST_CLOCK)


def _write(
    opened: OpenedPicture,
    timing: Timing,
    params: SplitParams,
    limits: MediaLimits,
    progress: Progress,
) -> None:
    clock = _clock(timing)
    edges = [
        round(at * clock) for at in itertools.accumulate(timing.durations, initial=Fraction(0))
    ]
    first = 1 if timing.skips_first else 0
    done = 0
    options = {"video_track_timescale": str(clock)}
    with av.open(str(_UNROLLED), "w", format="mov", container_options=options) as out:
        writer = _Writer(out, clock)
        with closing(_frames(opened, first, len(timing.durations), params, limits)) as frames:
            for number, frame in enumerate(frames):
                progress.tick()
                done = number + 1
                is_last = done == len(timing.durations)
                writer.put(frame, edges[number], edges[done])
                if is_last and edges[done] - edges[number] > 1:
                    # A splitter learns from the next frame how long one was shown.
                    writer.repeat_last()
        writer.close()
    if edges[done] < _ENOUGH * edges[-1]:
        raise InvalidMediaError(
            f"the animation is truncated: only {done} of {len(timing.durations)} frames can be "
            f"decoded: {opened.notes[-1]}"
        )


def _frames(
    opened: OpenedPicture, first: int, count: int, params: SplitParams, limits: MediaLimits
) -> Generator[PillowImage.Image, None, None]:
    """The frames in order, rendered; a damaged one ends them with a note."""
    for number in range(first, first + count):
        try:
            opened.image.seek(number)
            yield render(opened, params.keyframe_max_side_px, limits)
        except TOO_MANY_PIXELS as error:
            # A frame of a GIF may be larger than those before it.
            raise MediaLimitError(
                f"frame {number} of the animation states more than {limits.max_pixels} pixels"
            ) from error
        except DAMAGE as error:
            if number == first:
                raise InvalidMediaError(
                    f"the animated {opened.picture_format} is damaged: {one_line(error)}"
                ) from error
            opened.notes.append(f"frame {number} cannot be decoded: {one_line(error)}")
            return


class _Writer:
    """MagicYUV in QuickTime: lossless and fast, with exact times, read by every FFmpeg."""

    def __init__(self, out: av.container.OutputContainer, clock: int) -> None:
        self._out = out
        self._base = Fraction(1, clock)
        self._stream: VideoStream | None = None
        self._durations: dict[int, int] = {}
        self._last: tuple[PillowImage.Image, int, int] | None = None

    def put(self, frame: PillowImage.Image, start: int, end: int) -> None:
        """Show ``frame`` (RGB, all of one size) from ``start`` to ``end``, in ticks."""
        if self._stream is None:
            stream = self._out.add_stream("magicyuv")
            if not isinstance(stream, VideoStream):
                raise TypeError(f"expected a video stream, got {stream!r}")
            stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, "gbrp"
            stream.codec_context.time_base = self._base
            stream.codec_context.thread_count = 1
            self._stream = stream
        picture = av.VideoFrame.from_ndarray(np.asarray(frame), format="rgb24")
        picture.pts, picture.time_base = start, self._base
        self._durations[start] = end - start
        self._mux(self._stream.encode(picture))
        self._last = frame, start, end

    def repeat_last(self) -> None:
        """Show the last frame once more, in the last tick of its time."""
        if self._last is not None:
            frame, _, end = self._last
            self.put(frame, end - 1, end)

    def close(self) -> None:
        if self._stream is not None:
            self._mux(self._stream.encode())

    def _mux(self, packets: "list[av.Packet[VideoStream]]") -> None:
        for packet in packets:
            packet.duration = self._durations.pop(packet.pts or 0, 1)
            self._out.mux(packet)


def _copy_track(limits: MediaLimits) -> None:
    """Without decoding: HEVC that FFmpeg reads from a plain file as well."""
    with open_container(limits) as container, av.open(str(_UNROLLED), "w", format="mp4") as out:
        track = _track(container)
        copy = out.add_stream_from_template(track)
        for packet in container.demux(track):
            if packet.pts is not None:
                packet.stream = copy
                out.mux(packet)
