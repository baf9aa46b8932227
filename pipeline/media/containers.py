"""Opening a container with PyAV and reading what its headers state. Runs in the child only."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import av.logging
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from pipeline.errors import InvalidMediaError, MediaLimitError, UnsupportedMediaError
from pipeline.media.encryption import is_encrypted_mp4
from pipeline.media.header_bounds import check_headers
from pipeline.media.limits import MediaLimits
from pipeline.media.messages import one_line, useful_line
from pipeline.media.sniff import ALLOWED_DEMUXERS, ALLOWED_PROTOCOLS

_INPUT = "input"
_NO_PICTURE = Disposition.attached_pic | Disposition.timed_thumbnails


def open_container(limits: MediaLimits) -> InputContainer:
    """The input, by its content: only allowed demuxers, only local reading.

    Raises:
        InvalidMediaError: no demuxer recognises it, or its headers are broken.
        UnsupportedMediaError: a demuxer that is not allowed recognises it, or it is encrypted.
        MediaLimitError: too much in its headers, or a frame with too many pixels.
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
            if is_encrypted_mp4(Path(_INPUT)):
                raise _encrypted() from error
            reason = useful_line(lines) or getattr(error, "strerror", None) or one_line(error)
            raise InvalidMediaError(
                f"the file is not readable as video, sound or a picture: {reason}"
            ) from error
    if container.format.name.startswith("mov,") and is_encrypted_mp4(Path(_INPUT)):
        raise _encrypted()
    check_headers(container, limits)
    for stream in video_streams(container):
        width, height = stream.codec_context.width, stream.codec_context.height
        if width * height > limits.max_pixels:
            raise MediaLimitError(
                f"the video states {width}x{height} pixels, more than the limit of "
                f"{limits.max_pixels}"
            )
    return container


def _encrypted() -> UnsupportedMediaError:
    return UnsupportedMediaError("the file is encrypted; submit it without encryption")


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


def preferred_video(streams: Sequence[VideoStream]) -> VideoStream | None:
    """Of the streams marked as default, or else of all, the one with most pixels."""

    def order(stream: VideoStream) -> tuple[bool, int, int]:
        size = stream.codec_context.width * stream.codec_context.height
        return (not stream.disposition & Disposition.default, -size, stream.index)

    return min(streams, key=order, default=None)


def readable_packets(
    container: InputContainer, streams: Sequence[Stream]
) -> Iterator["Packet[Stream]"]:
    """Packets of the streams from where the container is, up to the first damage: what is readable
    counts, and decoding everything reports the damage."""
    try:
        yield from container.demux(streams)
    except (FFmpegError, EOFError):
        return
    except IndexError:
        # So it ends where further streams appeared on the way, as they may in FLV.
        return


def start_seconds(container: InputContainer) -> Fraction:
    """The start of the presentation on the container's clock."""
    return Fraction(container.start_time or 0, av.time_base)
