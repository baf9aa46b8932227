"""kill -9 of what moves work without doing it: dispatchers, intakes, schedulers."""

import json
from pathlib import Path

from faults import brokers
from faults.content import Content
from faults.injection import Fault
from faults.processes import until
from faults.world import World
from sqlalchemy import update

from pipeline.runner import scheduling
from schemas.messages import JobMessage
from schemas.operations import schedule
from schemas.types import utc_now


def test_dispatchers(cluster: World, media: Path, expected: Content) -> None:
    points = ("stored", "middle", "committed")
    faults = [Fault(action="kill", point=point, stage="dispatch") for point in points]
    for _ in range(4):
        cluster.submit(media)
    dispatchers = [cluster.start("dispatcher", faults=faults) for _ in points]
    until(lambda: not any(process.alive for process in dispatchers))
    # Marked as published, and in no queue: only time tells.
    assert {fault.point for fault in cluster.fired()} == set(points)
    cluster.start("dispatcher")
    cluster.workers(1)
    cluster.check(expected, exact=True)


def test_workers_that_die_while_they_dispatch(
    cluster: World, media: Path, expected: Content
) -> None:
    cluster.settings |= {"concurrency": 1, "max_attempts": 4}
    faults = [
        Fault(action="kill", point=point, stage="dispatch")
        for point in ("stored", "middle", "committed")
    ]
    cluster.submit(media)
    cluster.workers(2, faults=faults)
    cluster.check(expected)
    assert len(cluster.fired()) == 3


def test_intakes(cluster: World, media: Path, expected: Content) -> None:
    faults = [
        Fault(action="kill", point="start", stage="intake"),
        Fault(action="kill", point="stored", stage="accept"),
        Fault(action="kill", point="committed", stage="intake"),
    ]
    cluster.start("intake", faults=faults)
    broker = cluster.settings["broker"]
    if not broker.startswith("redis"):
        until(lambda: brokers.has_queue(broker, "jobs"))
    names = sorted(path.name for path in media.iterdir() if path.suffix != ".srt")
    for number, name in enumerate(names):
        message: dict[str, object] = {"version": 1, "sources": [str(media / name)], "name": name}
        if number % 2:
            message["job_key"] = f"key {name}"
        brokers.publish_job(broker, json.dumps(message).encode(), f"message-{number}")
    for death in range(1, 1 + len(faults)):
        until(lambda death=death: len(cluster.fired()) == death)
        cluster.start("intake", faults=faults)
    until(lambda: len(cluster.sql("SELECT id FROM job")) >= len(names))
    cluster.workers(1)
    cluster.check(expected, exact=True)
    jobs = cluster.sql("SELECT name, origin FROM job ORDER BY name")
    assert jobs == [{"name": name, "origin": "queue"} for name in names]
    assert cluster.sql("SELECT reason FROM dead_letter") == []


def test_schedulers(cluster: World, media: Path, expected: Content) -> None:
    faults = [
        Fault(action="kill", point="start", stage="schedule"),
        Fault(action="kill", point="stored", stage="accept"),
        Fault(action="kill", point="committed", stage="schedule"),
    ]
    scheduling.add(
        cluster.runtime,
        name="nightly",
        cron="0 0 1 1 *",
        time_zone="UTC",
        message=JobMessage(sources=(str(media),)),
    )
    with cluster.database.transaction() as connection:
        connection.execute(update(schedule).values(next_fire_at=utc_now(-60)))
    schedulers = [cluster.start("dispatcher", faults=faults) for _ in faults]
    until(lambda: not any(process.alive for process in schedulers))
    assert len(cluster.fired()) == len(faults)
    cluster.start("dispatcher")
    cluster.workers(1)
    until(lambda: bool(cluster.sql("SELECT 1 FROM schedule_fire WHERE job_id IS NOT NULL")))
    cluster.check(expected, exact=True)
    assert cluster.sql("SELECT origin FROM job") == [{"origin": "schedule"}]
    fires = cluster.sql("SELECT job_id, error_text FROM schedule_fire")
    assert [(fire["job_id"] is not None, fire["error_text"]) for fire in fires] == [(True, None)]
