"""Text of a subtitle file → cues. pysubs2 parses; what it would stumble over is taken out before.

Runs in the child only.
"""

import html
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import pysubs2
from pysubs2.exceptions import Pysubs2Error

from pipeline.media.limits import MediaLimits
from pipeline.media.messages import one_line
from pipeline.media.subtitles.ttml import absolute_times

Format = Literal["srt", "vtt", "ass", "ttml", "sami", "microdvd"]

_SRT_TIME = r"\d{1,2}:[0-5]?\d:[0-5]?\d[.,]\d{1,3}"
_VTT_TIME = r"(\d{2,4}:)?[0-5]\d:[0-5]\d\.\d{3}"
_TIMING: dict[str, re.Pattern[str]] = {
    "srt": re.compile(rf"\s*{_SRT_TIME}\s*-->\s*{_SRT_TIME}(\s|$)"),
    "vtt": re.compile(rf"\s*{_VTT_TIME}\s+-->\s+{_VTT_TIME}(\s|$)"),
}
_ASS_LINE = re.compile(r"Dialogue:[^,]*,\s*\d+:\d+:\d+[.:]\d+\s*,\s*\d+:\d+:\d+[.:]\d+\s*,")
#: Times inside a WebVTT cue (karaoke), which pysubs2 leaves in.
_VTT_INNER_TIME = re.compile(r"<[\d:.]+>")
_SAMI_SYNC = re.compile(r"(<sync\b[^>]*>)", re.IGNORECASE)
_SAMI_START = re.compile(r"<sync\b[^>]*?\bstart\s*=\s*[\"']?(\d{1,9})\b", re.IGNORECASE)
_MICRODVD_LINE = re.compile(r"\s*\{\s*\d{1,8}\s*\}\s*\{\s*\d{1,8}\s*\}")
#: A first line that states the frame rate in place of a text.
_MICRODVD_RATE = re.compile(r"\s*\{[01]\}\{[01]\}(\d{1,3}(?:\.\d+)?)\s*")
_DEFAULT_FRAME_RATE = 25.0
#: Markup may take this much more room than the text that is kept. What is longer is cut before any
#: pattern is looked for in it: those of pysubs2 take time with the square of the length.
_MARKUP_FACTOR = 2
_ASS_MARKUP_FACTOR = 4
_OVERRIDES = re.compile(r"\{[^}]*\}")
_DRAWING = re.compile(r"\\p[1-9]")
#: Ten thousand hours: what states to be shown later is damaged.
_LATEST_MS = 36_000_000_000


class UnreadableSubtitleError(ValueError):
    """No cue of the text can be had; the message says why, for the inside of a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedCue:
    """A cue's own times, and its text without markup."""

    start_ms: int
    end_ms: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedText:
    """What a subtitle holds. ``broken``: cues without valid times or without length."""

    cues: tuple[ParsedCue, ...]
    broken: int
    cut_short: int

    def moved(self, start_ms: int) -> "ParsedText":
        """On the clock that begins at ``start_ms``; what ends before that is not shown."""
        cues = (
            replace(cue, start_ms=max(0, cue.start_ms - start_ms), end_ms=cue.end_ms - start_ms)
            for cue in self.cues
            if cue.end_ms > start_ms
        )
        return replace(self, cues=tuple(cues))


def sniff(text: str) -> Format | None:
    """The format of a subtitle file, by its content; ``None``: none that is known here."""
    start = text[:4096].replace("\0", "").lstrip("\ufeff \t\r\n")
    if start.startswith("WEBVTT"):
        return "vtt"
    if "[Script Info]" in start or "[V4" in start:
        return "ass"
    lowered = start.lower()
    if "<sami" in lowered:
        return "sami"
    if "<tt" in lowered and ("ttml" in lowered or "ttaf" in lowered or "<tt>" in lowered):
        return "ttml"
    if "-->" in text:
        return "srt"
    return "microdvd" if _MICRODVD_LINE.match(start) else None


def parse(
    text: str, form: Format, limits: MediaLimits, *, frame_rate: float | None = None
) -> ParsedText:
    """Cues in order of time. Broken ones are taken out first: pysubs2 would fail on them, or add
    their text to the cue before. ``frame_rate``: the video's, for times that count frames.

    Raises:
        UnreadableSubtitleError: the text cannot be parsed at all.
    """
    text = text.replace("\0", "")
    room = _MARKUP_FACTOR * limits.max_cue_chars + 1
    options: dict[str, Any] = {}
    try:
        if form == "ttml":
            clean, broken = absolute_times(text, limits.max_cues, room, frame_rate)
        elif form == "sami":
            clean, broken = _without_broken_syncs(text, room)
        elif form == "microdvd":
            clean, broken = _valid_lines(text, _MICRODVD_LINE, "{", room)
            stated = _MICRODVD_RATE.fullmatch(clean.partition("\n")[0])
            if stated is not None:
                clean = clean.partition("\n")[2]
            rate = float(stated[1]) if stated is not None else frame_rate
            options["fps"] = rate or _DEFAULT_FRAME_RATE
        elif form == "ass":
            clean, broken = _valid_lines(text, _ASS_LINE, "Dialogue:", _ASS_MARKUP_FACTOR * room)
        else:
            blocks = list(_blocks(text.splitlines(), form))
            valid = [block for block in blocks if _TIMING[form].match(block[0])]
            broken = len(blocks) - len(valid)
            clean = _rebuild(valid[: limits.max_cues + 1], form, room)
        with warnings.catch_warnings():
            # Fields that do not matter here have other values than they should.
            warnings.simplefilter("ignore", RuntimeWarning)
            parsed = pysubs2.SSAFile.from_string(clean, format_=form, **options)
    except (Pysubs2Error, ValueError, LookupError, ArithmeticError, NotImplementedError) as error:
        raise UnreadableSubtitleError(one_line(error)) from error
    if form == "sami":
        _shown_until_next(parsed.events)
    return from_events(parsed.events, form, limits, broken=broken)


def from_events(
    events: list[pysubs2.SSAEvent], form: Format, limits: MediaLimits, *, broken: int = 0
) -> ParsedText:
    """Cues in order of time out of pysubs2's events, without markup, comments and drawings."""
    cues: list[ParsedCue] = []
    cut_short = 0
    for event in events:
        if event.is_comment:
            continue
        if not 0 <= event.start < event.end <= _LATEST_MS:
            # A sync without text ends a SAMI cue.
            broken += form != "sami"
            continue
        event.text, is_drawing = without_overrides(event.text)
        plain = "" if is_drawing else _plain(event.plaintext, form)
        if len(plain) > limits.max_cue_chars:
            plain = plain[: limits.max_cue_chars]
            cut_short += 1
        if plain:
            cues.append(ParsedCue(start_ms=event.start, end_ms=event.end, text=plain))
    cues.sort(key=lambda cue: (cue.start_ms, cue.end_ms))
    return ParsedText(cues=tuple(cues), broken=broken, cut_short=cut_short)


def without_overrides(text: str) -> tuple[str, bool]:
    """The text without what stands in braces, and whether that says that the rest is a drawing."""
    # Behind the last brace that closes, each one that opens would be looked at to the end.
    head, brace, tail = text.rpartition("}")
    is_drawing = any(_DRAWING.search(found) for found in _OVERRIDES.findall(head + brace))
    return _OVERRIDES.sub("", head + brace) + tail, is_drawing


def _valid_lines(text: str, valid: re.Pattern[str], begins: str, room: int) -> tuple[str, int]:
    """The lines that are cues, cut to ``room``, and how many only begin like one."""
    kept, broken = [], 0
    for line in text.splitlines():
        if valid.match(line):
            head, brace, tail = line[:room].rpartition("}")
            kept.append(head + brace + tail.replace("{", ""))
        else:
            broken += line.startswith(begins)
    return "\n".join(kept), broken


def _without_broken_syncs(text: str, room: int) -> tuple[str, int]:
    # Behind the last tag, each one that opens would be looked at to the end.
    head, bracket, tail = text.rpartition(">")
    before, *pieces = _SAMI_SYNC.split(head + bracket)
    if not pieces:
        return before + tail, 0
    pieces[-1] += tail
    kept, broken = [], 0
    for tag, content in zip(pieces[::2], pieces[1::2], strict=True):
        start = _SAMI_START.match(tag)
        broken += start is None
        if start is not None:
            # The name of a paragraph's language is no text of it; spaces that do not break are
            # spaces.
            plain = content[:room].replace("&nbsp", "\u00a0").replace("\u00a0;", "\u00a0")
            kept.append(f"<sync start={start[1]}>{plain}")
    return "".join(kept), broken


def _shown_until_next(events: list[pysubs2.SSAEvent]) -> None:
    """SAMI states no ends: a text stands until the next sync; pysubs2 guesses from its length."""
    for event, following in pairwise(events):
        event.end = max(event.start, following.start)


def _blocks(lines: list[str], form: Format) -> Iterator[list[str]]:
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


def _rebuild(blocks: list[list[str]], form: Format, room: int) -> str:
    parts = ["WEBVTT\n" if form == "vtt" else ""]
    for number, (timing, *lines) in enumerate(blocks, start=1):
        text = "\n".join(line for line in lines if line.strip())
        parts.append(f"{number}\n{timing}\n{text[:room]}\n")
    # pysubs2 takes a number at the end of a cue for the next cue's.
    parts.append(f"{len(blocks) + 1}\n")
    return "\n".join(parts)


def _plain(text: str, form: Format) -> str:
    if form == "vtt":
        text = html.unescape(_VTT_INNER_TIME.sub("", text))
    lines = ("".join(c for c in line if c.isprintable()).strip() for line in text.splitlines())
    return "\n".join(line for line in lines if line)
