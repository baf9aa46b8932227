"""Cues from subtitle streams (as ffmpeg wrote them) and from sidecar files.

Runs in the child only. Nothing here fails a video: what cannot be read is skipped with a note.
"""

import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import pysubs2
from pysubs2.exceptions import Pysubs2Error

from pipeline.media.encodings import decode_text
from pipeline.media.ffmpeg_command import subtitle_name
from pipeline.media.languages import language_of_file_name
from pipeline.media.limits import MediaLimits
from pipeline.media.messages import one_line

_Format = Literal["srt", "vtt", "ass"]

_SRT_TIME = r"\d{1,2}:[0-5]?\d:[0-5]?\d[.,]\d{1,3}"
_VTT_TIME = r"(\d{2,4}:)?[0-5]\d:[0-5]\d\.\d{3}"
_TIMING: dict[_Format, re.Pattern[str]] = {
    "srt": re.compile(rf"\s*{_SRT_TIME}\s*-->\s*{_SRT_TIME}(\s|$)"),
    "vtt": re.compile(rf"\s*{_VTT_TIME}\s+-->\s+{_VTT_TIME}(\s|$)"),
}
_ASS_LINE = re.compile(r"Dialogue:[^,]*,\s*\d+:\d+:\d+[.:]\d+\s*,\s*\d+:\d+:\d+[.:]\d+\s*,")
#: Times inside a WebVTT cue (karaoke), which pysubs2 leaves in.
_VTT_INNER_TIME = re.compile(r"<[\d:.]+>")
#: Markup may take this much more room than the text that is kept.
_MARKUP_FACTOR = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedCue:
    """A cue's own times, and its text without markup."""

    start_ms: int
    end_ms: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedText:
    """What a subtitle file holds. ``broken``: cues without valid times or without length."""

    cues: tuple[ParsedCue, ...]
    broken: int
    cut_short: int


def collect_cues(
    streams: dict[int, str | None],
    start: Fraction,
    sidecars: Sequence[dict[str, str]],
    limits: MediaLimits,
    notes: list[str],
) -> list[dict[str, Any]]:
    """The fields of :class:`~schemas.records.Cue`, by stream and then by sidecar.

    ``streams``: stream index → language, of the files that ffmpeg wrote into this directory with
    times on the container's clock. Sidecar times count from the start of the presentation.
    """
    found: list[dict[str, Any]] = []
    for index, language in streams.items():
        path = Path(subtitle_name(index))
        if path.exists():
            parsed = _read(
                path, f"subtitle stream {index}", limits, notes, language=language, known="srt"
            )
            common = {"stream_index": index, "language": language}
            found += _records(parsed, round(start * 1000), common)
    for sidecar in sidecars:
        name = sidecar["name"]
        language = language_of_file_name(name)
        path = Path(sidecar["path"])
        parsed = _read(path, f"sidecar {name!r}", limits, notes, language=language)
        common = {"language": language, "sidecar": name}
        found += _records(parsed, 0, common)
    if len(found) > limits.max_cues:
        notes.append(f"{len(found) - limits.max_cues} cues beyond {limits.max_cues} were dropped")
    return found[: limits.max_cues]


def _records(parsed: ParsedText, shift_ms: int, common: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "origin": "subtitle",
            "start_ms": max(0, cue.start_ms - shift_ms),
            "end_ms": cue.end_ms - shift_ms,
            "text": cue.text,
            **common,
        }
        for cue in parsed.cues
        if cue.end_ms > shift_ms
    ]


def _read(
    path: Path,
    what: str,
    limits: MediaLimits,
    notes: list[str],
    *,
    language: str | None,
    known: _Format | None = None,
) -> ParsedText:
    nothing = ParsedText(cues=(), broken=0, cut_short=0)
    try:
        with path.open("rb") as file:
            data = file.read(limits.max_sidecar_bytes + 1)
    except OSError as error:
        notes.append(f"{what} cannot be read: {error.strerror}")
        return nothing
    if len(data) > limits.max_sidecar_bytes:
        notes.append(f"{what} is longer than {limits.max_sidecar_bytes} bytes; the rest is skipped")
        data = data[: limits.max_sidecar_bytes]
    text = decode_text(data, language)
    form = known or _sniff(text)
    if form is None:
        notes.append(f"{what} is no SRT, WebVTT or ASS file and was skipped")
        return nothing
    try:
        parsed = parse(text, form, limits)
    except (Pysubs2Error, ValueError, LookupError, ArithmeticError) as error:
        notes.append(f"{what} cannot be parsed: {one_line(error)}")
        return nothing
    if parsed.broken:
        notes.append(f"{what}: {parsed.broken} broken cues skipped")
    if parsed.cut_short:
        notes.append(f"{what}: {parsed.cut_short} cues cut to {limits.max_cue_chars} characters")
    return parsed


def _sniff(text: str) -> _Format | None:
    start = text.lstrip("\ufeff \t\r\n")[:4096]
    if start.startswith("WEBVTT"):
        return "vtt"
    if "[Script Info]" in start or "[V4" in start:
        return "ass"
    return "srt" if "-->" in text else None


def parse(text: str, form: _Format, limits: MediaLimits) -> ParsedText:
    """Cues in order of time. Broken ones are taken out first: pysubs2 would fail on them, or add
    their text to the cue before."""
    lines = text.replace("\0", "").splitlines()
    if form == "ass":
        kept = [x for x in lines if not x.startswith("Dialogue:") or _ASS_LINE.match(x)]
        broken = len(lines) - len(kept)
        clean = "\n".join(kept)
    else:
        blocks = list(_blocks(lines, form))
        valid = [block for block in blocks if _TIMING[form].match(block[0])]
        broken = len(blocks) - len(valid)
        clean = _rebuild(valid[: limits.max_cues + 1], form, limits)
    cues: list[ParsedCue] = []
    cut_short = 0
    for event in pysubs2.SSAFile.from_string(clean, format_=form):
        if event.is_comment or event.is_drawing:
            continue
        if not 0 <= event.start < event.end:
            broken += 1
            continue
        plain = _plain(event.plaintext, form)
        if len(plain) > limits.max_cue_chars:
            plain = plain[: limits.max_cue_chars]
            cut_short += 1
        if plain:
            cues.append(ParsedCue(start_ms=event.start, end_ms=event.end, text=plain))
    cues.sort(key=lambda cue: (cue.start_ms, cue.end_ms))
    return ParsedText(cues=tuple(cues), broken=broken, cut_short=cut_short)


def _blocks(lines: list[str], form: _Format) -> Iterator[list[str]]:
    """Each line with an arrow and the lines of text that belong to it."""
    block: list[str] | None = None
    for line in lines:
        if "-->" in line:
            if block is not None:
                yield _without_index(block)
            block = [line]
        elif block is not None:
            if form == "vtt" and not line.strip():
                # Comments, styles and names of cues stand between the blocks of WebVTT.
                yield block
                block = None
            else:
                block.append(line)
    if block is not None:
        yield block


def _without_index(block: list[str]) -> list[str]:
    """Without the number of the cue that follows."""
    last = block[-1].strip()
    return block[:-1] if len(block) > 1 and last.isdigit() and not block[-2].strip() else block


def _rebuild(blocks: list[list[str]], form: _Format, limits: MediaLimits) -> str:
    room = _MARKUP_FACTOR * limits.max_cue_chars + 1
    parts = ["WEBVTT\n" if form == "vtt" else ""]
    for number, (timing, *text) in enumerate(blocks, start=1):
        parts.append(f"{number}\n{timing}\n" + "\n".join(text).strip()[:room] + "\n")
    # pysubs2 takes a number at the end of a cue for the next cue's.
    parts.append(f"{len(blocks) + 1}\n")
    return "\n".join(parts)


def _plain(text: str, form: _Format) -> str:
    if form == "vtt":
        text = html.unescape(_VTT_INNER_TIME.sub("", text))
    lines = ("".join(c for c in line if c.isprintable()).strip() for line in text.splitlines())
    return "\n".join(line for line in lines if line)
