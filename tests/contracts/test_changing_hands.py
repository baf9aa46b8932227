"""Runs and places that change hands while a worker goes on with what it knows of their asset."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from jobs import Process, Rival
from sqlalchemy import text
from tiny_stages import meanwhile, tiny_stages

from pipeline.db import runs
from pipeline.runner import control, execute
from pipeline.stages.base import QUEUES, StageSpec


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, StageSpec]]:
    monkeypatch.setattr(execute, "RUN_ON_SECONDS", 600.0)
    with tiny_stages(monkeypatch) as specs:
        yield specs


@pytest.fixture
def film(tmp_path: Path) -> Path:
    (tmp_path / "media").mkdir()
    return write(tmp_path / "media" / "film.mp4", "video 1")


def write(path: Path, content: str) -> Path:
    """Other bytes in a file that looks the same."""
    path.write_text(content)
    os.utime(path, (0, 0))
    return path


def due(process: Process, stage: str) -> int:
    query = "SELECT id FROM stage_run WHERE state = 'queued' AND stage = :stage"
    (row,) = process.sql(query, stage=stage)
    return int(row["id"])


def claim(process: Process, run_id: int) -> runs.ClaimedRun:
    with process.runtime.database.transaction() as connection:
        run = runs.claim(connection, run_id, owner="test/1", lease_seconds=60, max_attempts=3)
    assert run is not None
    return run


def test_an_item_that_has_other_bytes_now_is_not_closed_with_the_old_ones(
    process: Process, stages: dict[str, StageSpec], film: Path
) -> None:
    # One run after the other, so that the worker has the asset to the end.
    stages["speech"] = replace(stages["speech"], kinds=frozenset({"image"}))
    subtitles = film.with_suffix(".srt")

    def ingest_again() -> None:
        process.submit(film.parent)
        process.execute(due(process, "ingest"))

    def change() -> None:
        # The same place again, as its subtitles changed; and its bytes, unnoticed until then.
        write(film, "video 2")
        write(subtitles, "words")
        ingest_again()
        subtitles.unlink()
        ingest_again()

    process.submit(film.parent)
    process.execute(due(process, "ingest"))
    meanwhile(stages, "ocr", change)
    process.execute(due(process, "split"), QUEUES)
    items = "SELECT asset_id, state FROM job_item WHERE job_id = 1"
    assert process.sql(items) == [{"asset_id": 2, "state": "running"}]
    process.drain()
    assert process.sql(items) == [{"asset_id": 2, "state": "done"}]
    assert {row["state"] for row in process.sql("SELECT state FROM v_jobs")} == {"done"}


def shared_run(process: Process, film: Path) -> runs.ClaimedRun:
    """The ocr of a job that is cancelled while it is at work; another job comes to need it."""
    process.submit(film.parent)
    process.execute(due(process, "ingest"))
    process.execute(due(process, "split"))
    run = claim(process, due(process, "ocr"))
    control.cancel(process.runtime.database, 1)
    # Another split with the same outcome: not before it is done does the ocr turn out to be needed.
    write(film.with_suffix(".srt"), "words")
    process.submit(film.parent, parameters={"speech": {"words": "longer"}})
    process.execute(due(process, "ingest"))
    return run


def test_a_run_that_comes_back_from_a_cancelled_job_is_done_for_the_other(
    process: Process, stages: dict[str, StageSpec], film: Path
) -> None:
    run = shared_run(process, film)
    meanwhile(stages, "speech", lambda: process.give_back(run.token))
    process.execute(due(process, "split"), QUEUES)
    process.drain()
    assert process.sql("SELECT state FROM job_item WHERE job_id = 2") == [{"state": "done"}]


@pytest.mark.usefixtures("stages")
def test_also_if_it_comes_back_when_all_others_are_done(process: Process, film: Path) -> None:
    run = shared_run(process, film)
    process.drain()
    process.give_back(run.token)
    process.drain()
    assert process.sql("SELECT state FROM job_item WHERE job_id = 2") == [{"state": "done"}]


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
@pytest.mark.parametrize("cancelled", [1, 2])
def test_a_run_that_others_have_locked_is_not_cancelled_for_who_waits_for_it(
    process: Process, stages: dict[str, StageSpec], film: Path, cancelled: int
) -> None:
    database = process.runtime.database
    stages["speech"] = replace(stages["speech"], kinds=frozenset({"image"}))
    process.submit(film.parent)
    process.drain(limit=2)
    process.submit(film.parent)
    canceller = Rival(lambda: control.cancel(database, cancelled))
    with database.transaction() as connection:
        # As a dispatcher that is publishing it.
        connection.execute(
            text("UPDATE stage_run SET published_at = now() WHERE id = :run"),
            {"run": due(process, "ocr")},
        )
        canceller.start(database)
    canceller.join()
    assert canceller.error is None
    process.drain()
    other = process.sql("SELECT state FROM job_item WHERE job_id <> :job", job=cancelled)
    assert other == [{"state": "done"}]
