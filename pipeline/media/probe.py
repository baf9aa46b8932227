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
    audio_streams,
    open_container,
    preferred_video,
    start_seconds,
    video_streams,
)
from pipeline.media.first_look import FirstLook, displayed_size, first_looks
from pipeline.media.limits import MediaLimits
from pipeline.media.messages import clean_text
from pipeline.media.packets import frame_rate, seconds_by_packets

#: Below this a stated duration is doubted: no codec fills so much time with so few bytes.
_DOUBTFUL_BYTES_PER_SECOND = 50
#: Matroska states where the file ends or how long it is: the same only for what begins early.
_EARLY_SECONDS = 1


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
        looks = first_looks(container, pictures)
        streams = [_record(stream, looks, limits) for stream in container.streams]
        main = preferred_video(pictures)
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


def _record(stream: Stream, looks: dict[int, FirstLook], limits: MediaLimits) -> dict[str, Any]:
    context = stream.codec_context
    record: dict[str, Any] = {
        "stream_index": stream.index,
        "kind": stream.type if stream.type in {"video", "audio", "subtitle"} else "other",
        "codec": context.codec.canonical_name if context is not None else None,
        "language": clean_text(stream.language),
        "title": clean_text(stream.metadata.get("title")),
        "is_default": bool(stream.disposition & Disposition.default),
    }
    if stream.time_base:
        record["time_base_num"] = stream.time_base.numerator
        record["time_base_den"] = stream.time_base.denominator
    if isinstance(stream, AudioStream) and stream.codec_context is not None:
        record["sample_rate_hz"] = stream.codec_context.sample_rate or None
        record["channels"] = stream.codec_context.channels or None
    elif isinstance(stream, VideoStream):
        if stream.index in looks:
            size = displayed_size(stream, looks[stream.index].orientation)
            record["width_px"], record["height_px"] = size
            record["frame_rate"] = frame_rate(stream, limits)
        else:
            record["kind"] = "other"
    return record


def _duration_ms(container: InputContainer, limits: MediaLimits) -> int | None:
    """From the header, or from the packets where the header says nothing or too much."""
    seconds = None if not container.duration else Fraction(container.duration, av.time_base)
    doubtful = (
        seconds is None
        or seconds > limits.max_duration_seconds
        or container.size < seconds * _DOUBTFUL_BYTES_PER_SECOND
        or ("matroska" in container.format.name and start_seconds(container) > _EARLY_SECONDS)
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
