"""What a user says of stretches of media: a file of labels."""

import csv
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.errors import ConfigurationError
from pipeline.fusion.taxonomy import MAX_LABEL_LENGTH
from pipeline.times import parse_time
from schemas.records import Shot

#: A span speaks for a shot that it covers by at least this share, or that covers it by as much.
LEAST_SHARE = 0.5
_COLUMNS = ("uri", "start", "end", "label")


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledSpan:
    """One line of the file. ``start_ms``/``end_ms``: ``None`` to the beginning, to the end.
    ``label``: ``None``: somebody looked, and none of the labels holds. ``caption``: a sentence
    about it. ``line``: where it stands.
    """

    uri: str
    start_ms: int | None
    end_ms: int | None
    label: str | None
    caption: str | None = None
    line: int

    def covers(self, shot: Shot) -> bool:
        """Whether the label is meant for this shot. An instant counts where it lies inside."""
        start_ms = 0 if self.start_ms is None else self.start_ms
        end_ms = shot.end_ms if self.end_ms is None else self.end_ms
        if shot.end_ms <= shot.start_ms:
            return start_ms <= shot.start_ms and (self.end_ms is None or shot.start_ms < end_ms)
        overlap_ms = min(end_ms, shot.end_ms) - max(start_ms, shot.start_ms)
        shorter_ms = min(end_ms - start_ms, shot.end_ms - shot.start_ms)
        return overlap_ms > 0 and overlap_ms >= LEAST_SHARE * shorter_ms


def read_labels(path: Path) -> list[LabelledSpan]:
    """Read a CSV file (UTF-8) with the columns ``uri, start, end, label``, and maybe ``caption``.

    Times are as :func:`pipeline.times.parse_time` reads them; empty ones mean from the beginning,
    or to the end. A line without a label says that none holds. Lines that say the same count once.

    Raises:
        ConfigurationError: the file cannot be read, a column is missing or there twice, a line is
            wrong, or a label is written in two ways; the message says which.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, strict=True)
            lacking = [name for name in _COLUMNS if name not in (rows.fieldnames or ())]
            if lacking:
                raise ConfigurationError(
                    f"{path} has no column {lacking[0]!r}: its first line must name "
                    f"{', '.join(_COLUMNS)}"
                )
            for name, times in Counter(rows.fieldnames).items():
                if times > 1:
                    raise ConfigurationError(f"{path} has {times} columns {name!r}: keep one")
            found = _distinct(_span(row, path, rows.line_num) for row in rows)
            _check_spelling(found, path)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigurationError(f"{path} cannot be read as CSV in UTF-8: {error}") from error
    if not any(span.label for span in found):
        raise ConfigurationError(f"{path} holds no labels: give at least one line with a label")
    return found


def _distinct(spans: Iterable[LabelledSpan]) -> list[LabelledSpan]:
    known: dict[LabelledSpan, LabelledSpan] = {}
    for span in spans:
        known.setdefault(replace(span, line=0), span)
    return list(known.values())


def _check_spelling(spans: Iterable[LabelledSpan], path: Path) -> None:
    """Whether a label is written in one way: two would count as examples against each other."""
    known: dict[str, LabelledSpan] = {}
    for span in spans:
        if span.label is None:
            continue
        first = known.setdefault(span.label.casefold(), span)
        if first.label != span.label:
            raise ConfigurationError(
                f"{path}, line {span.line}: the label {span.label!r} is {first.label!r} in line "
                f"{first.line}: write it one way"
            )


def _span(row: dict[str, str | None], path: Path, line: int) -> LabelledSpan:
    where = f"{path}, line {line}"
    if None in row:
        raise ConfigurationError(
            f"{where}: there are more fields than columns; put a field that holds a comma in "
            "double quotes"
        )
    if any("\0" in (row[name] or "") for name in _COLUMNS):
        raise ConfigurationError(f"{where}: there is a NUL character; take it out")
    uri, label = ((row[name] or "").strip() for name in ("uri", "label"))
    if not uri:
        raise ConfigurationError(f"{where}: the uri is empty")
    label = " ".join(label.split())
    if len(label) > MAX_LABEL_LENGTH:
        raise ConfigurationError(
            f"{where}: the label has {len(label)} characters; at most {MAX_LABEL_LENGTH} are "
            "allowed"
        )
    start_ms, end_ms = (_time(row[name], f"{where}: {name}") for name in ("start", "end"))
    if end_ms is not None and end_ms <= (start_ms or 0):
        raise ConfigurationError(f"{where}: the end is not after the start")
    return LabelledSpan(
        uri=uri,
        start_ms=start_ms,
        end_ms=end_ms,
        label=label or None,
        caption=" ".join((row.get("caption") or "").split()) or None,
        line=line,
    )


def _time(given: str | None, where: str) -> int | None:
    text = (given or "").strip()
    return parse_time(text, where) if text else None


def labels_of(shot: Shot, spans: Sequence[LabelledSpan]) -> frozenset[str] | None:
    """What is said of a shot; ``None``: nothing, not even that no label holds."""
    mine = [span for span in spans if span.covers(shot)]
    return frozenset(span.label for span in mine if span.label) if mine else None


def caption_of(shot: Shot, spans: Sequence[LabelledSpan]) -> str | None:
    """The first sentence that the file has about a shot."""
    return next((span.caption for span in spans if span.caption and span.covers(shot)), None)
