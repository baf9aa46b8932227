"""``mediaweave schedule``: what a person does with schedules."""

from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from command import Cli


def test_a_schedule_from_its_beginning_to_its_end(cli: Cli, tmp_path: Path) -> None:
    source = tmp_path / "films"
    source.mkdir()
    added = cli(
        "schedule", "add", "nightly", "30 4 * * *", str(source), "s3://films/in/",
        "--time-zone", "Europe/Berlin", "--priority", "-5", "--only-new",
        "--set", "split.min_shot_ms=500", "--json",
    )  # fmt: skip
    assert added.code == 0, added.err
    times = [datetime.fromisoformat(time) for time in added.json["next_times"]]
    assert len(times) == 3
    shown = [time.astimezone(ZoneInfo("Europe/Berlin")) for time in times]
    assert [(time.hour, time.minute) for time in shown] == [(4, 30)] * 3
    assert shown[1].date() - shown[0].date() == timedelta(days=1)

    [row] = cli("schedule", "list", "--json").json
    assert row["message"] == {
        "version": 1,
        "name": "nightly",
        "sources": [str(source), "s3://films/in/"],
        "priority": -5,
        "only_new": True,
        "parameters": {"split": {"min_shot_ms": 500}},
    }
    assert (row["name"], row["cron"], row["time_zone"]) == (
        "nightly",
        "30 4 * * *",
        "Europe/Berlin",
    )
    assert datetime.fromisoformat(row["next_fire_at"]) == times[0]
    assert (row["enabled"], row["last_job_id"], row["last_error"]) == (True, None, None)

    ran = cli("schedule", "run", "nightly", "--json")
    assert ran.code == 0, ran.err
    details = cli("schedule", "show", "nightly", "--json").json
    assert [fire["job_id"] for fire in details["fires"]] == [ran.json["job_id"]]
    assert details["last_job_id"] == ran.json["job_id"]
    assert details["next_times"] == added.json["next_times"]
    assert f"{shown[0]:%Y-%m-%d} 04:30:00" in cli("schedule", "list").out

    assert cli("schedule", "disable", "nightly").out == "nightly: disabled\n"
    [row] = cli("schedule", "list", "--json").json
    assert (row["enabled"], row["next_fire_at"]) == (False, None)
    assert "disabled" in cli("schedule", "list").out
    assert "disabled" in cli("schedule", "show", "nightly").out
    enabled = cli("schedule", "enable", "nightly", "--json")
    assert enabled.json["next_times"] == added.json["next_times"]

    assert cli("schedule", "remove", "nightly").out == "nightly: removed\n"
    assert cli("schedule", "list", "--json").json == []
    missing = cli("schedule", "show", "nightly")
    assert (missing.code, missing.out) == (2, "")
    assert "there is no schedule 'nightly'" in missing.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nightly", "30 25 * * *", "s3://films/"], "is no cron expression (Bad hour)"),
        (["nightly", "@daily", "s3://films/"], "five fields"),
        (["nightly", "0 3 * * *", "s3://films/", "--time-zone", "MEZ-1"], "no time zone 'MEZ-1'"),
        (["nightly", "0 3 * * *", "s3://films/", "--profile", "none"], "none"),
        (["nightly", "0 3 * * *", "s3://films/", "--set", "split.speed=9"], "speed"),
        (["nightly", "0 3 * * *", "ftp://films/"], "ftp"),
        (["every night", "0 3 * * *", "s3://films/"], "no name of a schedule"),
        (["sweep:films", "0 3 * * *", "s3://films/"], "no name of a schedule"),
    ],
)
def test_what_is_wrong_is_one_line(cli: Cli, arguments: list[str], words: str) -> None:
    result = cli("schedule", "add", *arguments)
    assert result.code == 2
    assert words in result.err
    assert result.err.count("\n") == 1
