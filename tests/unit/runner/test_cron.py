"""Times of cron expressions, through changes of clocks."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.errors import ConfigurationError
from pipeline.runner.cron import Cron

ZONES = (
    "UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata",
    "Pacific/Apia",
)  # fmt: skip
EXPRESSIONS = (
    "* * * * *", "*/7 * * * *", "0 * * * *", "30 2 * * *", "0 2,3 * * *", "59 23 31 12 *",
    "0 0 29 2 *", "15 1-4 * * sun", "*/20 2 * * *", "0 12 1 */3 *", "45 2 L * *",
)  # fmt: skip

crons = st.builds(Cron.parse, st.sampled_from(EXPRESSIONS), st.sampled_from(ZONES))
moments = st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=24 * 365)).map(
    lambda since: datetime(2011, 12, 1, tzinfo=UTC) + since
)


def berlin(text: str, *, fold: int = 0) -> datetime:
    """An exact time by Berlin's clocks; ``fold=1``: the second of two that read the same."""
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("Europe/Berlin"), fold=fold)


def times(expression: str, zone: str, start: datetime, end: datetime) -> list[str]:
    """Times after ``start`` and up to ``end``, as the zone's clocks show them."""
    cron, found = Cron.parse(expression, zone), []
    moment = cron.after(start)
    while moment <= end:
        found.append(moment.astimezone(cron.zone).isoformat())
        moment = cron.after(moment)
    return found


def test_a_time_that_comes_twice_fires_once() -> None:
    night = (berlin("2026-10-25T00:00"), berlin("2026-10-25T06:00"))
    assert times("30 2 * * *", "Europe/Berlin", *night) == ["2026-10-25T02:30:00+02:00"]
    # Asked for between the two.
    between = berlin("2026-10-25T02:10", fold=1)
    assert times("30 2 * * *", "Europe/Berlin", between, night[1]) == []


def test_a_time_that_is_left_out_fires_at_the_end_of_the_gap() -> None:
    night = (berlin("2026-03-29T00:00"), berlin("2026-03-29T06:00"))
    assert times("30 2 * * *", "Europe/Berlin", *night) == ["2026-03-29T03:00:00+02:00"]
    assert times("30 2,3 * * *", "Europe/Berlin", *night) == [
        "2026-03-29T03:00:00+02:00",
        "2026-03-29T03:30:00+02:00",
    ]


def test_every_hour_follows_the_time_that_passes() -> None:
    autumn = (berlin("2026-10-25T00:30"), berlin("2026-10-25T04:30"))
    assert times("0 * * * *", "Europe/Berlin", *autumn) == [
        "2026-10-25T01:00:00+02:00",
        "2026-10-25T02:00:00+02:00",
        "2026-10-25T02:00:00+01:00",
        "2026-10-25T03:00:00+01:00",
        "2026-10-25T04:00:00+01:00",
    ]
    spring = (berlin("2026-03-29T00:30"), berlin("2026-03-29T04:30"))
    assert times("0 * * * *", "Europe/Berlin", *spring) == [
        "2026-03-29T01:00:00+01:00",
        "2026-03-29T03:00:00+02:00",
        "2026-03-29T04:00:00+02:00",
    ]


@given(cron=crons, start=moments)
@example(
    cron=Cron.parse("45 2 * * *", "Europe/Berlin"), start=datetime(2026, 10, 25, 1, 30, tzinfo=UTC)
)
@example(cron=Cron.parse("* * * * *", "UTC"), start=datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=UTC))
def test_times_go_on_strictly(cron: Cron, start: datetime) -> None:
    found = cron.next_times(start, 5)
    assert len(found) == 5
    assert all(earlier < later for earlier, later in pairwise([start, *found]))
    assert {(time.second, time.microsecond) for time in found} == {(0, 0)}


@given(
    cron=crons,
    since=moments,
    length=st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=3)),
)
def test_the_latest_is_the_last_of_all(cron: Cron, since: datetime, length: timedelta) -> None:
    latest, until = since, since + length
    while (found := cron.after(latest)) <= until:
        latest = found
    assert cron.latest(since=since, until=until) == latest


def test_the_latest_after_years() -> None:
    since, until = datetime(2000, 1, 1, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC)
    yearly, minutely = Cron.parse("0 0 1 1 *", "UTC"), Cron.parse("* * * * *", "UTC")
    assert yearly.latest(since=since, until=until) == datetime(2026, 1, 1, tzinfo=UTC)
    assert minutely.latest(since=since, until=until) == until


@pytest.mark.parametrize(
    ("expression", "zone", "words"),
    [
        ("30 2 * *", "UTC", "five fields"),
        ("0 30 2 * * *", "UTC", "five fields"),
        ("@daily", "UTC", "five fields"),
        ("61 * * * *", "UTC", "Bad minute"),
        ("0 0 30 2 *", "UTC", "Bad day-of-month"),
        ("0 0 */15 4 mon#5", "UTC", "never comes"),
        ("* * * * *", "Berlin", "no time zone 'Berlin'"),
        ("* * * * *", "Europe", "no time zone 'Europe'"),
        ("* * * * *", "../etc/passwd", "no time zone"),
        ("* * * * *", "", "no time zone"),
    ],
)
def test_what_is_wrong_is_said(expression: str, zone: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        Cron.parse(expression, zone)


@given(st.one_of(st.text(), st.lists(st.text("0123456789*,-/#LW ", max_size=6)).map(" ".join)))
def test_no_text_is_a_surprise(expression: str) -> None:
    try:
        Cron.parse(expression, "Europe/Berlin")
    except ConfigurationError:
        return
    assert len(expression.split()) == 5
