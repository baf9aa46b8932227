"""All subtitles of a file and its sidecars, as records. Runs in the child only."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from pipeline.errors import InvalidMediaError
from pipeline.media.containers import open_container
from pipeline.media.limits import MediaLimits
from pipeline.media.progress import Progress
from pipeline.media.subtitles import sidecars as files
from pipeline.media.subtitles.bitmaps import CUE_PICTURES_NAME, BitmapReader, write_pictures
from pipeline.media.subtitles.captions import CaptionReader, repeated
from pipeline.media.subtitles.language import language_of_texts
from pipeline.media.subtitles.packets import Reader, TextReader, read_packets
from pipeline.media.subtitles.parsing import ParsedText, UnreadableSubtitleError
from pipeline.media.subtitles.streams import SubtitleStream
from pipeline.media.subtitles.teletext import decode_teletext

_NOTHING = ParsedText(cues=(), broken=0, cut_short=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is to be read. ``captions_in``: index of a video with captions beside its pictures."""

    streams: Sequence[SubtitleStream]
    captions_in: int | None
    sidecars: Sequence[files.Sidecar]
    #: Of the presentation, in seconds on the container's clock, and how long it lasts.
    start: Fraction
    end_ms: int
    frame_rate: float | None
    ffmpeg: str


@dataclass(slots=True)
class _Collection:
    limits: MediaLimits
    notes: list[str]
    progress: Progress
    sources: list[dict[str, Any]] = field(default_factory=list)
    cues: list[dict[str, Any]] = field(default_factory=list)
    pictures: list[tuple[int, int, bytes, int]] = field(default_factory=list)
    dropped: int = 0

    def add(
        self,
        what: str,
        parsed: ParsedText,
        *,
        pictures: Sequence[tuple[int, int, bytes]] = (),
        **known: Any,
    ) -> None:
        """One source with its cues, or its pictures of cues."""
        self.progress.tick()
        room = self.limits.max_cues - len(self.cues) - len(self.pictures)
        cues, shown = parsed.cues[:room], pictures[:room]
        self.dropped += len(parsed.cues) + len(pictures) - len(cues) - len(shown)
        source = {
            "source_index": len(self.sources),
            "stream_index": None,
            "sidecar": None,
            "encoding": None,
            "language": None,
            "title": None,
            "is_default": False,
            "is_forced": False,
            "is_bitmap": False,
            **known,
            "cue_count": len(cues) + len(shown),
            "broken_count": parsed.broken,
        }
        if source["language"] is None and cues:
            source["language"] = language_of_texts(cue.text for cue in cues)
            if source["language"] is not None:
                self.notes.append(f"{what} states no language; it reads as {source['language']}")
        if parsed.broken:
            self.notes.append(f"{what}: {parsed.broken} broken cues skipped")
        if parsed.cut_short:
            self.notes.append(
                f"{what}: {parsed.cut_short} cues cut to {self.limits.max_cue_chars} characters"
            )
        self.pictures += [(start, end, png, len(self.sources)) for start, end, png in shown]
        self.sources.append(source)
        self.cues += [
            {
                "origin": "subtitle",
                "start_ms": cue.start_ms,
                "end_ms": cue.end_ms,
                "text": cue.text,
                "stream_index": source["stream_index"],
                "sidecar": source["sidecar"],
                "language": source["language"],
            }
            for cue in cues
        ]

    def reply(self) -> dict[str, Any]:
        if self.dropped:
            self.notes.append(f"{self.dropped} cues beyond {self.limits.max_cues} were dropped")
        if self.pictures:
            names = ("stream_index", "sidecar", "language")
            write_pictures(
                self.pictures, [{name: source[name] for name in names} for source in self.sources]
            )
        return {
            "cue_sources": self.sources,
            "cues": self.cues,
            "cue_pictures": CUE_PICTURES_NAME if self.pictures else None,
        }


def collect(
    request: Request, limits: MediaLimits, notes: list[str], progress: Progress
) -> dict[str, Any]:
    """``cue_sources`` and ``cues``, by stream and then by sidecar, as fields of
    :class:`~schemas.records.CueSource` and :class:`~schemas.records.Cue`; ``cue_pictures``: the
    file with the pictures of cues that OCR is to read, if there are any.

    Raises:
        ResourceExhaustedError: decoding teletext took too much.
    """
    found = _Collection(limits, notes, progress)
    if request.streams or request.captions_in is not None:
        _collect_streams(request, found)
    for sidecar in sorted(request.sidecars, key=lambda sidecar: sidecar.name):
        _collect_sidecar(sidecar, request, found)
    return found.reply()


def _collect_streams(request: Request, found: _Collection) -> None:
    try:
        with open_container(found.limits) as container:
            readers = read_packets(
                container,
                request.streams,
                video_index=request.captions_in,
                start=request.start,
                limits=found.limits,
                progress=found.progress,
            )
    except InvalidMediaError as error:
        found.notes.append(f"the subtitles cannot be read: {error}")
        return
    streams = {stream.index: stream for stream in request.streams}
    for index in sorted(readers):
        _collect_stream(index, streams.get(index), readers[index], request, found)


def _collect_stream(
    index: int,
    stream: SubtitleStream | None,
    reader: Reader,
    request: Request,
    found: _Collection,
) -> None:
    known: dict[str, Any] = {"stream_index": index}
    what = f"the captions of stream {index}"
    if stream is not None:
        what = f"subtitle stream {index}"
        known |= {name: getattr(stream, name) for name in ("language", "title")}
        known |= {"is_default": stream.is_default, "is_forced": stream.is_forced}
    if isinstance(reader, CaptionReader):
        _collect_captions(what, reader, request, found, known)
    elif isinstance(reader, BitmapReader):
        _collect_pictures(what, reader, found, known | {"format": stream and stream.codec})
    else:
        _collect_text(what, reader, request, found, known)


def _collect_captions(
    what: str,
    reader: CaptionReader,
    request: Request,
    found: _Collection,
    known: dict[str, Any],
) -> None:
    channels, services = reader.channels(request.end_ms), reader.services(request.end_ms)
    same = repeated(channels, services)
    for format_, parts in (("cea608", channels), ("cea708", services)):
        for name, parsed in parts.items():
            part = f"{what} ({name})"
            title = known.get("title") or name
            if name in same:
                found.notes.append(f"{part} say the same as {same[name]} and were left out")
            text = _NOTHING if name in same else parsed
            found.add(part, text, **known | {"format": format_, "title": title})
    if not channels and not services and "language" in known:
        # A stream is a source even if it is empty; a video without captions is none.
        found.add(what, _NOTHING, **known | {"format": "cea608"})


def _collect_pictures(
    what: str, reader: BitmapReader, found: _Collection, known: dict[str, Any]
) -> None:
    if reader.total_bytes >= found.limits.max_cue_picture_bytes:
        found.notes.append(
            f"{what}: pictures beyond {found.limits.max_cue_picture_bytes} bytes were dropped"
        )
    broken = ParsedText(cues=(), broken=reader.broken, cut_short=0)
    found.add(what, broken, pictures=reader.pictures(), **known, is_bitmap=True)


def _collect_text(
    what: str,
    reader: TextReader,
    request: Request,
    found: _Collection,
    known: dict[str, Any],
) -> None:
    if reader.stream.kind == "data" and not reader.is_webvtt_in_boxes:
        return
    codec, parsed = reader.stream.codec, _NOTHING
    try:
        if codec is None and reader.is_teletext:
            codec = "dvb_teletext"
            index = reader.stream.index
            parsed = decode_teletext(request.ffmpeg, index, request.start, found.limits)
        elif codec is None and reader.looks_like is None:
            found.notes.append(f"{what} is in no format that can be read, and was skipped")
        else:
            codec = codec or ("ttml" if reader.looks_like == "ttml" else "webvtt")
            parsed = reader.parsed(round(request.start * 1000))
    except UnreadableSubtitleError as error:
        found.notes.append(f"{what} cannot be read: {error}")
    found.add(what, parsed, **known | {"format": codec or "unknown"})


def _collect_sidecar(sidecar: files.Sidecar, request: Request, found: _Collection) -> None:
    data = files.read_bytes(sidecar, found.limits, found.notes)
    if not data or files.is_pictures_of(data):
        return
    what = f"sidecar {sidecar.name!r}"
    known: dict[str, Any] = {"sidecar": sidecar.name, "is_forced": sidecar.is_forced}
    if files.is_vobsub_index(data):
        for stream, reader in files.read_vobsub(
            sidecar, request.sidecars, found.limits, found.notes, found.progress
        ):
            language = sidecar.language or stream.language
            _collect_pictures(
                what, reader, found, known | {"format": "vobsub", "language": language}
            )
        return
    text = files.read_text(sidecar, data, found.limits, found.notes, frame_rate=request.frame_rate)
    if text is not None:
        known |= {"format": text.format, "encoding": text.encoding, "language": sidecar.language}
        found.add(what, text.parsed or _NOTHING, **known)


def sidecars_of(request: Sequence[dict[str, str]]) -> list[files.Sidecar]:
    """The sidecars of a request to the child."""
    return [files.Sidecar(name=entry["name"], path=Path(entry["path"])) for entry in request]
