"""Pausing, cancelling and retrying jobs, on every database: what is shared goes on for others."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jobs import Process
from sqlalchemy import text, update

from pipeline.db import job_control, job_ends
from pipeline.errors import ConfigurationError
from pipeline.runner import control
from schemas.tables import stage_run


def states(process: Process, query: str) -> list[Any]:
    return [tuple(row.values()) for row in process.sql(query)]


ITEMS = "SELECT job_id, state, COUNT(*) FROM job_item GROUP BY job_id, state ORDER BY job_id, state"
RUNS = (
    "SELECT stage, state, job_id, COUNT(*) FROM stage_run WHERE stage <> 'expand' "
    "GROUP BY stage, state, job_id ORDER BY stage, state, job_id"
)
JOBS = "SELECT job_id, state FROM v_jobs ORDER BY job_id"


def test_a_cancelled_job_starts_nothing_more(process: Process, folder: Callable[..., Path]) -> None:
    job = process.submit(folder("media", "a.png", "b.png", "c.png"))
    process.drain(limit=1)
    database = process.runtime.database
    assert control.cancel(database, job)
    assert states(process, JOBS) == [(job, "cancelled")]
    assert states(process, ITEMS) == [(job, "cancelled", 3)]
    assert states(process, RUNS) == [
        ("ingest", "cancelled", job, 2),
        ("ingest", "succeeded", job, 1),
        ("split", "cancelled", job, 1),
    ]
    assert process.drain() == 0
    assert not control.cancel(database, job), "it is over already"
    with pytest.raises(ConfigurationError, match="there is no job 99"):
        control.cancel(database, 99)


def test_what_another_job_waits_for_goes_on_when_one_is_cancelled(
    process: Process, folder: Callable[..., Path]
) -> None:
    media = folder("media", "a.png", "b.png")
    first = process.submit(media)
    process.drain(limit=1)
    second = process.submit(media)
    assert states(process, "SELECT DISTINCT job_id FROM stage_run WHERE state = 'queued'") == [
        (second,)
    ], "the newest job takes over what is not done"
    assert control.cancel(process.runtime.database, second)
    assert states(process, ITEMS) == [(first, "pending", 1), (first, "running", 1),
                                      (second, "cancelled", 2)]  # fmt: skip
    unfinished = "SELECT stage, state, job_id FROM stage_run WHERE state = 'queued' ORDER BY stage"
    assert states(process, unfinished) == [("ingest", "queued", first), ("split", "queued", first)]


def test_a_cancelled_job_can_be_submitted_again(
    process: Process, folder: Callable[..., Path]
) -> None:
    media = folder("media", "a.png")
    control.cancel(process.runtime.database, process.submit(media))
    again = process.submit(media)
    assert process.drain(limit=1) == 1
    assert states(process, "SELECT stage, state, job_id FROM stage_run WHERE job_id > 1 "
                  "AND stage <> 'expand' ORDER BY id") == [
        ("ingest", "succeeded", again), ("split", "queued", again),
    ]  # fmt: skip


def test_a_run_at_work_in_a_cancelled_job_does_not_come_back(
    process: Process, folder: Callable[..., Path]
) -> None:
    job = process.submit(folder("media", "a.png"))
    database = process.runtime.database
    token = process.claim_next()
    control.cancel(database, job)
    assert states(process, "SELECT state FROM stage_run WHERE stage = 'ingest'") == [("running",)]
    process.give_back(token)
    assert states(process, "SELECT state FROM stage_run WHERE stage = 'ingest'") == [("cancelled",)]


def test_cancelling_that_was_broken_off_is_completed(
    process: Process, folder: Callable[..., Path]
) -> None:
    job = process.submit(folder("media", "a.png"))
    database = process.runtime.database
    with database.transaction() as connection:
        assert job_control.begin_cancelling(connection, job)
    assert states(process, JOBS) == [(job, "cancelling")]
    with database.reading() as connection:
        assert job_control.cancelling(connection) == [job]
    control.finish_cancelling(database, job)
    assert states(process, JOBS) == [(job, "cancelled")]


def test_a_paused_job_waits_and_hands_over_what_others_wait_for(
    process: Process, folder: Callable[..., Path]
) -> None:
    first = process.submit(folder("one", "a.png"))
    both = process.submit(folder("two", "b.png"), Path(process.sql(
        "SELECT uri FROM location WHERE id = 1")[0]["uri"].removeprefix("file://")))  # fmt: skip
    database = process.runtime.database
    assert control.pause(database, both)
    assert not control.pause(database, both)
    assert states(process, JOBS) == [(first, "running"), (both, "paused")]
    owners = "SELECT job_id FROM stage_run WHERE stage = 'ingest' ORDER BY location_id"
    assert states(process, owners) == [(first,), (both,)]
    assert control.resume(database, both)
    assert not control.resume(database, both)
    assert states(process, JOBS) == [(first, "running"), (both, "running")]


def test_failures_are_retried_by_class_and_bad_media_only_when_named(
    process: Process, folder: Callable[..., Path]
) -> None:
    media = folder("media", "empty.mp4", "gone.png")
    job = process.submit(media)
    (media / "gone.png").rename(media / "away.bin")
    process.drain()
    database = process.runtime.database
    failed = (
        "SELECT error_class, attempt FROM stage_run WHERE state = 'failed' ORDER BY error_class"
    )
    assert states(process, failed) == [("InvalidMediaError", 1), ("ObjectNotFoundError", 1)]
    assert states(process, JOBS) == [(job, "failed")]

    assert control.retry(database, job_id=job, error_class="StoreUnavailableError") == 0
    (media / "away.bin").rename(media / "gone.png")
    assert control.retry(database, job_id=job) == 1
    assert states(process, JOBS) == [(job, "running")]
    assert states(process, ITEMS) == [(job, "failed", 1), (job, "pending", 1)]
    process.drain(limit=1)
    assert states(process, ITEMS) == [(job, "failed", 1), (job, "running", 1)]

    assert control.retry(database, error_class="InvalidMediaError", stage="split") == 0
    assert control.retry(database, error_class="InvalidMediaError") == 1
    with pytest.raises(ConfigurationError, match="there is no job 7"):
        control.retry(database, job_id=7)


def test_a_listing_that_failed_is_retried(process: Process, folder: Callable[..., Path]) -> None:
    media = folder("media", "a.png")
    job = process.accept(media)
    with process.runtime.database.transaction() as connection:
        # As three attempts in a row would leave it.
        connection.execute(
            update(stage_run).values(
                state="failed", attempt=3, error_class="StoreUnavailableError", error_text="away"
            )
        )
        connection.execute(
            text("UPDATE job SET state = 'failed', error_class = 'StoreUnavailableError'")
        )
    assert control.retry(process.runtime.database, job_id=job) == 1
    assert states(process, JOBS) == [(job, "expanding")]
    process.drain(limit=1)
    assert states(process, ITEMS) == [(job, "pending", 1)]
    assert process.sql("SELECT error_class, state FROM v_jobs") == [
        {"error_class": None, "state": "running"}
    ]


def test_a_listing_that_is_retried_finds_its_items_as_they_are(
    process: Process, folder: Callable[..., Path]
) -> None:
    media = folder("media", "a.png")
    job = process.submit(media)
    with process.runtime.database.transaction() as connection:
        # As if the store had refused the rest of the listing.
        connection.execute(text("UPDATE job SET state = 'expanding'"))
        connection.execute(
            update(stage_run)
            .where(stage_run.c.stage == "expand")
            .values(state="failed", error_class="AccessDeniedError", error_text="403")
        )
        job_ends.abandon(
            connection, job, "failed", error_class="AccessDeniedError", error_text="403"
        )
    # What it had queued is worked off all the same.
    assert process.drain(limit=1) == 1
    assert states(process, ITEMS) == [(job, "cancelled", 1)]
    assert control.retry(process.runtime.database, error_class="AccessDeniedError") == 1
    process.drain(limit=1)
    assert states(process, ITEMS) == [(job, "running", 1)]
    assert states(process, "SELECT stage, state FROM stage_run WHERE stage = 'split'") == [
        ("split", "queued")
    ]


def test_an_asset_that_closes_many_items_at_once_closes_their_job(
    process: Process, folder: Callable[..., Path]
) -> None:
    media = folder("media", "a.png", "e.mp4")
    for number in range(5):
        (media / f"copy-{number}.png").write_bytes((media / "a.png").read_bytes())
    job = process.submit(media)
    # The ingests: six places of one picture, and one file that is no media.
    assert process.drain(limit=7) == 7
    assert states(process, ITEMS) == [(job, "failed", 1), (job, "running", 6)]
    control.cancel(process.runtime.database, job)
    assert states(process, ITEMS) == [(job, "cancelled", 6), (job, "failed", 1)]
