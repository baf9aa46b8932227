"""The outbox on every database: what is written, who may send it, and what is kept."""

import json
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from database_rows import add_asset, add_run, rows
from sqlalchemy import insert, text, update

from pipeline.db import outbox
from pipeline.db.engine import Database
from schemas import tables
from schemas.events import AssetFinished, JobFinished
from schemas.operations import outbox as outbox_table

REASON = 'no "media" é' + "x" * 5000


def add_job(database: Database, **values: Any) -> int:
    given = {"name": "Archive", "profile": "offline", "sources": [], "plan": {}}
    with database.transaction() as connection:
        query = insert(tables.job).values(**{**given, "state": "running", **values})
        return int(connection.execute(query.returning(tables.job.c.id)).scalar_one())


def add_items(database: Database, job_id: int, states: Sequence[str]) -> list[int]:
    """Items of locations 1…; the failed ones failed with a run of their own."""
    asset_id = add_asset(database, uri="file:///0.mp4")
    run_id = add_run(database, asset_id)
    with database.transaction() as connection:
        for number in range(1, len(states)):
            connection.execute(
                insert(tables.location).values(uri=f"file:///{number}.mp4", etag="e")
            )
        for location_id, state in enumerate(states, start=1):
            connection.execute(
                insert(tables.job_item).values(
                    job_id=job_id,
                    location_id=location_id,
                    asset_id=asset_id if location_id == 1 else None,
                    ingest_run_id=run_id,
                    failed_run_id=run_id if state == "failed" else None,
                    state=state,
                    error_class="InvalidMediaError" if state == "failed" else None,
                    error_text=REASON if state == "failed" else None,
                )
            )
    return list(range(1, len(states) + 1))


def add_events(database: Database, count: int, webhook: str | None = None) -> list[int]:
    with database.transaction() as connection:
        row = {"topic": "asset.done", "body": {"event": "asset.finished"}, "webhook": webhook}
        connection.execute(insert(outbox_table), [row] * count)
    return [row["id"] for row in rows(database, "SELECT id FROM outbox ORDER BY id")][-count:]


def take(
    database: Database, channel: outbox.Channel = "exchange", limit: int = 100
) -> list[outbox.Event]:
    with database.transaction() as connection:
        return outbox.take_batch(connection, limit, channel)


def finish_items(database: Database, job_id: int, location_ids: Sequence[int]) -> None:
    with database.transaction() as connection:
        outbox.add_finished_items(connection, job_id, location_ids)


def finish_job(database: Database, job_id: int) -> None:
    with database.transaction() as connection:
        outbox.add_finished_job(connection, job_id)


def test_each_closed_item_is_one_event_that_follows_the_schema(database: Database) -> None:
    job_id = add_job(database, events="assets", job_key="key-1")
    ids = add_items(database, job_id, ["done", "failed", "cancelled", "running"])
    finish_items(database, job_id, ids)
    events = take(database)
    assert [event.topic for event in events] == ["asset.done", "asset.failed", "asset.cancelled"]
    bodies = [AssetFinished.model_validate_json(event.payload) for event in events]
    assert [body.uri for body in bodies] == [f"file:///{n}.mp4" for n in range(3)]
    assert [body.status for body in bodies] == ["done", "failed", "cancelled"]
    assert {(body.job_id, body.job_key) for body in bodies} == {(job_id, "key-1")}
    assert (bodies[0].asset_id, bodies[0].sha256) == (1, "a" * 64)
    assert (bodies[2].asset_id, bodies[2].sha256) == (None, None)
    assert (bodies[0].error_class, bodies[0].error_text) == (None, None)
    assert bodies[1].error_class == "InvalidMediaError"
    assert bodies[1].error_text == 'no "media" é' + "x" * (outbox.MAX_ERROR_CHARACTERS - 12)
    assert bodies[0].finished_at.utcoffset() is not None
    # Every field is there, also where it is null.
    assert set(json.loads(events[2].payload)) == set(AssetFinished.model_fields)


@pytest.mark.parametrize("level", ["none", "jobs"])
def test_items_of_jobs_that_ask_for_none_leave_no_event(database: Database, level: str) -> None:
    job_id = add_job(database, events=level)
    finish_items(database, job_id, add_items(database, job_id, ["done"]))
    assert take(database) == []


@pytest.mark.parametrize(
    ("level", "webhook", "targets"),
    [
        ("none", None, []),
        ("jobs", None, [None]),
        ("assets", None, [None]),
        ("none", "https://a.example/x", ["https://a.example/x"]),
        ("assets", "https://a.example/x", [None, "https://a.example/x"]),
    ],
)
def test_a_closed_job_tells_those_who_asked(
    database: Database, level: str, webhook: str | None, targets: list[str | None]
) -> None:
    job_id = add_job(database, events=level, webhook=webhook)
    add_items(database, job_id, ["done", "failed", "cancelled", "done"])
    finish_job(database, job_id)
    assert rows(database, "SELECT id FROM outbox") == [], "it is not closed yet"
    with database.transaction() as connection:
        connection.execute(
            text("UPDATE job SET state = 'failed', finished_at = '2026-05-04 03:02:01.000000+00'")
            if not database.is_sqlite
            else text("UPDATE job SET state = 'failed', finished_at = '2026-05-04 03:02:01.000000'")
        )
        outbox.add_finished_job(connection, job_id)
    events = [*take(database), *take(database, "webhook")]
    assert [event.webhook for event in events] == targets
    for event in events:
        assert event.topic == "job.failed"
        body = JobFinished.model_validate_json(event.payload)
        assert (body.name, body.state, body.job_key) == ("Archive", "failed", None)
        counts = (body.assets_total, body.assets_done, body.assets_failed, body.assets_cancelled)
        assert counts == (4, 2, 1, 1)
        assert body.finished_at.isoformat() == "2026-05-04T03:02:01+00:00"
        assert set(json.loads(event.payload)) == set(JobFinished.model_fields)


def test_a_job_whose_sources_cannot_be_listed_says_why(database: Database) -> None:
    job_id = add_job(database, events="jobs", error_class="SourceError", error_text="no bucket")
    with database.transaction() as connection:
        connection.execute(
            update(tables.job).values(state="failed", finished_at=tables.job.c.submitted_at)
        )
        outbox.add_finished_job(connection, job_id)
    (event,) = take(database)
    assert (event.body["error_class"], event.body["error_text"]) == ("SourceError", "no bucket")
    assert event.body["assets_total"] == 0


def test_an_event_is_gone_with_the_transaction_it_tells_of(database: Database) -> None:
    job_id = add_job(database, events="assets")
    ids = add_items(database, job_id, ["done"])
    with pytest.raises(ZeroDivisionError), database.transaction() as connection:
        outbox.add_finished_items(connection, job_id, ids)
        raise ZeroDivisionError
    assert take(database) == []


def test_what_one_relay_has_in_hand_no_other_gets(database: Database) -> None:
    ids = add_events(database, 5)
    with database.transaction() as connection:
        taken = outbox.take_batch(connection, 3, "exchange")
        assert [event.id for event in taken] == ids[:3]
        if not database.is_sqlite:  # there, it would wait for our transaction to end
            assert take(database) == [], "one publishes at a time, in order"
        outbox.mark_sent(connection, [event.id for event in taken])
    assert [event.id for event in take(database)] == ids[3:]


def test_a_batch_whose_relay_died_is_taken_again_under_the_same_ids(database: Database) -> None:
    ids = add_events(database, 3)
    with pytest.raises(ZeroDivisionError), database.transaction() as connection:
        sent = outbox.take_batch(connection, 10, "exchange")
        outbox.mark_sent(connection, [event.id for event in sent])
        raise ZeroDivisionError
    assert [event.id for event in take(database)] == ids == [event.id for event in sent]


def test_many_relays_at_once_send_everything_once_and_in_order(database: Database) -> None:
    ids = add_events(database, 300)
    sent: list[int] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            while len(sent) < len(ids):
                with database.transaction() as connection:
                    batch = outbox.take_batch(connection, 7, "exchange")
                    sent.extend(event.id for event in batch)
                    outbox.mark_sent(connection, [event.id for event in batch])
        except BaseException as error:  # noqa: BLE001  asserted below
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sent == ids


def test_a_webhook_is_taken_for_a_while_by_one(database: Database) -> None:
    ids = add_events(database, 4, "https://a.example/x")
    first = take(database, "webhook", limit=3)
    assert [(event.id, event.attempt) for event in first] == [(each, 1) for each in ids[:3]]
    assert [event.id for event in take(database, "webhook")] == ids[3:]
    assert take(database, "webhook") == []
    assert take(database) == [], "a webhook is nothing for the exchange"


def end_lease(database: Database) -> None:
    with database.transaction() as connection:
        connection.execute(update(outbox_table).values(not_before=outbox_table.c.created_at))


def test_a_relay_that_lost_its_webhook_cannot_spoil_the_next_attempt(database: Database) -> None:
    add_events(database, 1, "https://a.example/x")
    (late,) = take(database, "webhook")
    end_lease(database)
    (current,) = take(database, "webhook")
    assert current.attempt == 2
    with database.transaction() as connection:
        outbox.mark_failed(connection, late, "frozen", retry_in=None)
        outbox.give_back(connection, late)
    assert rows(database, "SELECT attempt, error_text, failed_at FROM outbox") == [
        {"attempt": 2, "error_text": None, "failed_at": None}
    ]
    with database.transaction() as connection:
        outbox.mark_failed(connection, current, "answered 410", retry_in=None)
        outbox.mark_sent(connection, [late.id])
    (row,) = rows(database, "SELECT sent_at, failed_at, error_text FROM outbox")
    assert row["sent_at"] is not None, "it did arrive"
    assert (row["failed_at"], row["error_text"]) == (None, None)


def test_what_failed_waits_and_what_was_given_back_does_not(database: Database) -> None:
    ids = add_events(database, 3, "https://a.example/x")
    later, soon, back = take(database, "webhook")
    with database.transaction() as connection:
        outbox.mark_failed(connection, later, "answered 500", retry_in=3600)
        outbox.mark_failed(connection, soon, "answered 500", retry_in=-1)
        outbox.give_back(connection, back)
        assert outbox.any_due(connection, "webhook")
    taken = take(database, "webhook")
    assert [(event.id, event.attempt) for event in taken] == [(ids[1], 2), (ids[2], 1)]
    with database.reading() as connection:
        assert not outbox.any_due(connection, "webhook")
        assert not outbox.any_due(connection, "exchange")


def test_a_refused_event_lets_the_others_pass(database: Database) -> None:
    ids = add_events(database, 2)
    with database.transaction() as connection:
        refused, _ = outbox.take_batch(connection, 2, "exchange")
        outbox.mark_failed(connection, refused, "a queue is full", retry_in=3600)
    assert [event.id for event in take(database)] == ids[1:]


def test_given_up_webhooks_are_shown_and_sent_again(database: Database) -> None:
    ids = add_events(database, 3, "https://a.example/x?token=1")
    first, second, third = take(database, "webhook")
    with database.transaction() as connection:
        outbox.mark_failed(connection, first, "answered 410", retry_in=None)
        outbox.mark_failed(connection, second, "answered 500", retry_in=3600)
        outbox.mark_sent(connection, [third.id])
    assert take(database, "webhook") == []
    with database.reading() as connection:
        everything = outbox.unsent(connection, only_failed=False, limit=10)
        failed = outbox.unsent(connection, only_failed=True, limit=10)
    assert [row.error_text for row in everything] == ["answered 410", "answered 500"]
    assert [row.id for row in failed] == ids[:1]
    assert failed[0].failed_at is not None
    with database.transaction() as connection:
        assert outbox.send_again(connection, None) == 1
        assert outbox.send_again(connection, [third.id]) == 0
    assert [(event.id, event.attempt) for event in take(database, "webhook")] == [(ids[0], 1)]
    with database.transaction() as connection:
        assert outbox.send_again(connection, [second.id]) == 1
    assert [event.id for event in take(database, "webhook")] == [second.id]


def test_sent_events_are_forgotten_in_batches_and_unsent_ones_never(database: Database) -> None:
    ids = add_events(database, 6)
    with database.transaction() as connection:
        outbox.mark_sent(connection, ids[:4])
        old = outbox_table.c.id.in_([ids[0], ids[1], ids[2], ids[5]])
        past = "2020-01-01 00:00:00.000000" + ("" if database.is_sqlite else "+00")
        connection.execute(
            update(outbox_table)
            .where(old, outbox_table.c.sent_at.is_not(None))
            .values(sent_at=text(f"'{past}'"))
        )
    deleted = []
    for _ in range(3):
        with database.transaction() as connection:
            deleted.append(outbox.forget_sent(connection, older_than_days=7, limit=2))
    assert deleted == [2, 1, 0]
    left = rows(database, "SELECT id FROM outbox ORDER BY id")
    assert [row["id"] for row in left] == ids[3:]


def test_finding_what_is_due_does_not_read_what_was_sent(database: Database) -> None:
    for channel in ("exchange", "webhook"):
        with database.transaction() as connection:
            explain = "EXPLAIN QUERY PLAN " if database.is_sqlite else "EXPLAIN "
            if not database.is_sqlite:
                connection.execute(text("SET LOCAL enable_seqscan = off"))
            query = str(
                outbox.due_query(channel, limit=10).compile(
                    connection, compile_kwargs={"literal_binds": True}
                )
            )
            plan = str(connection.execute(text(explain + query.replace(":", "\\:"))).all())
        assert "ix_outbox_" in plan, plan
