"""Schedules on both databases: every time that comes is one job, whoever dies meanwhile.

The database's clock is set by the tests; the clocks of the processes have no say.
"""

import json
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import database_clock
import pytest
import servers
from command import ROOT
from database_clock import DatabaseClock
from sqlalchemy import text
from tenacity import retry, retry_if_result, stop_after_delay, wait_fixed

import workers.scheduler
from pipeline.config import ProfileOptions, RuleOptions, Settings
from pipeline.db import schedules
from pipeline.db.migrate import ensure_schema
from pipeline.errors import ConfigurationError
from pipeline.runner import scheduling
from pipeline.runner.runtime import Runtime
from schemas.messages import JobMessage
from workers.scheduler import Scheduler

MESSAGE = JobMessage(version=1, sources=("s3://films/in/",))
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


@retry(
    retry=retry_if_result(lambda done: not done), stop=stop_after_delay(60), wait=wait_fixed(0.05)
)
def until(condition: Callable[[], Any]) -> Any:
    return condition()


class Office:
    """A database with a clock, and processes that see it."""

    def __init__(self, url: str, folder: Path) -> None:
        self.clock = DatabaseClock(url)
        self.clock.install()
        self.url = database_clock.url_with_clock(url)
        self._folder = folder
        self._opened: list[Runtime] = []
        self.runtime = self.open()
        self.clock.set(NOON)

    def settings(self, **values: Any) -> Settings:
        return Settings(database=self.url, data_dir=self._folder / "data", **values)

    def open(self, **values: Any) -> Runtime:
        """One more process, with settings of its own."""
        runtime = Runtime(self.settings(**values))
        database_clock.show_clock(runtime.database)
        self._opened.append(runtime)
        return runtime

    def close(self) -> None:
        for runtime in self._opened:
            runtime.close()
        self.clock.close()

    def at(self, moment: datetime) -> int:
        """Set the clock, and fire what is due; gives how many were."""
        self.clock.set(moment)
        return scheduling.fire_due(self.runtime)

    def add(self, cron: str, *, name: str = "nightly", zone: str = "UTC", **message: Any) -> None:
        scheduling.add(
            self.runtime,
            name=name,
            cron=cron,
            time_zone=zone,
            message=MESSAGE.model_copy(update=message),
        )

    def rows(self, query: str) -> list[dict[str, Any]]:
        with self.runtime.database.reading() as connection:
            return [dict(row) for row in connection.execute(text(query)).mappings()]

    def jobs(self) -> list[str]:
        """The keys of all jobs, without what they have in common."""
        rows = self.rows("SELECT job_key FROM job ORDER BY id")
        return [row["job_key"].removeprefix("schedule:") for row in rows]

    def show(self, name: str = "nightly") -> dict[str, Any]:
        with self.runtime.database.reading() as connection:
            return schedules.details(connection, name, fires=100)


@pytest.fixture(params=["sqlite", "postgresql"])
def office(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Office]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'test.db'}"
    else:
        url = request.getfixturevalue("postgres_database")
    opened = Office(url, tmp_path)
    yield opened
    opened.close()


def test_a_time_that_comes_is_a_job(office: Office) -> None:
    office.add("0 13 * * *", zone="Europe/Berlin", priority=7, only_new=True)
    assert office.show()["next_fire_at"] == NOON.replace(hour=11) + timedelta(days=1)
    assert office.at(NOON + timedelta(hours=22, minutes=59)) == 0
    assert office.at(NOON + timedelta(hours=23, seconds=0.4)) == 1
    assert office.at(NOON + timedelta(hours=23, seconds=1)) == 0

    row = office.show()
    [fire] = row["fires"]
    assert fire["fire_at"] == NOON + timedelta(hours=23)
    assert fire["fired_at"] == NOON + timedelta(hours=23, seconds=0.4)
    assert (row["last_fire_at"], row["last_job_id"]) == (fire["fire_at"], fire["job_id"])
    assert (fire["error_text"], row["last_error"]) == (None, None)
    assert row["next_fire_at"] == NOON + timedelta(hours=47)
    job = office.rows("SELECT id, job_key, origin, priority, state, sources FROM job")[0]
    if isinstance(job["sources"], str):
        job["sources"] = json.loads(job["sources"])
    assert job == {
        "id": fire["job_id"],
        "job_key": "schedule:nightly:2026-06-02T11:00:00+00:00",
        "origin": "schedule",
        "priority": 7,
        "state": "expanding",
        "sources": ["s3://films/in/"],
    }
    assert [row["stage"] for row in office.rows("SELECT stage FROM stage_run")] == ["expand"]


def test_the_clock_of_the_process_has_no_say(office: Office) -> None:
    # The database's clock is an hour, and then a year, away from that of this process.
    now = datetime.now(UTC).replace(microsecond=0)
    office.clock.set(now + timedelta(hours=1))
    office.add("* * * * *")
    due_at = office.show()["next_fire_at"]
    assert timedelta(hours=1) < due_at - now <= timedelta(hours=1, minutes=1)
    assert office.at(due_at - timedelta(seconds=1)) == 0
    assert office.at(due_at + timedelta(seconds=1)) == 1
    office.clock.set(now - timedelta(days=365))
    office.add("* * * * *", name="earlier")
    assert office.show("earlier")["next_fire_at"] < now - timedelta(days=364)
    assert scheduling.fire_due(office.runtime) == 0


@pytest.mark.parametrize(
    ("night", "fired"),
    [
        ("2026-10-24T22:00", ["nightly:2026-10-25T00:30:00+00:00"]),
        ("2026-03-28T22:00", ["nightly:2026-03-29T01:00:00+00:00"]),
    ],
    ids=["02:30 comes twice", "02:30 is left out"],
)
def test_the_night_of_a_change_of_clocks(office: Office, night: str, fired: list[str]) -> None:
    moment = datetime.fromisoformat(night).replace(tzinfo=UTC)
    office.clock.set(moment)
    office.add("30 2 * * *", zone="Europe/Berlin")
    for minutes in range(0, 8 * 60, 10):
        office.at(moment + timedelta(minutes=minutes, seconds=1))
    assert office.jobs() == fired


def test_missed_times_are_one_job_for_the_latest(office: Office) -> None:
    office.add("0 * * * *")
    assert office.at(NOON + timedelta(days=3, minutes=20)) == 1
    assert office.jobs() == ["nightly:2026-06-04T12:00:00+00:00"]
    assert office.show()["next_fire_at"] == NOON + timedelta(days=3, hours=1)
    assert office.at(NOON + timedelta(days=3, hours=1)) == 1


def test_a_death_before_the_job_is_made_up_for(office: Office) -> None:
    office.add("0 * * * *")
    office.clock.set(NOON + timedelta(hours=1))
    [due] = office.rows("SELECT id FROM schedule")
    died = scheduling.decide(office.runtime, due["id"])
    assert died is not None
    assert office.jobs() == []
    # What was decided on stands, even if a later time has come.
    assert office.at(NOON + timedelta(hours=2)) == 1
    assert office.at(NOON + timedelta(hours=2)) == 1
    assert office.at(NOON + timedelta(hours=2)) == 0
    assert office.jobs() == [
        "nightly:2026-06-01T13:00:00+00:00",
        "nightly:2026-06-01T14:00:00+00:00",
    ]


def test_a_death_after_the_job_is_made_up_for(office: Office) -> None:
    office.add("0 * * * *")
    office.clock.set(NOON + timedelta(hours=1))
    [due] = office.rows("SELECT id FROM schedule")
    died = scheduling.decide(office.runtime, due["id"])
    assert died is not None
    job_id, _ = scheduling.carry_out(office.runtime, died)
    assert scheduling.fire_due(office.runtime) == 1
    assert office.jobs() == ["nightly:2026-06-01T13:00:00+00:00"]
    assert [fire["job_id"] for fire in office.show()["fires"]] == [job_id]
    # A process that was frozen between its job and its note changes nothing.
    scheduling.settle(office.runtime, died, None, "late")
    assert [fire["error_text"] for fire in office.show()["fires"]] == [None]
    assert scheduling.fire_due(office.runtime) == 0


def test_two_that_decide_at_once_decide_the_same(office: Office) -> None:
    office.add("* * * * *")
    office.clock.set(NOON + timedelta(minutes=1, seconds=59.9))
    [due] = office.rows("SELECT id FROM schedule")
    first = scheduling.decide(office.runtime, due["id"])
    office.clock.set(NOON + timedelta(minutes=2))
    second = scheduling.decide(office.open(), due["id"])
    assert first == second
    assert first is not None
    assert first.fire_at == NOON + timedelta(minutes=1)


def test_a_wrong_message_stops_nothing(office: Office) -> None:
    with_profile = office.open(profiles={"mine": ProfileOptions()})
    scheduling.add(
        with_profile,
        name="nightly",
        cron="0 * * * *",
        time_zone="UTC",
        message=MESSAGE.model_copy(update={"profile": "mine"}),
    )
    office.add("0 * * * *", name="other")
    assert office.at(NOON + timedelta(hours=1)) == 2
    row = office.show()
    assert (row["last_job_id"], row["next_fire_at"]) == (None, NOON + timedelta(hours=2))
    assert "mine" in row["last_error"]
    assert office.jobs() == ["other:2026-06-01T13:00:00+00:00"]

    office.clock.set(NOON + timedelta(hours=2))
    assert scheduling.fire_due(with_profile) == 2
    assert office.show()["last_error"] is None
    assert len(office.jobs()) == 3


def test_a_row_that_was_written_by_hand_stops_nothing(office: Office) -> None:
    office.add("0 * * * *")
    office.add("0 * * * *", name="other")
    with office.runtime.database.transaction() as connection:
        connection.execute(text("UPDATE schedule SET cron = 'often' WHERE name = 'nightly'"))
    assert office.at(NOON + timedelta(hours=1)) == 1
    assert office.jobs() == ["other:2026-06-01T13:00:00+00:00"]


def test_what_is_disabled_does_not_fire(office: Office) -> None:
    office.add("0 * * * *")
    scheduling.disable(office.runtime.database, "nightly")
    assert office.at(NOON + timedelta(hours=5)) == 0
    times = scheduling.enable(office.runtime.database, "nightly")
    assert times == [NOON + timedelta(hours=hours) for hours in (6, 7, 8)]
    assert scheduling.fire_due(office.runtime) == 0, "times of before do not count"
    assert office.at(times[0]) == 1
    later = times[0] + timedelta(hours=3)
    assert scheduling.enable(office.runtime.database, "nightly") == [*times[1:], later]


def test_what_changes_while_a_job_is_made(office: Office) -> None:
    office.add("0 * * * *")
    office.add("0 * * * *", name="other")
    office.clock.set(NOON + timedelta(hours=1))
    ids = [row["id"] for row in office.rows("SELECT id FROM schedule ORDER BY id")]
    fires = [scheduling.decide(office.runtime, schedule_id) for schedule_id in ids]
    scheduling.disable(office.runtime.database, "nightly")
    scheduling.remove(office.runtime.database, "other")
    for fire in fires:
        assert fire is not None
        scheduling.settle(office.runtime, fire, *scheduling.carry_out(office.runtime, fire))
    row = office.show()
    assert (row["enabled"], row["next_fire_at"], row["last_job_id"]) == (False, None, 1)
    assert len(office.rows("SELECT * FROM schedule_fire")) == 1
    assert len(office.jobs()) == 2


def test_a_run_beside_the_times(office: Office) -> None:
    office.add("0 * * * *")
    first, second = (scheduling.run_now(office.runtime, "nightly") for _ in range(2))
    assert first != second
    row = office.show()
    assert row["last_job_id"] in (first, second)
    assert row["next_fire_at"] == NOON + timedelta(hours=1)
    assert office.at(NOON + timedelta(hours=1)) == 1


def test_names_are_taken_once(office: Office) -> None:
    office.add("0 * * * *")
    with pytest.raises(ConfigurationError, match="there is a schedule 'nightly' already"):
        office.add("5 * * * *")
    with pytest.raises(ConfigurationError, match="names that begin with 'sweep:'"):
        office.add("5 * * * *", name="sweep:camera")
    with pytest.raises(ConfigurationError, match="no schedule 'daily'"):
        scheduling.remove(office.runtime.database, "daily")


RULE = RuleOptions(bucket="films", prefix="in/", sweep="0 3 * * *", time_zone="Europe/Berlin")


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
