"""From an object put into a bucket, by the event that its store sends, to a listed place."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import boto3
import pytest
import servers
from database_rows import rows
from sqlalchemy import select

from pipeline.config import RuleOptions, S3Options, Settings
from pipeline.db.migrate import ensure_schema
from pipeline.errors import InvalidMessageError
from pipeline.runner.execute import execute
from pipeline.runner.intake import accept
from pipeline.runner.leases import LeaseKeeper
from pipeline.runner.runtime import Runtime
from pipeline.runner.sweep import sweep_message
from schemas.tables import EXPAND, stage_run
from workers.intake.bucket_events import handle_bucket_message

SPECIAL = ["in/my film.mp4", "in/a+b%20c&=.mp4", "in/日本 é🎬.mp4", "in/deep/er/x.MOV"]


class Intake:
    """A bucket whose events go to a queue of SQS, and a process that takes them from there."""

    def __init__(self, s3: servers.S3Server, bucket: str, runtime: Runtime, sqs: Any) -> None:
        self.client, self.bucket, self.runtime, self._sqs = s3.client, bucket, runtime, sqs
        queue = sqs.create_queue(QueueName=f"events-{bucket}")
        self._queue = queue["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=self._queue, AttributeNames=["QueueArn"])
        self.client.put_bucket_notification_configuration(
            Bucket=bucket,
            NotificationConfiguration={
                "QueueConfigurations": [
                    {
                        "QueueArn": arn["Attributes"]["QueueArn"],
                        "Events": ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"],
                    }
                ]
            },
        )
        self._keeper = LeaseKeeper(runtime.database, runtime.settings.lease_seconds)

    def put(self, key: str, data: bytes = b"media") -> None:
        self.client.put_object(Bucket=self.bucket, Key=key, Body=data)

    def receive(self) -> list[bytes]:
        """Everything in the queue."""
        bodies = []
        while messages := self._sqs.receive_message(
            QueueUrl=self._queue, MaxNumberOfMessages=10
        ).get("Messages"):
            for message in messages:
                bodies.append(message["Body"].encode())
                self._sqs.delete_message(
                    QueueUrl=self._queue, ReceiptHandle=message["ReceiptHandle"]
                )
        return bodies

    def settle(self) -> None:
        """Apply all events, twice as stores may send them, and list the jobs they made."""
        for body in self.receive():
            handle_bucket_message(self.runtime, body)
            handle_bucket_message(self.runtime, body)
        self.list_jobs()

    def sweep(self) -> None:
        """Sweep the only rule, here and now."""
        ((name, rule),) = self.runtime.settings.rules.items()
        accept(self.runtime, sweep_message(name, rule), origin="sweep")
        self.list_jobs()

    def list_jobs(self) -> None:
        due = select(stage_run.c.id).where(
            stage_run.c.stage == EXPAND, stage_run.c.state == "queued"
        )
        with self.runtime.database.reading() as connection:
            run_ids = connection.execute(due.order_by(stage_run.c.id)).scalars().all()
        for run_id in run_ids:
            assert execute(self.runtime, run_id, self._keeper)

    def uri(self, key: str) -> str:
        return f"s3://{self.bucket}/{key}"

    def current(self) -> list[str]:
        found = self.sql("SELECT uri FROM location WHERE is_current ORDER BY id")
        return [row["uri"].removeprefix(f"s3://{self.bucket}/") for row in found]

    def sql(self, query: str) -> list[dict[str, Any]]:
        return rows(self.runtime.database, query)

    def close(self) -> None:
        self._keeper.close()
        self.runtime.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def intake(
    request: pytest.FixtureRequest, moto_s3: servers.S3Server, tmp_path: Path
) -> Iterator[Intake]:
    bucket = moto_s3.create_bucket()
    is_sqlite = request.param == "sqlite"
    settings = Settings(
        data_dir=tmp_path / "data",
        database=None if is_sqlite else request.getfixturevalue("postgres_database"),
        s3=S3Options(endpoint_url=moto_s3.endpoint_url),
        rules={"films": RuleOptions(bucket=bucket, prefix="in/", priority=3)},
    )
    runtime = Runtime(settings)
    ensure_schema(runtime.database)
    session = boto3.session.Session(
        servers.ACCESS_KEY, servers.SECRET_KEY, region_name=servers.REGION
    )
    with closing(session.client("sqs", endpoint_url=moto_s3.endpoint_url)) as sqs:
        made = Intake(moto_s3, bucket, runtime, sqs)
        yield made
        made.close()


def test_objects_come_change_and_go(intake: Intake) -> None:
    for key in [*SPECIAL, "in/notes.txt", "in/folder/", "out/y.mp4"]:
        intake.put(key, b"" if key.endswith("/") else b"media")
    intake.settle()
    assert intake.current() == SPECIAL
    jobs = intake.sql("SELECT origin, priority, name FROM job ORDER BY id")
    assert [(job["origin"], job["priority"]) for job in jobs] == [("event", 3)] * len(SPECIAL)
    assert [job["name"] for job in jobs] == [f"films: {intake.uri(key)}" for key in SPECIAL]

    intake.put(SPECIAL[2], b"another cut")
    intake.settle()
    versions = intake.sql("SELECT uri, is_current FROM location ORDER BY id")
    assert len(versions) == len(SPECIAL) + 1
    assert intake.current() == [SPECIAL[0], SPECIAL[1], SPECIAL[3], SPECIAL[2]]

    for key in SPECIAL[:2]:
        intake.client.delete_object(Bucket=intake.bucket, Key=key)
    intake.settle()
    assert intake.current() == [SPECIAL[3], SPECIAL[2]]

    intake.put(SPECIAL[0])
    intake.settle()
    assert intake.current() == [SPECIAL[0], SPECIAL[3], SPECIAL[2]]


def test_late_subtitles_are_taken_with_their_media(intake: Intake) -> None:
    def sidecars() -> list[list[str]]:
        query = "SELECT inputs FROM stage_run WHERE stage = 'ingest' ORDER BY id"
        found = [row["inputs"] for row in intake.sql(query)]
        inputs = [json.loads(each) if isinstance(each, str) else each for each in found]
        return [[entry["uri"] for entry in each["sidecars"]] for each in inputs]

    intake.put("in/a b.mp4")
    intake.settle()
    assert sidecars() == [[]]
    intake.put("in/a b.en.srt", b"1\n00:00:00,000 --> 00:00:01,000\nHello\n")
    intake.settle()
    assert sidecars() == [[], [intake.uri("in/a b.en.srt")]]


def test_what_no_event_told_of_is_found_by_a_sweep(intake: Intake) -> None:
    intake.put("in/told.mp4")
    intake.settle()
    intake.put("in/lost.mp4")
    assert intake.receive()
    intake.sweep()
    assert intake.current() == ["in/told.mp4", "in/lost.mp4"]
    by_the_sweep = """
        SELECT l.uri FROM job_item i JOIN job j ON j.id = i.job_id
        JOIN location l ON l.id = i.location_id WHERE j.origin = 'sweep'
    """
    assert intake.sql(by_the_sweep) == [{"uri": intake.uri("in/lost.mp4")}]


def test_what_went_without_an_event_is_found_by_a_sweep(intake: Intake) -> None:
    for key in ("in/stays.mp4", "in/goes.mp4", "other/goes.mp4"):
        intake.put(key)
    intake.settle()
    intake.client.delete_object(Bucket=intake.bucket, Key="in/goes.mp4")
    assert intake.receive()
    intake.sweep()
    assert intake.current() == ["in/stays.mp4"]


def test_what_is_no_event_is_an_invalid_message(intake: Intake) -> None:
    with pytest.raises(InvalidMessageError, match="this is no bucket event: the message is not"):
        handle_bucket_message(intake.runtime, b"hello")
