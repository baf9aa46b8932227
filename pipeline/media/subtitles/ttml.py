"""TTML brought to what pysubs2 reads: one namespace, and a clock time on every paragraph.

pysubs2 knows neither times in frames and ticks nor those of spans and regions, nor the namespaces
of before 2010 (DFXP); one paragraph that it cannot read fails the whole file.
"""

import math
import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass

_NAMESPACE = "http://www.w3.org/ns/ttml"
_TIMED = frozenset({"body", "div", "p"})
_KEPT_IN_TEXT = frozenset({"span", "br"})
_CLOCK = re.compile(r"(\d{1,4}):([0-5]?\d):([0-5]?\d(?:\.\d{1,9})?)(?::(\d{1,4})(?:\.\d+)?)?")
_OFFSET = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)(h|ms|m|s|f|t)")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_DEFAULT_FRAME_RATE = 30.0
#: Paragraphs without an end of their own or of what they stand in last this long.
_OPEN_SECONDS = 5.0
_MAX_DEPTH = 50


@dataclass(frozen=True, slots=True)
class _Rates:
    frame: float
    tick: float


@dataclass(frozen=True, slots=True)
class _Found:
    """Where paragraphs go, how many, and of how many characters."""

    body: ET.Element
    at_most: int
    max_chars: int

    @property
    def is_full(self) -> bool:
        return len(self.body) > self.at_most


def absolute_times(
    text: str, at_most: int, max_chars: int, frame_rate: float | None
) -> tuple[str, int]:
    """The document rewritten, and how many of its paragraphs have no readable times.

    ``max_chars``: of the text of a paragraph that are kept; a line break counts as one.
    ``frame_rate``: the video's, where the document states none.

    Raises:
        ValueError: it is no XML, or nested without end.
    """
    # The declaration names the encoding of the bytes, which are decoded already.
    text = re.sub(r"^\s*<\?xml[^>]*\?>", "", text.lstrip("\ufeff"))
    if "<!ENTITY" in text:
        # Expat would let them grow to a hundred times the file.
        raise ValueError("it declares entities, which subtitles do not need")
    try:
        root = ET.fromstring(text)  # noqa: S314 - without entities, in a process that is bounded
    except ET.ParseError as error:
        raise ValueError(f"it is not well-formed: {error}") from error
    tree = ET.Element(f"{{{_NAMESPACE}}}tt")
    body = ET.SubElement(ET.SubElement(tree, f"{{{_NAMESPACE}}}body"), f"{{{_NAMESPACE}}}div")
    rates = _rates(root, frame_rate)
    broken = 0
    for source in (child for child in root if _name(child) == "body"):
        broken += _flatten(source, (0.0, math.inf), rates, _Found(body, at_most, max_chars))
    return ET.tostring(tree, encoding="unicode"), broken


def _name(element: ET.Element) -> str:
    tag = element.tag
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


def _rates(root: ET.Element, frame_rate: float | None) -> _Rates:
    stated = {key.rpartition("}")[2]: value for key, value in root.attrib.items()}
    frame = _number(stated.get("frameRate")) or frame_rate or _DEFAULT_FRAME_RATE
    top, _, bottom = stated.get("frameRateMultiplier", "").replace(":", " ").partition(" ")
    if "frameRate" in stated and _number(top):
        frame *= _number(top) / (_number(bottom) or 1.0)
    return _Rates(frame, _number(stated.get("tickRate")) or frame)


def _number(text: str | None) -> float:
    return float(text) if text and re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text.strip()) else 0.0


def _flatten(
    element: ET.Element,
    parent: tuple[float, float],
    rates: _Rates,
    found: _Found,
    depth: int = 0,
) -> int:
    """Add the paragraphs of ``element`` to ``found``; gives how many were broken."""
    if depth > _MAX_DEPTH:
        raise ValueError(f"its elements are nested more than {_MAX_DEPTH} deep")
    span = _span(element, parent, rates)
    is_paragraph = _name(element) == "p"
    if span is None:
        return sum(_name(part) == "p" for part in element.iter())
    if is_paragraph:
        _add_paragraph(element, span, rates, found)
        return 0
    # Siblings that follow each other in time begin where the one before ends.
    in_turn = element.get("timeContainer") == "seq"
    begin, broken = span[0], 0
    for child in (child for child in element if _name(child) in _TIMED):
        broken += _flatten(child, (begin, span[1]), rates, found, depth + 1)
        own = _span(child, (begin, span[1]), rates)
        if in_turn and own is not None and own[1] < math.inf:
            begin = own[1]
    return broken


def _add_paragraph(
    element: ET.Element, span: tuple[float, float], rates: _Rates, found: _Found
) -> None:
    """The paragraph, or each of its spans where they bring times of their own."""
    timed = [child for child in element if child.get("begin") or child.get("end")]
    for part in timed or [element]:
        own = span if part is element else _span(part, span, rates)
        if own is None or found.is_full:
            continue
        begin, end = own
        end = begin + _OPEN_SECONDS if end == math.inf else end
        paragraph = ET.SubElement(found.body, f"{{{_NAMESPACE}}}p")
        paragraph.attrib.update(begin=f"{begin:.3f}s", end=f"{end:.3f}s")
        paragraph.text = (part.text or "")[: found.max_chars]
        _copy_text(part, paragraph, found.max_chars - len(paragraph.text), 0)


def _copy_text(source: ET.Element, target: ET.Element, room: int, depth: int) -> int:
    """Spans and line breaks; of anything else (metadata) only what follows it. Gives how much of
    the room is left."""
    for child in source:
        if room <= 0:
            break
        tail = child.tail or ""
        if _name(child) in _KEPT_IN_TEXT and depth < _MAX_DEPTH:
            copy = ET.SubElement(target, f"{{{_NAMESPACE}}}{_name(child)}")
            copy.text = (child.text or "")[:room]
            room = _copy_text(child, copy, room - len(copy.text) - 1, depth + 1)
            copy.tail = tail[: max(0, room)]
        elif len(target):
            target[-1].tail = (target[-1].tail or "") + tail[:room]
        else:
            target.text = (target.text or "") + tail[:room]
        room -= len(tail)
    return room


def _span(
    element: ET.Element, parent: tuple[float, float], rates: _Rates
) -> tuple[float, float] | None:
    """Begin and end in seconds, within the parent's; ``None`` where they cannot be read."""
    stated = [element.get(name) for name in ("begin", "end", "dur")]
    times = [None if text is None else _seconds(text.strip(), rates) for text in stated]
    if any(text is not None and time is None for text, time in zip(stated, times, strict=True)):
        return None
    begin = parent[0] + (times[0] or 0.0)
    end = parent[1] if times[1] is None else min(parent[1], parent[0] + times[1])
    if times[2] is not None:
        end = min(end, begin + times[2])
    return begin, end


def _seconds(text: str, rates: _Rates) -> float | None:
    clock = _CLOCK.fullmatch(text)
    if clock is not None:
        hours, minutes, seconds, frames = clock.groups()
        whole = int(hours) * 3600 + int(minutes) * 60 + float(seconds)
        return whole + (int(frames) / rates.frame if frames else 0.0)
    offset = _OFFSET.fullmatch(text)
    if offset is None:
        return None
    count, unit = float(offset[1]), offset[2]
    if unit == "f":
        return count / rates.frame
    return count / rates.tick if unit == "t" else count * _SECONDS[unit]
