"""Messages of an SQS queue, sent by a plain client, become jobs: each one, once."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import pytest
import servers
from intake_process import count, deaf_proxy, intake, postgres_cli, rows, until

from pipeline.db.engine import open_database

JOBS = "SELECT COUNT(*) FROM job"


def job(source: str = "s3://archive/films", **fields: Any) -> str:
    return json.dumps({"version": 1, "sources": [source], **fields})


class Queue:
    """A queue of its own, whose unacknowledged messages come again after two seconds."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.url: str = client.create_queue(
            QueueName=f"jobs-{uuid4().hex}", Attributes={"VisibilityTimeout": "2"}
        )["QueueUrl"]

    def send(self, body: str) -> None:
        self._client.send_message(QueueUrl=self.url, MessageBody=body)

    def left(self) -> int:
        """Messages in the queue, those in delivery included."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self._client.get_queue_attributes(QueueUrl=self.url, AttributeNames=names)
        return sum(int(found["Attributes"][name]) for name in names)


@pytest.fixture
def queue(moto_s3: servers.S3Server) -> Iterator[Queue]:
    client = boto3.client("sqs", endpoint_url=moto_s3.endpoint_url)
    with closing(client):
        yield Queue(client)


def test_messages_become_jobs_and_bad_ones_dead_letters(
    moto_s3: servers.S3Server, queue: Queue, postgres_database: str, tmp_path: Path
) -> None:
    cli = postgres_cli(
        tmp_path,
        postgres_database,
        INTAKE__SQS_JOBS_URL=queue.url,
        INTAKE__SQS_ENDPOINT_URL=moto_s3.endpoint_url,
    )
    with intake(cli) as process, closing(open_database(postgres_database)) as database:
        queue.send("no json")
        queue.send(job("s3://archive/a"))
        for _ in range(2):
            queue.send(job("s3://archive/b", job_key="b"))
            queue.send(job("s3://archive/c"))
        until(lambda: queue.left() == 0)
        assert process.stop() == 0
        jobs = rows(database, "SELECT name, origin FROM v_jobs ORDER BY name")
        assert jobs == [{"name": f"s3://archive/{each}", "origin": "queue"} for each in "abcc"]
        (letter,) = rows(database, "SELECT origin, reason, body FROM dead_letter")
    assert (letter["origin"], letter["body"]) == ("queue", "no json")
    assert "not JSON" in letter["reason"]


def test_a_kill_between_commit_and_deletion_makes_no_second_job(
    moto_s3: servers.S3Server, queue: Queue, postgres_database: str, tmp_path: Path
) -> None:
    with (
        deaf_proxy(moto_s3.endpoint_url, b"DeleteMessage") as (proxy, proxied_url),
        closing(open_database(postgres_database)) as database,
    ):
        doomed, next_one = (
            postgres_cli(
                tmp_path,
                postgres_database,
                INTAKE__SQS_JOBS_URL=queue.url,
                INTAKE__SQS_ENDPOINT_URL=url,
            )
            for url in (proxied_url, moto_s3.endpoint_url)
        )
        with intake(doomed) as process:
            queue.send(job())
            until(proxy.lost.is_set)
            assert count(database, JOBS) == 1, "deleted after the commit only"
            process.kill()
        assert queue.left() == 1
        with intake(next_one) as process:
            until(lambda: process.says('"is_new": false'))
            until(lambda: queue.left() == 0)
            assert process.stop() == 0
        assert count(database, JOBS) == 1


def test_a_queue_that_does_not_exist_is_refused(
    moto_s3: servers.S3Server, postgres_database: str, tmp_path: Path
) -> None:
    cli = postgres_cli(
        tmp_path,
        postgres_database,
        INTAKE__SQS_JOBS_URL=f"{moto_s3.endpoint_url}/123456789012/none",
        INTAKE__SQS_ENDPOINT_URL=moto_s3.endpoint_url,
    )
    refused = cli("intake")
    assert refused.code == 2
    assert "none cannot be read" in refused.err
    assert "Traceback" not in refused.err
