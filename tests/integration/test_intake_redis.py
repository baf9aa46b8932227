"""Entries of a Redis Stream, added by a plain client, become jobs: each one, once."""

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis
import servers
from intake_process import count, deaf_proxy, intake, postgres_cli, rows, until

from pipeline.config import Settings
from pipeline.db.engine import open_database
from pipeline.runner.runtime import Runtime
from workers.intake.redis_stream import GROUP, RedisStreamListener

JOBS = "SELECT COUNT(*) FROM job"


def job(source: str = "s3://archive/films", **fields: Any) -> dict[str, str]:
    return {"message": json.dumps({"version": 1, "sources": [source], **fields})}


@contextmanager
def client_of(url: str) -> Iterator["redis.Redis[str]"]:
    client = redis.Redis.from_url(url, decode_responses=True, protocol=2)
    with closing(client):
        yield client


@pytest.fixture
def client(redis_url: str) -> Iterator["redis.Redis[str]"]:
    with client_of(redis_url) as client:
        yield client


@pytest.fixture
def stream() -> str:
    return f"jobs-{uuid4().hex}"


def test_entries_become_jobs_and_bad_ones_dead_letters(
    redis_url: str,
    client: "redis.Redis[str]",
    stream: str,
    postgres_database: str,
    tmp_path: Path,
) -> None:
    cli = postgres_cli(tmp_path, postgres_database, BROKER=redis_url, INTAKE__JOBS_QUEUE=stream)
    # Before anybody listens.
    client.xadd(stream, job("s3://archive/a"))
    with intake(cli) as process, closing(open_database(postgres_database)) as database:
        for fields in (
            {"message": "no json"},
            {"text": "no message"},
            {"message": b"\xff\x00"},
            job(priority=1000),
        ):
            client.xadd(stream, fields)
        client.xadd(stream, {**job("s3://archive/b"), "sender": "somebody"})
        for _ in range(2):
            client.xadd(stream, job("s3://archive/c", job_key="c"))
            # Without a key these are two jobs.
            client.xadd(stream, job("s3://archive/d"))
        until(lambda: client.xlen(stream) == 0)
        assert client.xpending(stream, GROUP)["pending"] == 0
        assert process.stop() == 0
        jobs = rows(database, "SELECT name, origin FROM v_jobs ORDER BY name")
        assert jobs == [{"name": f"s3://archive/{letter}", "origin": "queue"} for letter in "abcdd"]
        letters = rows(database, "SELECT reason, body FROM dead_letter ORDER BY id")
    assert ["not JSON" in letter["reason"] for letter in letters] == [True, True, True, False]
    assert "priority" in letters[3]["reason"]
    assert [letter["body"] for letter in letters[:3]] == [
        "no json",
        'no field `message`, but: {"text": "no message"}',
        "\\xff\\x00",
    ]
    with redis.Redis.from_url(redis_url, protocol=2) as raw:
        dead = [fields for _, fields in raw.xrange(f"{stream}.dead")]
    assert [fields[b"reason"].decode() for fields in dead] == [row["reason"] for row in letters]
    assert dead[1][b"text"] == b"no message"
    assert dead[2][b"message"] == b"\xff\x00"


def test_a_kill_between_commit_and_acknowledgement_makes_no_second_job(
    redis_url: str,
    client: "redis.Redis[str]",
    stream: str,
    postgres_database: str,
    tmp_path: Path,
) -> None:
    with (
        deaf_proxy(redis_url, b"XACK") as (proxy, proxied_url),
        closing(open_database(postgres_database)) as database,
    ):
        doomed = postgres_cli(
            tmp_path, postgres_database, BROKER=proxied_url, INTAKE__JOBS_QUEUE=stream
        )
        with intake(doomed) as process:
            client.xadd(stream, job())
            until(proxy.lost.is_set)
            assert count(database, JOBS) == 1, "acknowledged after the commit only"
            process.kill()
        assert client.xpending(stream, GROUP)["pending"] == 1

        settings = Settings(data_dir=tmp_path, database=postgres_database, broker=redis_url)
        runtime = Runtime(settings)
        listener = RedisStreamListener(runtime, stream=stream, kind="queue", reclaim_seconds=0.1)
        listener.start()
        try:
            until(lambda: client.xlen(stream) == 0)
        finally:
            listener.stop()
            assert listener.join(30)
            runtime.close()
        assert client.xpending(stream, GROUP)["pending"] == 0
        assert count(database, JOBS) == 1


def test_redis_and_database_may_go_and_come_back(tmp_path: Path) -> None:
    with (
        servers.redis_server() as server,
        servers.postgres_server() as postgres,
        closing(open_database(postgres.url)) as database,
        client_of(server.url) as client,
    ):
        cli = postgres_cli(tmp_path, postgres.url, BROKER=server.url)
        with intake(cli) as process:
            client.xadd("jobs", job("s3://archive/before"))
            until(lambda: count(database, JOBS) == 1)

            # It forgets everything, the group too.
            server.process.kill()
            server.process.start()
            client.xadd("jobs", job("s3://archive/new-redis"))
            until(lambda: count(database, JOBS) == 2)
            client.flushall()
            client.xadd("jobs", job("s3://archive/flushed"))
            until(lambda: count(database, JOBS) == 3)

            postgres.process.stop()
            for number in range(15):
                client.xadd("jobs", job(f"s3://archive/{number}"))
            until(lambda: process.says("intake_paused"))
            postgres.process.start()
            until(lambda: count(database, JOBS) == 18)
            until(lambda: client.xlen("jobs") == 0)
            assert client.xlen("jobs.dead") == 0
            assert process.stop() == 0
            assert count(database, "SELECT COUNT(*) FROM dead_letter") == 0
            assert not process.says("message_failed"), "no attempt was burnt"


def test_a_bug_neither_loses_an_entry_nor_goes_round_for_ever(
    redis_url: str,
    client: "redis.Redis[str]",
    stream: str,
    postgres_database: str,
    tmp_path: Path,
) -> None:
    settings = Settings(data_dir=tmp_path, database=postgres_database, broker=redis_url)
    cli = postgres_cli(tmp_path, postgres_database)
    assert cli("database", "upgrade").code == 0
    runtime = Runtime(settings)
    with runtime.database.transaction() as connection:
        connection.exec_driver_sql("ALTER TABLE job RENAME TO job_away")
    listener = RedisStreamListener(runtime, stream=stream, kind="queue", reclaim_seconds=0.1)
    listener.start()
    try:
        client.xadd(stream, job())
        until(lambda: client.xlen(f"{stream}.dead") == 1)
        assert client.xlen(stream) == 0
    finally:
        listener.stop()
        assert listener.join(30)
        (letter,) = rows(runtime.database, "SELECT reason FROM dead_letter")
        runtime.close()
    assert "failed on it 3 times" in letter["reason"]


def test_what_is_no_stream_is_refused(
    redis_url: str,
    client: "redis.Redis[str]",
    stream: str,
    postgres_database: str,
    tmp_path: Path,
) -> None:
    client.lpush(stream, "a list, as other clients use it")
    cli = postgres_cli(tmp_path, postgres_database, BROKER=redis_url, INTAKE__JOBS_QUEUE=stream)
    refused = cli("intake")
    assert refused.code == 2
    assert f"the Redis stream '{stream}' cannot be read: WRONGTYPE" in refused.err
