"""Schedules on both databases: every time that comes is one job, whoever dies meanwhile.

The database's clock is set by the tests; the clocks of the processes have no say.
"""

import json
from datetime import UTC, datetime, timedelta

import pytest
from office import MESSAGE, NOON, Office
from sqlalchemy import text

from pipeline.config import ProfileOptions
from pipeline.errors import ConfigurationError
from pipeline.runner import scheduling


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
