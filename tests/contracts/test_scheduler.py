"""Schedulers on both databases: the rules they begin with, and whoever dies meanwhile."""

import json
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import servers
from command import ROOT
from office import MESSAGE, NOON, Office
from sqlalchemy import text
from tenacity import retry, retry_if_result, stop_after_delay, wait_fixed

import workers.scheduler
from pipeline.config import RuleOptions, Settings
from pipeline.db import schedules
from pipeline.db.migrate import ensure_schema
from pipeline.errors import ConfigurationError
from pipeline.runner import scheduling
from pipeline.runner.runtime import Runtime
from workers.scheduler import Scheduler

RULE = RuleOptions(bucket="films", prefix="in/", sweep="0 3 * * *", time_zone="Europe/Berlin")


@retry(
    retry=retry_if_result(lambda done: not done), stop=stop_after_delay(60), wait=wait_fixed(0.05)
)
def until(condition: Callable[[], Any]) -> Any:
    return condition()


def synced(office: Office, **rules: RuleOptions) -> Runtime:
    """A process that starts with these rules."""
    runtime = office.open(rules=rules)
    scheduling.sync_sweeps(runtime)
    return runtime


def test_rules_with_a_sweep_are_schedules(office: Office) -> None:
    synced(office, camera=RULE, events_only=RULE.model_copy(update={"sweep": None}))
    at_three = NOON + timedelta(hours=13)
    assert [row["name"] for row in office.rows("SELECT name FROM schedule")] == ["sweep:camera"]
    assert office.show("sweep:camera")["next_fire_at"] == at_three
    # Another process that starts while a time is due does not lose it.
    office.clock.set(at_three + timedelta(hours=1))
    assert scheduling.fire_due(synced(office, camera=RULE)) == 1
    [job] = office.rows("SELECT job_key, origin FROM job")
    assert job == {"job_key": f"schedule:sweep:camera:{at_three.isoformat()}", "origin": "sweep"}
    stored = office.show("sweep:camera")["message"]
    assert (stored["sources"], stored["only_new"]) == (["s3://films/in/"], True)


def test_rules_that_change_change_their_schedules(office: Office) -> None:
    synced(office, camera=RULE)
    hourly = RULE.model_copy(update={"sweep": "0 * * * *", "prefix": "new/"})
    synced(office, camera=hourly)
    row = office.show("sweep:camera")
    assert (row["cron"], row["next_fire_at"]) == ("0 * * * *", NOON + timedelta(hours=1))
    assert row["message"]["sources"] == ["s3://films/new/"]

    for change in (scheduling.enable, scheduling.disable, scheduling.remove):
        with pytest.raises(ConfigurationError, match="comes from the settings"):
            change(office.runtime.database, "sweep:camera")
    office.add("0 * * * *")
    synced(office)
    row = office.show("sweep:camera")
    assert (row["enabled"], row["next_fire_at"]) == (False, None)
    assert office.show()["enabled"], "those of people stay"

    office.clock.set(NOON + timedelta(hours=5))
    synced(office, camera=hourly)
    row = office.show("sweep:camera")
    assert (row["enabled"], row["next_fire_at"]) == (True, NOON + timedelta(hours=6))


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ({"camera": RULE.model_copy(update={"sweep": "hourly"})}, "rules.camera.sweep: 'hourly'"),
        ({"camera": RULE.model_copy(update={"time_zone": "Mars"})}, "no time zone 'Mars'"),
        ({"c" * 150: RULE}, "longer than"),
    ],
)
def test_wrong_rules_are_told_at_once(
    tmp_path: Path, rules: dict[str, RuleOptions], words: str
) -> None:
    settings = Settings(data_dir=tmp_path, rules=rules)
    runtime = Runtime(settings)
    with pytest.raises(ConfigurationError, match=words):
        Scheduler(runtime)
    runtime.close()


#: A process of a scheduler, which dies when it is told to.
PROCESS = """
import json, signal, sys
sys.path[:0] = json.loads(sys.argv[1])
import database_clock, workers.scheduler
from pathlib import Path
from pipeline.config import Settings
from pipeline.runner.runtime import Runtime
from pipeline.telemetry import configure_logging
configure_logging(level="ERROR")
workers.scheduler.POLL_SECONDS = 0.01
runtime = Runtime(Settings(database=sys.argv[2], data_dir=Path(sys.argv[3])))
database_clock.show_clock(runtime.database)
scheduler = workers.scheduler.Scheduler(runtime)
scheduler.start()
signal.pause()
"""

SCHEDULES, MINUTES, SCHEDULERS = 12, 8, 3


def test_every_due_time_is_one_job_whoever_is_killed(office: Office, tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1 << 30)
    print("seed", seed)
    chance = random.Random(seed)
    for number in range(SCHEDULES):
        office.add("* * * * *", name=f"schedule-{number}")
    paths = json.dumps([str(ROOT), str(ROOT / "tests")])
    command = [sys.executable, "-c", PROCESS, paths, office.url, str(tmp_path / "data")]

    def start() -> "subprocess.Popen[bytes]":
        return subprocess.Popen(command, stdin=subprocess.DEVNULL)

    def has(query: str, count: int) -> bool:
        return bool(office.rows(query)[0]["n"] >= count)

    processes = [start() for _ in range(SCHEDULERS)]
    try:
        for minute in range(1, MINUTES + 1):
            office.clock.set(NOON + timedelta(minutes=minute, seconds=chance.uniform(0, 59)))
            # Somewhere in the middle of the round, in whatever step a process is then.
            enough = (minute - 1) * SCHEDULES + chance.randrange(SCHEDULES)
            table = chance.choice(["job", "schedule_fire"])
            until(partial(has, f"SELECT COUNT(*) AS n FROM {table}", enough))
            victim = chance.randrange(SCHEDULERS)
            processes[victim].send_signal(signal.SIGKILL)
            processes[victim].wait()
            processes[victim] = start()
            done = "SELECT COUNT(*) AS n FROM schedule_fire WHERE job_id IS NOT NULL"
            until(partial(has, done, minute * SCHEDULES))
    finally:
        for process in processes:
            process.kill()
            process.wait()

    expected = {
        f"schedule-{number}:{(NOON + timedelta(minutes=minute)).isoformat()}"
        for number in range(SCHEDULES)
        for minute in range(1, MINUTES + 1)
    }
    jobs = office.jobs()
    assert len(jobs) == len(expected)
    assert set(jobs) == expected
    fires = office.rows("SELECT job_id, error_text FROM schedule_fire")
    assert sorted(fire["job_id"] for fire in fires) == sorted(
        row["id"] for row in office.rows("SELECT id FROM job")
    )
    assert {fire["error_text"] for fire in fires} == {None}


def test_a_scheduler_waits_for_a_database_that_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers.scheduler, "POLL_SECONDS", 0.05)
    with servers.postgres_server() as server:
        runtime = Runtime(Settings(database=server.url, data_dir=tmp_path, rules={"camera": RULE}))
        ensure_schema(runtime.database)
        scheduling.add(runtime, name="often", cron="* * * * *", time_zone="UTC", message=MESSAGE)
        server.process.kill()
        scheduler = Scheduler(runtime)
        scheduler.start()
        assert scheduler.alive
        server.process.start()

        def swept() -> bool:
            with runtime.database.reading() as connection:
                return len(schedules.table(connection)) == 2

        until(swept)
        with runtime.database.transaction() as connection:
            connection.execute(text("UPDATE schedule SET next_fire_at = now() - interval '1 hour'"))

        def fired() -> bool:
            with runtime.database.reading() as connection:
                return all(row["last_job_id"] for row in schedules.table(connection))

        until(fired)
        scheduler.stop()
        assert not scheduler.alive
        runtime.close()
