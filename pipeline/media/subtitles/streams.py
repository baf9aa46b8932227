"""What the headers say of a file's subtitles. Runs in the child only."""

from dataclasses import dataclass
from typing import Literal

from av.container import InputContainer
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from pipeline.media.containers import readable_packets
from pipeline.media.languages import normalise_language

#: ``unknown``: FFmpeg's libraries have no decoder; its packets tell what it is. ``data``: maybe no
#: subtitles at all: WebVTT in MP4 is all the same to FFmpeg as other data.
SubtitleKind = Literal["text", "bitmap", "captions", "unknown", "data"]

_BITMAPS = frozenset({"hdmv_pgs_subtitle", "dvd_subtitle", "dvb_subtitle", "xsub"})
_CAPTIONS = frozenset({"eia_608"})
#: Begins the captions that an encoder puts beside the pictures (ATSC A/53 part 4).
A53_MARK = b"GA94\x03"
#: How far into a video its first captions are looked for. Broadcasts have some with every picture.
_LOOKED_AT_PACKETS = 250
_LOOKED_AT_BYTES = 32 * 1024**2
_MAX_TITLE_CHARS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class SubtitleStream:
    """A stream of subtitles. ``codec``: ``None`` where FFmpeg's libraries have no decoder."""

    index: int
    kind: SubtitleKind
    codec: str | None
    language: str | None
    title: str | None
    is_default: bool
    is_forced: bool


def subtitle_streams(container: InputContainer) -> tuple[SubtitleStream, ...]:
    """The container's streams of subtitles, by their headers."""
    kinds = {"subtitle", "data"} if "mp4" in container.format.name else {"subtitle"}
    return tuple(_stream(stream) for stream in container.streams if stream.type in kinds)


def _stream(stream: Stream) -> SubtitleStream:
    context = stream.codec_context
    codec: str | None = None if context is None else context.codec.canonical_name
    kind: SubtitleKind = "text"
    if stream.type == "data":
        kind, codec = "data", None
    elif codec is None:
        kind = "unknown"
    elif codec in _BITMAPS:
        kind = "bitmap"
    elif codec in _CAPTIONS:
        kind = "captions"
    title = "".join(c for c in stream.metadata.get("title") or "" if c.isprintable())
    return SubtitleStream(
        index=stream.index,
        kind=kind,
        codec=codec,
        language=normalise_language(stream.language),
        title=title[:_MAX_TITLE_CHARS].strip() or None,
        is_default=bool(stream.disposition & Disposition.default),
        is_forced=bool(stream.disposition & Disposition.forced),
    )


def carries_captions(container: InputContainer, video: VideoStream) -> bool:
    """Whether captions stand beside the next pictures. Reads on from where the container is."""
    total = 0
    for count, packet in enumerate(readable_packets(container, [video]), start=1):
        if A53_MARK in bytes(packet):
            return True
        total += packet.size
        if count >= _LOOKED_AT_PACKETS or total >= _LOOKED_AT_BYTES:
            break
    return False
