"""Opening a container with PyAV and reading what its headers state. Runs in the child only."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar, cast

import av
import av.logging
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.sidedata.sidedata import SideDataContainer
from av.sidedata.sidedata import Type as SideDataType
from av.stream import Disposition, Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from pipeline.errors import InvalidMediaError, MediaLimitError, UnsupportedMediaError
from pipeline.media.languages import normalise_language
from pipeline.media.limits import MediaLimits
from pipeline.media.messages import one_line, useful_line
from pipeline.media.sniff import ALLOWED_DEMUXERS, ALLOWED_PROTOCOLS

_StreamT = TypeVar("_StreamT", VideoStream, AudioStream)

_INPUT = "input"
#: Packets read in search of the first picture of a stream.
_FIRST_FRAME_PACKETS = 200
#: Subtitle codecs whose cues are text; the rest are pictures of text.
TEXT_SUBTITLES = frozenset({"subrip", "ass", "mov_text", "webvtt", "text"})
_NO_PICTURE = Disposition.attached_pic | Disposition.timed_thumbnails
#: Anamorphic pixels beyond this are a damaged header.
_MAX_PIXEL_ASPECT = 4


def open_container(limits: MediaLimits) -> InputContainer:
    """The input, by its content: only allowed demuxers, only local reading.

    Raises:
        InvalidMediaError: no demuxer recognises it, or its headers are broken.
        UnsupportedMediaError: a demuxer that is not allowed recognises it.
        MediaLimitError: too many streams, or a frame with too many pixels.
    """
    av.logging.set_level(av.logging.ERROR)
    with av.logging.Capture() as logs:
        try:
            container = av.open(
                f"file:{_INPUT}",
                metadata_errors="replace",
                container_options={
                    "format_whitelist": ALLOWED_DEMUXERS,
                    "protocol_whitelist": ALLOWED_PROTOCOLS,
                },
            )
        except MemoryError:
            # Also an FFmpegError, but no fault of the file.
            raise
        except (FFmpegError, EOFError, ValueError) as error:
            lines = [text.strip() for _, _, text in logs]
            for _, demuxer, text in logs:
                if "not on whitelist" in text:
                    raise UnsupportedMediaError(
                        f"the file looks like {demuxer}, a format that mediaweave does not open"
                    ) from error
            reason = useful_line(lines) or getattr(error, "strerror", None) or one_line(error)
            raise InvalidMediaError(
                f"the file is not readable as video, sound or a picture: {reason}"
            ) from error
    if len(container.streams) > limits.max_streams:
        raise MediaLimitError(
            f"the file has {len(container.streams)} streams, more than the limit of "
            f"{limits.max_streams}"
        )
    for stream in video_streams(container):
        width, height = stream.codec_context.width, stream.codec_context.height
        if width * height > limits.max_pixels:
            raise MediaLimitError(
                f"the video states {width}x{height} pixels, more than the limit of "
                f"{limits.max_pixels}"
            )
    return container


def video_streams(container: InputContainer) -> list[VideoStream]:
    """Decodable video streams, without cover art and other attached pictures."""
    return [
        stream
        for stream in container.streams.video
        if stream.codec_context is not None and not stream.disposition & _NO_PICTURE
    ]


def audio_streams(container: InputContainer) -> list[AudioStream]:
    """Audio streams with a decoder and a plausible header."""
    return [
        stream
        for stream in container.streams.audio
        if stream.codec_context is not None and stream.codec_context.sample_rate > 0
    ]


def text_subtitle_streams(container: InputContainer, notes: list[str]) -> dict[int, str | None]:
    """Stream index → language of the streams whose cues are text; notes name the others."""
    found: dict[int, str | None] = {}
    for stream in container.streams.subtitles:
        if stream.codec_context is None:
            notes.append(f"subtitle stream {stream.index} has no decoder and was skipped")
        elif (codec := stream.codec_context.codec.canonical_name) in TEXT_SUBTITLES:
            found[stream.index] = normalise_language(stream.language)
        else:
            notes.append(f"subtitle stream {stream.index} ({codec}) holds no text and was skipped")
    return found


def preferred(streams: Sequence[_StreamT]) -> _StreamT | None:
    """The stream marked as default, or else the first."""
    default = next((s for s in streams if s.disposition & Disposition.default), None)
    return default or next(iter(streams), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Orientation:
    """How stored pixels become displayed ones: transpose first, then flip."""

    transpose: bool = False
    flip_horizontal: bool = False
    flip_vertical: bool = False


def orientations(
    container: InputContainer, streams: Sequence[VideoStream]
) -> dict[int, Orientation]:
    """By stream index, from the display matrix that FFmpeg hands out with a decoded frame.

    Reads on from where the container is, so it comes last. A stream without an early frame counts
    as upright: whether anything can be decoded at all is for splitting to find out.
    """
    found: dict[int, Orientation] = {}
    if not streams:
        return found
    for stream in streams:
        stream.codec_context.thread_count = 1
    try:
        for count, packet in enumerate(container.demux(streams)):
            if packet.stream_index not in found:
                for frame in _decoded(packet):
                    found[packet.stream_index] = _orientation(frame)
            if len(found) == len(streams) or count >= _FIRST_FRAME_PACKETS:
                break
    except (FFmpegError, EOFError):
        pass
    return {stream.index: found.get(stream.index, Orientation()) for stream in streams}


def _decoded(packet: "Packet[Stream]") -> list[VideoFrame]:
    try:
        return [frame for frame in packet.decode() if isinstance(frame, VideoFrame)]
    except FFmpegError:
        # One damaged packet; a later one may decode.
        return []


def _orientation(frame: VideoFrame) -> Orientation:
    # PyAV's stub names the element, not the container.
    for data in cast("SideDataContainer", frame.side_data):
        if data.type == SideDataType.DISPLAYMATRIX:
            return _from_matrix(bytes(data))
    return Orientation()


def _from_matrix(data: bytes) -> Orientation:
    a, b, _, c, d = (
        int.from_bytes(data[at : at + 4], "little", signed=True) for at in range(0, 20, 4)
    )
    # x' = a x + c y and y' = b x + d y, 16.16 fixed point.
    if abs(b) > abs(a):
        return Orientation(transpose=True, flip_horizontal=c < 0, flip_vertical=b < 0)
    return Orientation(flip_horizontal=a < 0, flip_vertical=d < 0)


def displayed_size(stream: VideoStream, orientation: Orientation) -> tuple[int, int]:
    """Width and height in pixels as displayed: square pixels, turned upright."""
    width, height = stored_size(stream)
    return (height, width) if orientation.transpose else (width, height)


def stored_size(stream: VideoStream) -> tuple[int, int]:
    """Width and height with square pixels, before turning."""
    width, height = max(1, stream.codec_context.width), max(1, stream.codec_context.height)
    aspect = stream.sample_aspect_ratio or Fraction(1)
    if Fraction(1, _MAX_PIXEL_ASPECT) <= aspect <= _MAX_PIXEL_ASPECT:
        width = max(1, round(width * aspect))
    return width, height


def start_seconds(container: InputContainer) -> Fraction:
    """The start of the presentation on the container's clock."""
    return Fraction(container.start_time or 0, av.time_base)


def seconds_by_packets(limits: MediaLimits) -> Fraction | None:
    """How far the packets' own times reach: for headers that state nothing, or too much."""
    first: Fraction | None = None
    last: Fraction | None = None
    with open_container(limits) as container:
        streams = [s for s in container.streams if s.type in {"video", "audio"}]
        try:
            for packet in container.demux(streams):
                if packet.pts is None or packet.time_base is None:
                    continue
                start = packet.pts * packet.time_base
                end = start + (packet.duration or 0) * packet.time_base
                first = start if first is None else min(first, start)
                last = end if last is None else max(last, end)
        except (FFmpegError, EOFError):
            # What was readable counts; splitting reports the damage.
            pass
    return None if first is None or last is None else last - first
