"""What a file with streams is, from its headers. Runs in the child only."""

from fractions import Fraction
from typing import Any

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from pipeline.errors import MediaLimitError, UnsupportedMediaError
from pipeline.media.containers import (
    Orientation,
    audio_streams,
    displayed_size,
    open_container,
    orientations,
    preferred,
    seconds_by_packets,
    video_streams,
)
from pipeline.media.limits import MediaLimits

#: Below this a stated duration is doubted: no codec fills so much time with so few bytes.
_DOUBTFUL_BYTES_PER_SECOND = 50
#: Above this a frame rate is the time base's, not the pictures'.
_MAX_FRAME_RATE = 300
_MAX_METADATA_CHARS = 500


def probe(limits: MediaLimits) -> dict[str, Any]:
    """The fields of a :class:`~schemas.records.MediaInfo`, for video and sound.

    Raises:
        InvalidMediaError: and its kin; see :func:`~pipeline.media.containers.open_container`.
    """
    with open_container(limits) as container:
        pictures = video_streams(container)
        if not pictures and not audio_streams(container):
            raise UnsupportedMediaError(
                f"the {container.format.name} file holds no video or sound that can be decoded"
            )
        duration_ms = _duration_ms(container, limits)
        turned = orientations(container, pictures)
        streams = [_record(stream, turned) for stream in container.streams]
        main = preferred(pictures)
        record = streams[main.index] if main is not None else {}
        return {
            "kind": "audio" if main is None else "video",
            "container": container.format.name,
            "duration_ms": duration_ms,
            "width_px": record.get("width_px"),
            "height_px": record.get("height_px"),
            "frame_rate": record.get("frame_rate"),
            "streams": streams,
        }


def _record(stream: Stream, turned: dict[int, Orientation]) -> dict[str, Any]:
    context = stream.codec_context
    record: dict[str, Any] = {
        "stream_index": stream.index,
        "kind": stream.type if stream.type in {"video", "audio", "subtitle"} else "other",
        "codec": context.codec.canonical_name if context is not None else None,
        "language": _clean(stream.language),
        "title": _clean(stream.metadata.get("title")),
        "is_default": bool(stream.disposition & Disposition.default),
    }
    if stream.time_base:
        record["time_base_num"] = stream.time_base.numerator
        record["time_base_den"] = stream.time_base.denominator
    if isinstance(stream, AudioStream) and stream.codec_context is not None:
        record["sample_rate_hz"] = stream.codec_context.sample_rate or None
        record["channels"] = stream.codec_context.channels or None
    elif isinstance(stream, VideoStream):
        if stream.index in turned:
            size = displayed_size(stream, turned[stream.index])
            record["width_px"], record["height_px"] = size
            record["frame_rate"] = _frame_rate(stream)
        else:
            record["kind"] = "other"
    return record


def _clean(text: str | None) -> str | None:
    """Metadata without what a database or a terminal chokes on."""
    if not text:
        return None
    return "".join(c for c in text if c.isprintable())[:_MAX_METADATA_CHARS].strip() or None


def _frame_rate(stream: VideoStream) -> float | None:
    for rate in (stream.average_rate, stream.guessed_rate):
        if rate and 0 < rate <= _MAX_FRAME_RATE:
            return float(rate)
    return None


def _duration_ms(container: InputContainer, limits: MediaLimits) -> int | None:
    """From the header, or from the packets where the header says nothing or too much."""
    seconds = None if not container.duration else Fraction(container.duration, av.time_base)
    doubtful = (
        seconds is None
        or seconds > limits.max_duration_seconds
        or container.size < seconds * _DOUBTFUL_BYTES_PER_SECOND
    )
    if doubtful:
        seconds = seconds_by_packets(limits)
    if seconds is None:
        return None
    if seconds > limits.max_duration_seconds:
        raise MediaLimitError(
            f"the media is {float(seconds):.0f} s long, more than the limit of "
            f"{limits.max_duration_seconds} s; split it or raise max_duration_seconds"
        )
    return round(seconds * 1000)
