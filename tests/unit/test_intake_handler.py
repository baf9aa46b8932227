"""One message, whatever carried it: taken, refused with the reason, or kept."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from pipeline.config import load_settings
from pipeline.db import dead_letters
from pipeline.db.migrate import ensure_schema
from pipeline.errors import DatabaseUnavailableError, InvalidMessageError
from pipeline.runner.runtime import Runtime
from schemas.tables import job
from workers.intake.handler import (
    Incoming,
    Verdict,
    bounded_key,
    handle_job_message,
    message_key,
    settle,
    settle_patiently,
)


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    made = Runtime(load_settings(data_dir=tmp_path, intake={"max_message_bytes": 1024}))
    ensure_schema(made.database)
    yield made
    made.close()


def message(**fields: Any) -> bytes:
    return json.dumps({"sources": ["s3://archive/a"], **fields}).encode()


def incoming(body: bytes, key: str | None = None) -> Incoming:
    return Incoming(kind="queue", body=body, key=key)


def job_keys(runtime: Runtime) -> list[str | None]:
    with runtime.database.reading() as connection:
        return list(connection.execute(select(job.c.job_key).order_by(job.c.id)).scalars())


def letters(runtime: Runtime) -> list[dict[str, Any]]:
    with runtime.database.reading() as connection:
        return [
            dead_letters.get(connection, row["id"]) or {}
            for row in dead_letters.newest(connection, 10)
        ]


def test_a_made_key_stands_in_for_one_that_is_not_given(runtime: Runtime) -> None:
    for given in (incoming(message(), "amqp:1"), incoming(message(), "amqp:1")):
        assert settle(runtime, given).verdict is Verdict.ACCEPTED
    assert settle(runtime, incoming(message(job_key="own"), "amqp:2")).verdict is Verdict.ACCEPTED
    assert job_keys(runtime) == ["amqp:1", "own"]


def test_messages_without_any_key_are_jobs_each(runtime: Runtime) -> None:
    first, second = (handle_job_message(runtime, message(), "queue") for _ in range(2))
    assert first.is_new
    assert second.is_new
    assert first.job_id != second.job_id


def test_a_refused_message_is_kept_with_the_reason(runtime: Runtime) -> None:
    outcome = settle(runtime, incoming(b"no\x00 json \xff"))
    assert outcome.verdict is Verdict.REFUSED
    (letter,) = letters(runtime)
    assert letter["reason"] == outcome.reason
    assert "not JSON" in outcome.reason
    assert letter["origin"] == "queue"
    assert letter["body"] == "no\\x00 json \\xff"
    assert letter["received_at"].year > 2000


def test_the_beginning_of_a_message_that_is_too_long_is_kept(runtime: Runtime) -> None:
    outcome = settle(runtime, incoming(message(name="x" * 2000)))
    assert "more than 1024 are not taken" in outcome.reason
    (letter,) = letters(runtime)
    assert letter["body"].startswith('{"sources"')
    assert len(letter["body"]) < 1100


def test_an_event_that_is_none_is_refused(runtime: Runtime) -> None:
    outcome = settle(runtime, Incoming(kind="event", body=b"{}", key=None))
    assert outcome.verdict is Verdict.REFUSED
    assert letters(runtime)[0]["origin"] == "event"


@pytest.mark.parametrize("field", ["name", "job_key", "label_set", "profile"])
def test_a_nul_is_refused(runtime: Runtime, field: str) -> None:
    with pytest.raises(InvalidMessageError, match="NUL"):
        handle_job_message(runtime, message(**{field: "a\0b"}), "queue")


def test_a_backslash_is_no_nul(runtime: Runtime) -> None:
    assert handle_job_message(runtime, message(name="a\\u0000b"), "queue").is_new


def test_a_database_that_is_away_keeps_the_message_with_its_carrier(tmp_path: Path) -> None:
    settings = load_settings(database="postgresql://nobody@127.0.0.1:1/none", data_dir=tmp_path)
    runtime = Runtime(settings)
    with pytest.raises(DatabaseUnavailableError):
        settle(runtime, incoming(message()))
    with pytest.raises(DatabaseUnavailableError):
        settle(runtime, incoming(b"no json"))
    stopping = threading.Event()
    waiting: list[object] = []
    thread = threading.Thread(
        target=lambda: waiting.append(settle_patiently(runtime, incoming(message()), stopping))
    )
    thread.start()
    stopping.set()
    thread.join(60)
    assert waiting == [None]
    runtime.close()


def test_keys_fit_into_a_job() -> None:
    assert message_key("amqp", "1", b"a") != message_key("amqp", "1", b"b")
    assert message_key("amqp", "1", b"a") != message_key("sqs", "1", b"a")
    long, longer = (bounded_key("amqp:" + "x" * size) for size in (300, 301))
    assert len(long) <= 200
    assert long.startswith("amqp:xxx")
    assert long != longer
    assert bounded_key("amqp:1") == "amqp:1"
