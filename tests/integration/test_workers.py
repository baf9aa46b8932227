"""The same stages on workers in processes of their own, over real brokers and PostgreSQL."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from command import Cli
from sqlalchemy import text
from tenacity import retry, retry_if_result, stop_after_delay, wait_fixed

from pipeline.db.engine import Database, open_database
from workers.demo.media import PROFILES as DEMO_PROFILES

STAGES_OF_THE_MEDIA = {
    "ingest": 3, "split": 3, "vision": 2, "safety": 2, "ocr": 2, "speech": 2, "sound": 2,
    "text": 3, "fuse": 3, "caption": 3,
}  # fmt: skip


def rows(database: Database, query: str) -> list[dict[str, Any]]:
    with database.reading() as connection:
        return [dict(row) for row in connection.execute(text(query)).mappings()]


@retry(
    retry=retry_if_result(lambda done: not done),
    stop=stop_after_delay(240),
    wait=wait_fixed(0.2),
)
def until(condition: Callable[[], bool]) -> bool:
    """Ask until it is so; RetryError after four minutes."""
    return condition()


@contextmanager
def worker(cli: Cli, *arguments: str) -> Iterator[Any]:
    """A worker process; killed at the end if it still lives."""
    process = cli.start("worker", *arguments)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(params=["rabbitmq_url", "redis_url"])
def cluster(request: pytest.FixtureRequest, tmp_path: Path, postgres_database: str) -> Cli:
    """A broker, PostgreSQL, and settings for workers that share an artifact folder."""
    return Cli(
        folder=tmp_path,
        settings={
            "MEDIAWEAVE_BROKER": request.getfixturevalue(request.param),
            "MEDIAWEAVE_DATABASE": postgres_database,
            "MEDIAWEAVE_ARTIFACTS": str(tmp_path / "artifacts"),
            "MEDIAWEAVE_LEASE_SECONDS": "5",
            "MEDIAWEAVE_PROFILES": json.dumps(DEMO_PROFILES),
        },
    )


@pytest.fixture
def media(folder: Callable[..., Path]) -> Path:
    return folder("films/film.mp4", "photos/lion.jpg", "sound/beckett.wav")


def test_jobs_are_worked_off_and_survive_a_killed_worker(cluster: Cli, media: Path) -> None:
    submitted = cluster("submit", str(media), "--key", "job-1", "--json")
    assert submitted.code == 0, submitted.err
    assert (submitted.json["assets_total"], submitted.json["state"]) == (3, "running")
    database = open_database(cluster.settings["MEDIAWEAVE_DATABASE"])
    running = "SELECT lease_owner FROM stage_run WHERE state = 'running' AND stage = 'speech'"

    with worker(cluster) as doomed:
        # Killed without warning in the middle of the longest stage.
        until(lambda: bool(rows(database, running)))
        doomed.kill()
        doomed.wait()
    assert rows(database, "SELECT state FROM v_jobs") == [{"state": "running"}]

    with worker(cluster, "--queues", "io,cpu"), worker(cluster, "--queues", "device") as device:
        until(lambda: rows(database, "SELECT state FROM v_jobs") == [{"state": "done"}])
        device.terminate()
        assert device.wait(60) == 0

    done = rows(database, "SELECT stage, COUNT(*) AS n FROM v_stage_runs "
                "WHERE state = 'succeeded' AND stage <> 'expand' GROUP BY stage")  # fmt: skip
    assert {row["stage"]: row["n"] for row in done} == STAGES_OF_THE_MEDIA
    assert max(row["attempt"] for row in rows(database, "SELECT attempt FROM v_stage_runs")) == 2
    said = rows(database, "SELECT text FROM v_cues WHERE origin = 'speech'")
    assert "best of times" in " ".join(row["text"] for row in said)
    shown = cluster("show", str(media / "lion.jpg"), "--json")
    assert shown.json["tags"][0]["label"] in {"lion", "animal", "wild cat"}

    again = cluster("submit", str(media), "--key", "job-1", "--json")
    assert again.json["job_id"] == submitted.json["job_id"]
    finished = cluster("submit", str(media), "--json")
    assert finished.json["state"] == "done", "everything is there already"
    database.close()


def test_run_works_a_job_off_over_the_broker(cluster: Cli, folder: Callable[..., Path]) -> None:
    media = folder("photos/rocket.jpg")
    result = cluster("run", str(media), "--json")
    assert result.code == 0, result.err
    assert result.json["stage_runs_done"] == 8
    assert "secret" not in result.json["database"]
