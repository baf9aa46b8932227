"""Cues out of a file's packets: demuxing only, nothing of the video is decoded.

Runs in the child only.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import pairwise

import pysubs2
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Discard, Stream
from av.subtitles.codeccontext import SubtitleCodecContext
from av.subtitles.subtitle import AssSubtitle

from pipeline.media.containers import readable_packets
from pipeline.media.limits import MediaLimits
from pipeline.media.progress import Progress
from pipeline.media.subtitles import wvtt
from pipeline.media.subtitles.bitmaps import BitmapReader
from pipeline.media.subtitles.captions import CaptionReader, triplets_of
from pipeline.media.subtitles.encodings import decode_text
from pipeline.media.subtitles.parsing import (
    Format,
    ParsedCue,
    ParsedText,
    from_events,
    parse,
    without_overrides,
)
from pipeline.media.subtitles.streams import SubtitleStream

_XSUB_TIMES = re.compile(rb"\[(\d\d):(\d\d):(\d\d)\.(\d{3})-(\d\d):(\d\d):(\d\d)\.(\d{3})\]")
#: A text whose end is not stated stands until the next one, at most this long.
_MAX_OPEN_MS = 5_000
#: Codecs in which three bytes may be one more than was meant.
_ESCAPED = frozenset({"h264", "hevc", "vvc"})
_PADDING = 64
_TELETEXT_IDENTIFIERS = range(0x10, 0x20)
_TELETEXT_UNITS = frozenset({0x02, 0x03, 0xFF})
#: A picture that states to be shown longer is shown until something else is.
_MAX_DISPLAY_MS = 300_000


@dataclass(slots=True)
class TextReader:
    """The packets of one stream of text."""

    stream: SubtitleStream
    limits: MediaLimits
    #: Texts in ASS, as FFmpeg's decoders give them; an end before the start is not known.
    events: list[pysubs2.SSAEvent] = field(default_factory=list)
    #: Start, end and payload of what has no decoder here, or a worse one than pysubs2.
    raw: list[tuple[int, int | None, bytes]] = field(default_factory=list)
    #: Of payloads, and of texts without markup.
    kept_bytes: int = 0
    broken: int = 0

    def push(self, packet: "Packet[Stream]", start_ms: int, end_ms: int | None) -> None:
        if max(len(self.raw), len(self.events)) > self.limits.max_cues:
            return
        if self.stream.codec in {None, "webvtt"}:
            if self._has_room(packet.size):
                self.raw.append((start_ms, end_ms, bytes(packet)))
            return
        try:
            shown = packet.decode()
        except FFmpegError:
            self.broken += 1
            return
        for rectangle in shown:
            if isinstance(rectangle, AssSubtitle):
                text = rectangle.ass.decode("utf-8", "replace").split(",", 8)[-1]
                text, is_drawing = without_overrides(text)
                if is_drawing or not self._has_room(len(text)):
                    continue
                end = start_ms - 1 if end_ms is None else end_ms
                self.events.append(pysubs2.SSAEvent(start=start_ms, end=end, text=text))

    def _has_room(self, size: int) -> bool:
        """Whether so much more is kept of the stream; what is not counts as broken."""
        if self.kept_bytes + size > self.limits.max_sidecar_bytes:
            self.broken += 1
            return False
        self.kept_bytes += size
        return True

    @property
    def _first(self) -> bytes:
        """The first payload that holds anything."""
        return next((data for _, _, data in self.raw if data.strip(b"\0 \r\n")), b"")

    @property
    def looks_like(self) -> Format | None:
        """What the payloads are, by the first of them."""
        first = self._first
        if self.stream.codec == "webvtt" or wvtt.is_boxes(first):
            return "vtt"
        start = first.lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n")
        if start.startswith((b"<?xml", b"<tt", b"<\0?\0")) and b"<" in first:
            return "ttml"
        try:
            text = first.decode("utf-8")
        except UnicodeDecodeError:
            return None
        return "vtt" if text and all(c.isprintable() or c.isspace() for c in text) else None

    @property
    def is_webvtt_in_boxes(self) -> bool:
        return any(wvtt.is_boxes(data) for _, _, data in self.raw[:2])

    @property
    def is_teletext(self) -> bool:
        first = next((data for _, _, data in self.raw if len(data) > 2), b"\0\0")
        return first[0] in _TELETEXT_IDENTIFIERS and first[1] in _TELETEXT_UNITS

    def parsed(self, start_ms: int) -> ParsedText:
        """``start_ms``: of the presentation, on the clock of a payload's own times.

        Raises:
            UnreadableSubtitleError: the payloads cannot be parsed.
        """
        if self.raw and self.looks_like == "ttml":
            return self._parsed_documents(start_ms)
        if self.raw:
            parsed = parse(wvtt.document(self._closed(self.raw)), "vtt", self.limits)
            return replace(parsed, broken=parsed.broken + self.broken)
        _close(self.events)
        return from_events(self.events, "ass", self.limits, broken=self.broken)

    def _closed(self, raw: Sequence[tuple[int, int | None, bytes]]) -> list[tuple[int, int, bytes]]:
        starts = sorted({start for start, _, _ in raw})
        after = dict(pairwise(starts))
        return [
            (start, end, data)
            if end is not None
            else (start, min(after.get(start, start + _MAX_OPEN_MS), start + _MAX_OPEN_MS), data)
            for start, end, data in raw
        ]

    def _parsed_documents(self, start_ms: int) -> ParsedText:
        """Each payload is a document of its own; what goes on is in several of them."""
        cues: dict[tuple[int, int, str], ParsedCue] = {}
        broken, cut_short = self.broken, 0
        # Of the first, for all: finding out takes longer than parsing.
        _, encoding = decode_text(self._first)
        for _, _, data in self.raw:
            text = data.decode(encoding, "replace")
            parsed = parse(text, "ttml", self.limits).moved(start_ms)
            broken += parsed.broken
            cut_short += parsed.cut_short
            for cue in parsed.cues:
                if len(cues) <= self.limits.max_cues:
                    cues[(cue.start_ms, cue.end_ms, cue.text)] = cue
        ordered = tuple(cues[key] for key in sorted(cues, key=lambda key: key[:2]))
        return ParsedText(cues=ordered, broken=broken, cut_short=cut_short)


def _close(events: list[pysubs2.SSAEvent]) -> None:
    events.sort(key=lambda event: event.start)
    for event, following in zip(events, [*events[1:], None], strict=False):
        if event.end < event.start:
            latest = event.start + _MAX_OPEN_MS
            event.end = latest if following is None else min(following.start, latest)


def _from_zero(data: bytes, times: re.Match[bytes]) -> "tuple[Packet[Stream], int]":
    """A picture of XSUB, which begins with its own times, as if it began at 0, and its start in ms:
    FFmpeg hands its colours out only of what begins with its packet. Zeros follow, as FFmpeg's
    decoders may read beyond the end (``AV_INPUT_BUFFER_PADDING_SIZE``), where PyAV has none."""
    hours, minutes, seconds, ms = map(int, times.groups()[:4])
    start_ms = ((hours * 60 + minutes) * 60 + seconds) * 1000 + ms
    hours, minutes, seconds, ms = map(int, times.groups()[4:])
    lasts_ms = max(0, ((hours * 60 + minutes) * 60 + seconds) * 1000 + ms - start_ms)
    end = f"{lasts_ms // 3_600_000 % 100:02}:{lasts_ms // 60_000 % 60:02}:"
    end += f"{lasts_ms // 1000 % 60:02}.{lasts_ms % 1000:03}"
    from_zero = b"[00:00:00.000-" + end.encode() + b"]" + data[times.end() :]
    return Packet(from_zero + bytes(_PADDING)), start_ms


Reader = TextReader | BitmapReader | CaptionReader


def read_packets(
    container: InputContainer,
    streams: Sequence[SubtitleStream],
    *,
    video_index: int | None,
    start: Fraction,
    limits: MediaLimits,
    progress: Progress,
) -> dict[int, Reader]:
    """Stream index → what was read. ``video_index``: of a video with captions beside its pictures.
    ``start``: of the presentation, in seconds on the container's clock."""
    readers: dict[int, Reader] = {}
    for found in streams:
        if found.kind == "bitmap":
            readers[found.index] = BitmapReader(limits)
        elif found.kind == "captions":
            readers[found.index] = CaptionReader(limits)
        else:
            readers[found.index] = TextReader(found, limits)
    if video_index is not None:
        readers[video_index] = CaptionReader(limits)
    wanted = [stream for stream in container.streams if stream.index in readers]
    for stream in container.streams:
        if stream.index not in readers:
            stream.discard = Discard.all
    for packet in readable_packets(container, wanted):
        progress.tick()
        _read(packet, readers, video_index, start)
    return readers


def _read(
    packet: "Packet[Stream]", readers: dict[int, Reader], video_index: int | None, start: Fraction
) -> None:
    at = packet.dts if packet.pts is None else packet.pts
    if not packet.size or at is None or packet.time_base is None:
        return
    start_ms = round((at * packet.time_base - start) * 1000)
    end_ms = None
    if packet.duration:
        end_ms = round(((at + packet.duration) * packet.time_base - start) * 1000)
    reader = readers[packet.stream_index]
    if isinstance(reader, CaptionReader):
        triplets = bytes(packet)
        if packet.stream_index == video_index:
            context = packet.stream.codec_context
            is_escaped = context is not None and context.name in _ESCAPED
            triplets = triplets_of(triplets, is_escaped=is_escaped)
        reader.push(max(0, start_ms), triplets)
    elif isinstance(reader, BitmapReader):
        _read_picture(packet, reader, start_ms, end_ms)
    elif end_ms is None or end_ms > 0:
        reader.push(packet, max(0, start_ms), end_ms)


def _read_picture(
    packet: "Packet[Stream]", reader: BitmapReader, start_ms: int, end_ms: int | None
) -> None:
    decoder = packet.stream.codec_context
    if not isinstance(decoder, SubtitleCodecContext):
        return
    if decoder.name == "xsub":
        times = _XSUB_TIMES.match(bytes(packet))
        if times is None:
            reader.broken += 1
            return
        packet, start_ms = _from_zero(bytes(packet), times)
    try:
        shown = decoder.decode2(packet)
    except FFmpegError:
        reader.broken += 1
        return
    if shown is None:
        return
    if 0 < shown.end_display_time <= _MAX_DISPLAY_MS:
        end_ms = start_ms + shown.end_display_time
    start_ms += shown.start_display_time
    reader.push(start_ms, end_ms, shown)
