"""Rows per second of results written, against the driver's fastest way to write the same rows."""

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import psycopg
from sqlalchemy import insert, text

from bench.figures import Figure
from bench.queue.site import Site, note
from bench.queue.stages import chain
from pipeline.config import Settings
from pipeline.db import results
from pipeline.db.engine import Database, open_database
from pipeline.db.migrate import ensure_schema
from pipeline.runner.outputs import store_files, write_rows
from pipeline.runner.runtime import Runtime
from pipeline.stages.base import StageOutput
from schemas import tables
from schemas.records import Tag

ROUNDS = 3
ROWS = 200_000
#: Rows of one stage run: a film of 100 shots with 20 tags each; and all rows at once.
PORTIONS = (2_000, ROWS)
TAGS_PER_SHOT = 20
ASKED = 0.7

COLUMNS = (
    "stage_run_id", "asset_id", "shot_index", "label_id", "start_ms", "end_ms", "score",
    "visual_score", "audio_score", "text_score",
)  # fmt: skip

Rows = Sequence[tuple[Any, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Portion:
    """What one stage run writes: as records, and as the rows they become."""

    run: results.RunRef
    tags: Sequence[Tag]
    rows: Rows


def measure(site: Site) -> list[Figure]:
    with site.database() as (url, database):
        driver_url = url.replace("+psycopg", "")
        figures = _compare(site, database, "PostgreSQL COPY", lambda: _copying(driver_url))
    path = site.folder / "results.db"
    database = open_database(f"sqlite:///{path}")
    ensure_schema(database)
    figures += _compare(site, database, "sqlite3's executemany", lambda: _executing_many(path))
    database.close()
    return figures


def _compare(
    site: Site,
    database: Database,
    rival: str,
    connect: Callable[[], Any],
) -> list[Figure]:
    figures = []
    runtime = Runtime(
        Settings(
            data_dir=site.folder / "writing",
            database=database.engine.url.render_as_string(hide_password=False),
        )
    )
    with database.transaction() as connection:
        names = [f"label {number}" for number in range(500)]
        labels = results.name_ids(connection, tables.label, names)
    for size in PORTIONS:
        portions = [
            _portion(run, size, labels, names) for run in _runs(database, ROWS // size, size)
        ]
        ours: list[float] = []
        theirs: list[float] = []
        whole: list[float] = []
        for _ in range(ROUNDS):
            ours.append(_timed(database, partial(_write, database, portions, labels)))
            with connect() as write:
                theirs.append(_timed(database, partial(_write_bare, write, portions)))
            whole.append(_timed(database, partial(_store, runtime, portions)))
        ratio = median(ours) / median(theirs)
        note(f"writing, {rival}, {size:,} rows each: {ratio:.2f}")
        figures.append(
            Figure(
                name=f"rows written per second / {rival}, {size:,} rows a transaction",
                asked=f"at least {ASKED}",
                seen=ratio,
                met=ratio >= ASKED,
                notes=(
                    f"{median(ours):,.0f} / {median(theirs):,.0f} rows/s",
                    f"with digests and ids of labels, as a stage run: {median(whole):,.0f} rows/s",
                ),
            )
        )
    runtime.close()
    return figures


def _runs(database: Database, count: int, salt: int) -> list[results.RunRef]:
    found = []
    with database.transaction() as connection:
        for number in range(count):
            asset_id = connection.execute(
                insert(tables.asset)
                .values(
                    sha256=f"{salt:032}{number:032}",
                    kind="video",
                    container="mp4",
                    size_bytes=1,
                    has_audio=False,
                )
                .returning(tables.asset.c.id)
            ).scalar_one()
            run_id = connection.execute(
                insert(tables.stage_run)
                .values(
                    asset_id=asset_id,
                    stage="fuse",
                    queue="cpu",
                    fingerprint="0" * 64,
                    code_version=1,
                    params={},
                    inputs={},
                    state="running",
                )
                .returning(tables.stage_run.c.id)
            ).scalar_one()
            found.append(results.RunRef(stage_run_id=run_id, asset_id=asset_id))
    return found


def _portion(
    run: results.RunRef, size: int, labels: dict[str, int], names: Sequence[str]
) -> Portion:
    tags = [
        Tag(
            shot_index=number // TAGS_PER_SHOT,
            start_ms=number // TAGS_PER_SHOT * 4000,
            end_ms=number // TAGS_PER_SHOT * 4000 + 4000,
            label=names[(number * 7 + number // TAGS_PER_SHOT) % len(names)],
            score=0.25 + number % 500 / 1000,
            visual_score=0.25 + number % 300 / 1000,
        )
        for number in range(size)
    ]
    rows = [
        (
            run.stage_run_id, run.asset_id, tag.shot_index, labels[tag.label], tag.start_ms,
            tag.end_ms, tag.score, tag.visual_score, tag.audio_score, tag.text_score,
        )
        for tag in tags
    ]  # fmt: skip
    return Portion(run=run, tags=tags, rows=rows)


def _timed(database: Database, write: Callable[[], Any]) -> float:
    """Rows per second of ``write`` into the empty table."""
    with database.transaction() as connection:
        connection.execute(text("DELETE FROM tag" if database.is_sqlite else "TRUNCATE tag"))
    started = time.perf_counter()
    write()
    return ROWS / (time.perf_counter() - started)


def _write(database: Database, portions: Sequence[Portion], labels: dict[str, int]) -> None:
    """As the transaction that closes a stage run does."""
    for portion in portions:
        with database.transaction() as connection:
            results.write_tags(connection, portion.run, portion.tags, labels)


def _write_bare(write: Callable[[Rows], None], portions: Sequence[Portion]) -> None:
    for portion in portions:
        write(portion.rows)


def _store(runtime: Runtime, portions: Sequence[Portion]) -> None:
    """All that a stage run does with its records: digests, ids of labels, rows."""
    spec = list(chain().values())[-1]
    for portion in portions:
        output = StageOutput(records={"tags": portion.tags})
        stored = store_files(runtime, spec, output, runtime.settings.data_dir)
        with runtime.database.transaction() as connection:
            write_rows(connection, runtime, portion.run, stored)


@contextmanager
def _copying(url: str) -> Iterator[Callable[[Rows], None]]:
    statement = f"COPY tag ({', '.join(COLUMNS)}) FROM STDIN"

    def write(rows: Rows) -> None:
        with connection.transaction(), connection.cursor().copy(statement) as copy:
            for row in rows:
                copy.write_row(row)

    with psycopg.connect(url, autocommit=True) as connection:
        yield write


@contextmanager
def _executing_many(path: Path) -> Iterator[Callable[[Rows], None]]:
    places = ", ".join("?" for _ in COLUMNS)
    statement = f"INSERT INTO tag ({', '.join(COLUMNS)}) VALUES ({places})"  # noqa: S608  our own columns

    def write(rows: Rows) -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(statement, rows)
        connection.execute("COMMIT")

    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        # As our own connections are.
        for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON"):
            connection.execute(f"PRAGMA {pragma}")
        yield write
