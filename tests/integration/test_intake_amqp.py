"""Plain messages on a RabbitMQ queue, sent by a plain client, become jobs: each one, once."""

import bz2
import json
import pickle
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import servers
from amqp.exceptions import MessageNacked  # type: ignore[import-untyped]
from intake_process import count, deaf_proxy, intake, postgres_cli, rows, until
from kombu import Connection, Producer  # type: ignore[attr-defined]

from pipeline.db.engine import open_database

#: basic.ack, as it is on the wire: class 60, method 80.
BASIC_ACK = b"\x00\x3c\x00\x50"
JOBS = "SELECT COUNT(*) FROM job"
JSON = "application/json"


def job(source: str = "s3://archive/films", **fields: Any) -> bytes:
    return json.dumps({"version": 1, "sources": [source], **fields}).encode()


class Queue:
    """A queue of the broker, as a client sees it."""

    def __init__(self, connection: Any, name: str) -> None:
        self._channel = connection.default_channel
        self._producer = Producer(self._channel)
        self.name = name

    def send(self, body: bytes, content_type: str | None = JSON, **properties: Any) -> None:
        self._producer.publish(
            body,
            routing_key=self.name,
            content_type=content_type,
            content_encoding="binary",
            delivery_mode=2,
            **properties,
        )

    def ready(self, name: str | None = None) -> int:
        """Messages that wait to be delivered."""
        return int(self._channel.queue_declare(name or self.name, passive=True).message_count)

    def take_dead(self) -> Any:
        message = self._channel.basic_get(f"{self.name}.dead", no_ack=True)
        assert message is not None
        return message


@contextmanager
def queue_of(url: str, name: str) -> Iterator[Queue]:
    with Connection(url, transport_options={"confirm_publish": True}) as connection:
        yield Queue(connection, name)


@pytest.fixture
def name() -> str:
    return f"jobs-{uuid4().hex}"


@pytest.fixture
def queue(rabbitmq_url: str, name: str) -> Iterator[Queue]:
    with queue_of(rabbitmq_url, name) as queue:
        yield queue


def test_messages_become_jobs_and_bad_ones_dead_letters(
    rabbitmq_url: str, postgres_database: str, queue: Queue, tmp_path: Path
) -> None:
    cli = postgres_cli(
        tmp_path, postgres_database, BROKER=rabbitmq_url, INTAKE__JOBS_QUEUE=queue.name
    )
    bad: list[tuple[Callable[[], None], str]] = [
        (lambda: queue.send(b"no json"), "not JSON"),
        (lambda: queue.send(b""), "not JSON"),
        (lambda: queue.send(b"\xff\x00\xfe"), "not JSON"),
        (lambda: queue.send(b"[1, 2]"), "not an object"),
        (lambda: queue.send(b"[" * 100_000), "nested too deeply"),
        (lambda: queue.send(job(colour="red")), "colour"),
        (lambda: queue.send(job(version=2)), "version"),
        (lambda: queue.send(job(profile="none such")), "none such"),
        (lambda: queue.send(job(name="a\0b")), "NUL"),
        (lambda: queue.send(job(name="x" * 2_000_000)), "bytes"),
        # What would make kombu's own messages fail, or cost memory.
        (lambda: queue.send(pickle.dumps({}), "application/x-python-serialize"), "not JSON"),
        (
            lambda: queue.send(
                bz2.compress(job()), JSON, headers={"compression": "application/x-bz2"}
            ),
            "not JSON",
        ),
        (lambda: queue.send(b"x", JSON, headers={"compression": "no such"}), "not JSON"),
    ]
    with intake(cli) as process, closing(open_database(postgres_database)) as database:
        for send, _ in bad:
            send()
        queue.send(job("s3://archive/a"))
        queue.send(job("s3://archive/b"), "text/plain")
        queue.send(job("s3://archive/c"), None)
        for _ in range(2):
            queue.send(job("s3://archive/d", job_key="d"))
            queue.send(job("s3://archive/e"), message_id="1")
        # Another message of a client that counts from 1 again.
        queue.send(job("s3://archive/f"), message_id="1")
        until(lambda: count(database, JOBS) == 6 and queue.ready() == 0)
        assert process.stop() == 0

        jobs = rows(database, "SELECT name, origin, state FROM v_jobs ORDER BY name")
        assert jobs == [
            {"name": f"s3://archive/{letter}", "origin": "queue", "state": "expanding"}
            for letter in "abcdef"
        ]
        assert count(database, "SELECT COUNT(*) FROM stage_run WHERE stage = 'expand'") == 6
        letters = rows(database, "SELECT origin, reason, body FROM dead_letter ORDER BY id")
    assert len(letters) == len(bad)
    for letter, (_, reason) in zip(letters, bad, strict=True):
        assert letter["origin"] == "queue"
        assert reason in letter["reason"]
        dead = queue.take_dead()
        assert dead.headers["x-mediaweave-reason"] == letter["reason"]
    assert letters[0]["body"] == "no json"
    assert letters[2]["body"] == "\\xff\\x00\\xfe"
    assert len(letters[9]["body"]) < 1_100_000, "the table keeps the beginning of what is too long"
    assert queue.ready() == 0


def test_events_of_buckets_have_a_queue_of_their_own(
    rabbitmq_url: str, postgres_database: str, queue: Queue, tmp_path: Path
) -> None:
    events = f"events-{queue.name}"
    cli = postgres_cli(
        tmp_path,
        postgres_database,
        BROKER=rabbitmq_url,
        INTAKE__JOBS_QUEUE=queue.name,
        INTAKE__EVENTS_QUEUE=events,
        RULES='{"films": {"bucket": "archive"}}',
    )
    record = {
        "eventName": "s3:ObjectCreated:Put",
        "s3": {
            "bucket": {"name": "archive"},
            "object": {"key": "films/a+b.mp4", "size": 7, "eTag": "e", "sequencer": "01"},
        },
    }
    event = {"EventName": "s3:ObjectCreated:Put", "Key": "archive/x", "Records": [record]}
    with (
        intake(cli) as process,
        closing(open_database(postgres_database)) as database,
        queue_of(rabbitmq_url, events) as events_queue,
    ):
        for _ in range(2):
            events_queue.send(json.dumps(event).encode())
        events_queue.send(b"no event")
        queue.send(job("s3://archive/as-ever"))
        until(lambda: events_queue.ready(f"{events}.dead") == 1 and count(database, JOBS) == 2)
        assert process.stop() == 0
        assert events_queue.ready() == 0
        jobs = rows(database, "SELECT origin, sources FROM job ORDER BY origin")
        (letter,) = rows(database, "SELECT origin, body FROM dead_letter")
    assert jobs == [
        {"origin": "event", "sources": ["s3://archive/films/a b.mp4"]},
        {"origin": "queue", "sources": ["s3://archive/as-ever"]},
    ]
    assert letter == {"origin": "event", "body": "no event"}


def test_a_kill_between_commit_and_acknowledgement_makes_no_second_job(
    rabbitmq_url: str, postgres_database: str, queue: Queue, tmp_path: Path
) -> None:
    with (
        deaf_proxy(rabbitmq_url, BASIC_ACK) as (proxy, proxied_url),
        closing(open_database(postgres_database)) as database,
    ):
        settings = {"INTAKE__JOBS_QUEUE": queue.name}
        doomed = postgres_cli(tmp_path, postgres_database, BROKER=proxied_url, **settings)
        with intake(doomed) as process:
            queue.send(job(), message_id=str(uuid4()))
            until(proxy.lost.is_set)
            assert count(database, JOBS) == 1, "acknowledged after the commit only"
            process.kill()
        until(lambda: queue.ready() == 1)
        next_one = postgres_cli(tmp_path, postgres_database, BROKER=rabbitmq_url, **settings)
        with intake(next_one) as process:
            until(lambda: process.says('"is_new": false'))
            assert process.stop() == 0
        assert queue.ready() == 0
        assert count(database, JOBS) == 1


def test_broker_and_database_may_go_and_come_back(tmp_path: Path) -> None:
    with (
        servers.rabbitmq_server() as rabbitmq,
        servers.postgres_server() as postgres,
        closing(open_database(postgres.url)) as database,
    ):
        cli = postgres_cli(tmp_path, postgres.url, BROKER=rabbitmq.url)
        with intake(cli) as process:
            with queue_of(rabbitmq.url, "jobs") as queue:
                queue.send(job("s3://archive/before"))
            until(lambda: count(database, JOBS) == 1)

            rabbitmq.process.stop()
            rabbitmq.process.start()
            until(lambda: _sent(rabbitmq.url, job("s3://archive/new-broker")))
            until(lambda: count(database, JOBS) == 2)

            postgres.process.stop()
            with queue_of(rabbitmq.url, "jobs") as queue:
                # More than the intake holds at once.
                for number in range(15):
                    queue.send(job(f"s3://archive/{number}"))
                until(lambda: process.says("intake_paused"))
                assert queue.ready() == 5, "the rest is left to others"
                postgres.process.start()
                until(lambda: count(database, JOBS) == 17)
                assert process.stop() == 0
                assert queue.ready() == 0
                assert queue.ready("jobs.dead") == 0
            assert count(database, "SELECT COUNT(*) FROM dead_letter") == 0
            assert not process.says("message_failed"), "no attempt was burnt"


def _sent(url: str, body: bytes) -> bool:
    """Whether the queue is there again and has taken it."""
    with Connection(url, transport_options={"confirm_publish": True}) as connection:
        try:
            queue = Queue(connection, "jobs")
            queue.ready()
            queue.send(body)
        except (MessageNacked, *connection.connection_errors, *connection.channel_errors):
            return False
        return True


def test_a_bug_neither_loses_a_message_nor_goes_round_for_ever(
    rabbitmq_url: str, postgres_database: str, queue: Queue, tmp_path: Path
) -> None:
    cli = postgres_cli(
        tmp_path, postgres_database, BROKER=rabbitmq_url, INTAKE__JOBS_QUEUE=queue.name
    )
    with intake(cli) as process, closing(open_database(postgres_database)) as database:
        with database.transaction() as connection:
            connection.exec_driver_sql("ALTER TABLE job RENAME TO job_away")
        queue.send(job("s3://archive/poison"))
        until(lambda: queue.ready(f"{queue.name}.dead") == 1)
        with database.transaction() as connection:
            connection.exec_driver_sql("ALTER TABLE job_away RENAME TO job")
        queue.send(job("s3://archive/next"))
        until(lambda: count(database, JOBS) == 1)
        assert process.says("message_failed")
        (letter,) = rows(database, "SELECT id, reason FROM dead_letter")
        assert "failed on it 3 times" in letter["reason"]
        assert "UndefinedTable" in letter["reason"]

        # Mended: now it can be taken.
        assert cli("dead-letters", "retry", str(letter["id"])).code == 0
        assert count(database, JOBS) == 2
        assert count(database, "SELECT COUNT(*) FROM dead_letter") == 0
        assert process.stop() == 0
    assert queue.ready() == 0


def test_a_queue_of_another_kind_is_refused(
    rabbitmq_url: str, postgres_database: str, name: str, tmp_path: Path
) -> None:
    with Connection(rabbitmq_url) as connection:
        connection.default_channel.queue_declare(name, durable=True, auto_delete=False)
    cli = postgres_cli(tmp_path, postgres_database, BROKER=rabbitmq_url, INTAKE__JOBS_QUEUE=name)
    refused = cli("intake")
    assert refused.code == 2
    assert f"the queue '{name}' of the broker was made with other properties" in refused.err
