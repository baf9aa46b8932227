"""Result rows: from the records a stage makes into tables, and back."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any, TypeVar

import numpy as np
from sqlalchemy import Connection, Row, Table, select
from sqlalchemy.dialects import postgresql, sqlite

from pipeline.db.bulk import insert_rows
from schemas import tables
from schemas.records import (
    Box,
    Caption,
    Classification,
    Cue,
    CueSource,
    Embedding,
    Evidence,
    Keyframe,
    Shot,
    Sound,
    SoundEvent,
    Stretch,
    Tag,
    Word,
)

RecordT = TypeVar("RecordT")

#: Fields of a tag that are columns as they stand.
_PLAIN_OF_TAG = tuple(
    field.name for field in fields(Tag) if field.name not in ("label", "evidence")
)
_plain_of_tag = attrgetter(*_PLAIN_OF_TAG)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRef:
    """The run that rows belong to."""

    stage_run_id: int
    asset_id: int


def insert_or_ignore(connection: Connection, table: Table) -> Any:
    """``INSERT … ON CONFLICT DO NOTHING`` of the connection's dialect."""
    kind = postgresql if connection.dialect.name == "postgresql" else sqlite
    return kind.insert(table).on_conflict_do_nothing()


def name_ids(connection: Connection, table: Table, names: Iterable[str]) -> dict[str, int]:
    """Ids of ``names`` in a table of (id, name), made where they are missing.

    To be called in a short transaction of its own: writers of the same new name wait for each
    other until it ends.
    """
    # Sorted: two writers that insert the same names in different orders would deadlock.
    wanted = sorted(set(names))
    if not wanted:
        return {}
    found = _existing_ids(connection, table, wanted)
    missing = [{"name": name} for name in wanted if name not in found]
    if missing:
        connection.execute(insert_or_ignore(connection, table), missing)
        found |= _existing_ids(connection, table, [row["name"] for row in missing])
    return found


def _existing_ids(connection: Connection, table: Table, names: Sequence[str]) -> dict[str, int]:
    query = select(table.c.name, table.c.id).where(table.c.name.in_(names))
    return {row[0]: row[1] for row in connection.execute(query)}


def write_shots(connection: Connection, run: RunRef, shots: Sequence[Shot]) -> None:
    _write_plain(connection, tables.shot, run, shots)


def write_stretches(connection: Connection, run: RunRef, stretches: Sequence[Stretch]) -> None:
    _write_plain(connection, tables.stretch, run, stretches)


def write_sounds(connection: Connection, run: RunRef, sounds: Sequence[Sound]) -> None:
    _write_plain(connection, tables.sound, run, sounds)


def write_cue_sources(connection: Connection, run: RunRef, sources: Sequence[CueSource]) -> None:
    _write_plain(connection, tables.cue_source, run, sources)


def write_keyframes(
    connection: Connection,
    run: RunRef,
    keyframes: Sequence[Keyframe],
    artifact_uri: Callable[[str], str],
) -> None:
    _write_plain(
        connection,
        tables.keyframe,
        run,
        keyframes,
        extra=("uri", lambda keyframe: artifact_uri(keyframe.sha256)),
    )


def write_captions(connection: Connection, run: RunRef, captions: Sequence[Caption]) -> None:
    _write_plain(connection, tables.caption, run, captions)


def write_cues(connection: Connection, run: RunRef, cues: Sequence[Cue]) -> None:
    columns = [
        "stage_run_id", "asset_id", "cue_index", "origin", "stream_index", "sidecar", "language",
        "start_ms", "end_ms", "text", "confidence",
        "box_left", "box_top", "box_width", "box_height",
    ]  # fmt: skip
    rows = [
        (
            run.stage_run_id, run.asset_id, index, cue.origin, cue.stream_index, cue.sidecar,
            cue.language, cue.start_ms, cue.end_ms, without_nul(cue.text), cue.confidence,
            *((cue.box.left, cue.box.top, cue.box.width, cue.box.height)
              if cue.box else (None, None, None, None)),
        )
        for index, cue in enumerate(cues)
    ]  # fmt: skip
    insert_rows(connection, tables.cue, columns, rows)


def write_words(connection: Connection, run: RunRef, words: Sequence[Word]) -> None:
    _write_plain(connection, tables.word, run, words)


def without_nul(value: str) -> str:
    """PostgreSQL has no NUL character in texts; media may have them anywhere."""
    return value.replace("\x00", "")


def write_tags(
    connection: Connection, run: RunRef, tags: Sequence[Tag], labels: Mapping[str, int]
) -> None:
    """``labels``: ids by name, from :func:`name_ids`."""
    columns = [
        "stage_run_id", "asset_id", "label_id", *_PLAIN_OF_TAG,
        "evidence_modality", "evidence_start_ms", "evidence_end_ms",
    ]  # fmt: skip
    rows = [
        (
            run.stage_run_id, run.asset_id, labels[tag.label], *_plain_of_tag(tag),
            *((tag.evidence.modality, tag.evidence.start_ms, tag.evidence.end_ms)
              if tag.evidence else (None, None, None)),
        )
        for tag in tags
    ]  # fmt: skip
    insert_rows(connection, tables.tag, columns, rows)


def write_sound_events(
    connection: Connection, run: RunRef, events: Sequence[SoundEvent], labels: Mapping[str, int]
) -> None:
    """``labels``: ids by name, from :func:`name_ids`."""
    columns = ["stage_run_id", "asset_id", "label_id", "start_ms", "end_ms", "score"]
    rows = [
        (
            run.stage_run_id, run.asset_id, labels[event.label], event.start_ms, event.end_ms,
            event.score,
        )
        for event in events
    ]  # fmt: skip
    insert_rows(connection, tables.sound_event, columns, rows)


def write_classifications(
    connection: Connection,
    run: RunRef,
    classifications: Sequence[Classification],
    labels: Mapping[str, int],
    taxonomies: Mapping[str, int],
) -> None:
    """``labels``, ``taxonomies``: ids by name, from :func:`name_ids`."""
    rows = [
        (
            run.stage_run_id,
            run.asset_id,
            found.shot_index,
            taxonomies[found.taxonomy],
            labels[found.class_name],
            found.score,
        )
        for found in classifications
    ]
    columns = ["stage_run_id", "asset_id", "shot_index", "taxonomy_id", "label_id", "score"]
    insert_rows(connection, tables.classification, columns, rows)


def write_embeddings(connection: Connection, run: RunRef, embeddings: Sequence[Embedding]) -> None:
    columns = [
        "stage_run_id", "asset_id", "shot_index", "space", "start_ms", "end_ms", "dimension",
        "vector",
    ]  # fmt: skip
    rows = [
        (
            run.stage_run_id, run.asset_id, found.shot_index, found.space, found.start_ms,
            found.end_ms, found.vector.size, found.vector.astype("<f4").tobytes(),
        )
        for found in embeddings
    ]  # fmt: skip
    insert_rows(connection, tables.embedding, columns, rows)


def _write_plain(
    connection: Connection,
    table: Table,
    run: RunRef,
    records: Sequence[Any],
    extra: tuple[str, Callable[[Any], Any]] | None = None,
) -> None:
    """Records whose fields are named as the table's columns are."""
    if not records:
        return
    names = _field_names(type(records[0]))
    columns = ["stage_run_id", "asset_id", *names]
    rows = [
        (run.stage_run_id, run.asset_id, *(_storable(getattr(record, name)) for name in names))
        for record in records
    ]
    if extra:
        columns.append(extra[0])
        rows = [(*row, extra[1](record)) for row, record in zip(rows, records, strict=True)]
    insert_rows(connection, table, columns, rows)


def _storable(value: Any) -> Any:
    return without_nul(value) if isinstance(value, str) else value


def _field_names(kind: Any) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))


def read_shots(connection: Connection, stage_run_id: int) -> list[Shot]:
    return _read_plain(connection, tables.shot, Shot, stage_run_id, "shot_index")


def read_keyframes(connection: Connection, stage_run_id: int) -> list[Keyframe]:
    return _read_plain(
        connection, tables.keyframe, Keyframe, stage_run_id, "shot_index", "keyframe_index"
    )


def read_cue_sources(connection: Connection, stage_run_id: int) -> list[CueSource]:
    return _read_plain(connection, tables.cue_source, CueSource, stage_run_id, "source_index")


def read_cues(connection: Connection, stage_run_id: int) -> list[Cue]:
    query = (
        select(tables.cue)
        .where(tables.cue.c.stage_run_id == stage_run_id)
        .order_by(tables.cue.c.cue_index)
    )
    return [_cue(row) for row in connection.execute(query)]


def read_tags(connection: Connection, stage_run_id: int) -> list[Tag]:
    tag, label = tables.tag, tables.label
    query = (
        select(tag, label.c.name)
        .join(label, label.c.id == tag.c.label_id)
        .where(tag.c.stage_run_id == stage_run_id)
        .order_by(tag.c.shot_index, tag.c.score.desc(), label.c.name)
    )
    return [
        Tag(
            label=row.name,
            **{name: row._mapping[name] for name in _PLAIN_OF_TAG},
            evidence=_evidence(row),
        )
        for row in connection.execute(query)
    ]


def _evidence(row: Row[Any]) -> Evidence | None:
    if row.evidence_modality is None:
        return None
    return Evidence(
        modality=row.evidence_modality,
        start_ms=row.evidence_start_ms,
        end_ms=row.evidence_end_ms,
    )


def read_sound_events(connection: Connection, stage_run_id: int) -> list[SoundEvent]:
    event, label = tables.sound_event, tables.label
    query = (
        select(event.c.start_ms, event.c.end_ms, label.c.name, event.c.score)
        .join(label, label.c.id == event.c.label_id)
        .where(event.c.stage_run_id == stage_run_id)
        .order_by(event.c.start_ms, event.c.end_ms, label.c.name)
    )
    return [
        SoundEvent(start_ms=row.start_ms, end_ms=row.end_ms, label=row.name, score=row.score)
        for row in connection.execute(query)
    ]


def vector_of(blob: bytes) -> Any:
    """The float32 vector stored in ``embedding.vector``."""
    return np.frombuffer(blob, dtype="<f4")


def _read_plain(
    connection: Connection, table: Table, kind: type[RecordT], stage_run_id: int, *order: str
) -> list[RecordT]:
    names = _field_names(kind)
    query = (
        select(*(table.c[name] for name in names))
        .where(table.c.stage_run_id == stage_run_id)
        .order_by(*(table.c[name] for name in order))
    )
    return [kind(**row._mapping) for row in connection.execute(query)]


def _cue(row: Row[Any]) -> Cue:
    box = None
    if row.box_left is not None:
        box = Box(left=row.box_left, top=row.box_top, width=row.box_width, height=row.box_height)
    return Cue(
        origin=row.origin,
        start_ms=row.start_ms,
        end_ms=row.end_ms,
        text=row.text,
        stream_index=row.stream_index,
        language=row.language,
        confidence=row.confidence,
        box=box,
        sidecar=row.sidecar,
    )


def artifacts_of(connection: Connection, stage_run_ids: Sequence[int]) -> dict[str, str]:
    """Named artifacts of these runs: name → sha256."""
    query = select(tables.artifact.c.name, tables.artifact.c.sha256).where(
        tables.artifact.c.stage_run_id.in_(stage_run_ids)
    )
    return {row.name: row.sha256 for row in connection.execute(query)}


def locations_of(connection: Connection, asset_id: int) -> list[Any]:
    """Where the asset was seen, the places that still hold it first."""
    query = (
        select(tables.location)
        .where(tables.location.c.asset_id == asset_id)
        .order_by(tables.location.c.is_current.desc(), tables.location.c.id)
    )
    return list(connection.execute(query))
