"""One suite for every transport that carries stage runs to workers.

The work is the ingest of empty files: it fails at once, needs no model, and counts its attempts.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text, update
from tenacity import retry, retry_if_result, stop_after_delay, wait_fixed

from pipeline.config import Settings
from pipeline.db import runs
from pipeline.db.migrate import ensure_schema
from pipeline.errors import BrokerUnavailableError
from pipeline.runner.intake import submit
from pipeline.runner.runtime import Runtime
from pipeline.stages.base import QUEUES
from schemas.messages import JobMessage
from schemas.tables import stage_run
from schemas.types import utc_now
from workers.app import RUN_STAGES, check_broker, make_app, queue_name
from workers.dispatcher import LOST_SECONDS, Dispatcher
from workers.host import WorkerHost

FILES = 30


@pytest.fixture(params=["memory", "rabbitmq_url", "redis_url"])
def runtime(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Runtime]:
    broker = "memory://" if request.param == "memory" else request.getfixturevalue(request.param)
    settings = Settings(
        data_dir=tmp_path / "data", broker=broker, queue_depth=8, shutdown_seconds=30
    )
    made = Runtime(settings)
    ensure_schema(made.database)
    app = make_app(settings)
    for queue in QUEUES:
        purge(app, queue)
    yield made
    made.close()


def purge(app: Any, queue: str) -> int:
    """Empty a queue, as an accident would; gives how many messages were lost."""
    with app.connection_for_write() as connection:
        channel = connection.default_channel
        next(made for made in app.conf.task_queues if made.name == queue_name(queue))(
            channel
        ).declare()
        return int(channel.queue_purge(queue_name(queue)) or 0)


def submit_empty_files(runtime: Runtime, folder: Path, count: int = FILES) -> int:
    folder.mkdir(exist_ok=True)
    for number in range(count):
        (folder / f"{number}.mp4").touch()
    return submit(runtime, JobMessage(sources=(str(folder),)))


def attempts(runtime: Runtime) -> list[int]:
    with runtime.database.reading() as connection:
        query = text("SELECT attempt FROM stage_run WHERE state = 'failed'")
        return list(connection.execute(query).scalars())


@retry(
    retry=retry_if_result(lambda done: not done),
    stop=stop_after_delay(60),
    wait=wait_fixed(0.05),
)
def until(condition: Callable[[], bool]) -> bool:
    """Ask until it is so; RetryError after a minute."""
    return condition()


def test_every_run_arrives_and_is_worked_once(runtime: Runtime, tmp_path: Path) -> None:
    submit_empty_files(runtime, tmp_path / "media")
    with WorkerHost(runtime):
        until(lambda: len(attempts(runtime)) == FILES)
    assert attempts(runtime) == [1] * FILES
    with runtime.database.reading() as connection:
        jobs = connection.execute(text("SELECT state, assets_failed FROM v_jobs")).all()
    assert [tuple(row) for row in jobs] == [("failed", FILES)]


def test_a_doubled_delivery_finds_nothing_to_do(runtime: Runtime, tmp_path: Path) -> None:
    submit_empty_files(runtime, tmp_path / "media", count=1)
    app = make_app(runtime.settings)
    with runtime.database.reading() as connection:
        run_id = connection.execute(
            select(stage_run.c.id).where(stage_run.c.stage == "ingest")
        ).scalar_one()
    for _ in range(5):
        app.send_task(RUN_STAGES, args=[[run_id]], queue=queue_name("io"))
    app.close()
    with WorkerHost(runtime):
        until(lambda: attempts(runtime) == [1])
        # Behind the five copies in the same queue: when it is done, they have been delivered.
        submit_empty_files(runtime, tmp_path / "more", count=1)
        until(lambda: len(attempts(runtime)) == 2)
    assert attempts(runtime) == [1, 1]


def test_queues_stay_shallow(runtime: Runtime, tmp_path: Path) -> None:
    submit_empty_files(runtime, tmp_path / "media")
    dispatcher = Dispatcher(runtime, make_app(runtime.settings))
    assert dispatcher.publish() == runtime.settings.queue_depth, "for one slot, as no worker lives"
    assert dispatcher.publish() == 0
    dispatcher.stop()


def test_messages_that_the_broker_lost_are_published_again(
    runtime: Runtime, tmp_path: Path
) -> None:
    submit_empty_files(runtime, tmp_path / "media", count=5)
    app = make_app(runtime.settings)
    dispatcher = Dispatcher(runtime, app)
    assert dispatcher.publish() == 5
    dispatcher.stop()
    assert purge(app, "io") == 5
    # Long enough ago that they count as lost if the queue is empty, and no longer.
    with runtime.database.transaction() as connection:
        connection.execute(update(stage_run).values(published_at=utc_now(-LOST_SECONDS - 1)))
    with WorkerHost(runtime):
        until(lambda: attempts(runtime) == [1] * 5)


def test_runs_that_killed_all_their_workers_close_their_job(
    runtime: Runtime, tmp_path: Path
) -> None:
    submit_empty_files(runtime, tmp_path / "media", count=3)
    last = runtime.settings.max_attempts
    ingests = select(stage_run.c.id).where(stage_run.c.stage == "ingest")
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    owner = f"{runs.process_space()}/{gone.pid}"
    with runtime.database.transaction() as connection:
        connection.execute(update(stage_run).values(attempt=last - 1))
        for run_id in list(connection.execute(ingests).scalars()):
            claimed = runs.claim(
                connection, run_id, owner=owner, lease_seconds=60, max_attempts=last
            )
            assert claimed is not None
    Dispatcher(runtime, make_app(runtime.settings)).recover()
    assert attempts(runtime) == [last] * 3
    with runtime.database.reading() as connection:
        job = connection.execute(text("SELECT state, assets_failed FROM v_jobs")).one()
    assert tuple(job) == ("failed", 3)


def test_a_stopped_worker_takes_nothing_more_and_the_next_goes_on(
    runtime: Runtime, tmp_path: Path
) -> None:
    submit_empty_files(runtime, tmp_path / "media", count=3)
    with WorkerHost(runtime):
        until(lambda: len(attempts(runtime)) == 3)
    submit_empty_files(runtime, tmp_path / "later", count=3)
    assert len(attempts(runtime)) == 3
    with WorkerHost(runtime):
        until(lambda: len(attempts(runtime)) == 6)
    assert attempts(runtime) == [1] * 6


@pytest.mark.parametrize("broker", ["amqp://u:secret@127.0.0.1:9//", "redis://:secret@127.0.0.1:9"])
def test_a_broker_that_is_away_is_one_sentence(broker: str) -> None:
    with pytest.raises(BrokerUnavailableError, match="cannot be reached") as caught:
        check_broker(make_app(Settings(broker=broker)))
    assert "secret" not in str(caught.value)
