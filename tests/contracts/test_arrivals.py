"""Events of buckets become jobs, and places that are gone, once, on both databases."""

import threading
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from database_rows import rows
from sqlalchemy import insert, select

from pipeline.config import RuleOptions, Settings
from pipeline.db.engine import Database
from pipeline.errors import ConfigurationError, DatabaseUnavailableError
from pipeline.runner import arrivals
from pipeline.runner.runtime import Runtime
from schemas.bucket_events import BucketEvent
from schemas.tables import job, location

RULES = {
    "films": RuleOptions(bucket="b", prefix="in/", priority=5, labels=("cat", "dog")),
    "live": RuleOptions(bucket="b", prefix="in/live/", priority=50),
}


@pytest.fixture
def runtime(database: Database, tmp_path: Path) -> Iterator[Runtime]:
    url = database.engine.url.render_as_string(hide_password=False)
    made = Runtime(Settings(data_dir=tmp_path / "data", database=url, rules=RULES))
    yield made
    made.close()


def created(key: str = "in/a.mp4", sequencer: str | None = "10", **fields: Any) -> BucketEvent:
    described = {"etag": "e1", "size_bytes": 3, **fields}
    return BucketEvent(kind="created", bucket="b", key=key, sequencer=sequencer, **described)


def removed(key: str = "in/a.mp4", sequencer: str | None = "20", **fields: Any) -> BucketEvent:
    return BucketEvent(kind="removed", bucket="b", key=key, sequencer=sequencer, **fields)


def add_place(
    runtime: Runtime, uri: str = "s3://b/in/a.mp4", etag: str = "e1", version: str | None = None
) -> None:
    with runtime.database.transaction() as connection:
        connection.execute(
            insert(location).values(uri=uri, etag=etag, version=version, is_current=True)
        )


def jobs(runtime: Runtime) -> list[dict[str, Any]]:
    return rows(runtime.database, "SELECT * FROM job ORDER BY id")


def submitted(runtime: Runtime) -> list[str]:
    """The sources of all jobs."""
    with runtime.database.reading() as connection:
        found = connection.execute(select(job.c.sources).order_by(job.c.id)).scalars()
        return [source for sources in found for source in sources]


def current(runtime: Runtime) -> list[str]:
    query = "SELECT uri FROM location WHERE is_current ORDER BY uri, etag"
    return [row["uri"] for row in rows(runtime.database, query)]


def known(runtime: Runtime) -> list[tuple[str, str, str | None]]:
    query = "SELECT * FROM bucket_event ORDER BY uri"
    return [(row["uri"], row["kind"], row["sequencer"]) for row in rows(runtime.database, query)]


def test_an_object_that_a_rule_takes_becomes_a_job(runtime: Runtime) -> None:
    arrivals.apply(runtime, [created("in/my holiday +é%20.mp4")])
    (made,) = jobs(runtime)
    assert submitted(runtime) == ["s3://b/in/my holiday +é%20.mp4"]
    assert (made["origin"], made["priority"], made["state"]) == ("event", 5, "expanding")
    assert made["name"] == "films: s3://b/in/my holiday +é%20.mp4"
    assert "cat" in str(made["plan"])
    assert "dog" in str(made["plan"])
    assert known(runtime) == [("s3://b/in/my holiday +é%20.mp4", "created", "10")]


def test_the_most_specific_rule_makes_the_one_job(runtime: Runtime) -> None:
    arrivals.apply(runtime, [created("in/live/a.mp4")])
    assert [job["priority"] for job in jobs(runtime)] == [50]


def test_what_no_rule_takes_leaves_no_trace(runtime: Runtime) -> None:
    events = [created("a.mp4"), created("in/a.txt"), created("in/.a.mp4"), removed("x.mp4")]
    arrivals.apply(runtime, [*events, created("in/lone.srt"), removed("in/lone.srt")])
    assert jobs(runtime) == []
    assert known(runtime) == []


def test_a_repeated_event_changes_nothing(runtime: Runtime) -> None:
    arrivals.apply(runtime, [created(), created()])
    arrivals.apply(runtime, [created()])
    assert len(jobs(runtime)) == 1


def test_a_new_version_is_a_new_job(runtime: Runtime) -> None:
    arrivals.apply(runtime, [created(), created(sequencer="11", etag="e2")])
    assert len(jobs(runtime)) == 2


def test_an_older_event_changes_nothing(runtime: Runtime) -> None:
    arrivals.apply(runtime, [created(sequencer="0A11", etag="e2")])
    arrivals.apply(runtime, [created(sequencer="0A10"), removed(sequencer="0A0F")])
    assert len(jobs(runtime)) == 1
    assert known(runtime) == [("s3://b/in/a.mp4", "created", "0A11")]


def test_a_removal_marks_every_place_of_the_object_as_gone(runtime: Runtime) -> None:
    add_place(runtime)
    add_place(runtime, etag="e2")
    add_place(runtime, "s3://b/in/b.mp4")
    arrivals.apply(runtime, [created(), removed()])
    assert current(runtime) == ["s3://b/in/b.mp4"]
    assert known(runtime) == [("s3://b/in/a.mp4", "removed", "20")]


def test_a_removal_that_comes_before_its_creation_holds(runtime: Runtime) -> None:
    arrivals.apply(runtime, [removed(sequencer="20"), created(sequencer="10")])
    assert jobs(runtime) == []
    assert known(runtime) == [("s3://b/in/a.mp4", "removed", "20")]


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_created_removed_created_ends_as_created_in_any_order(
    runtime: Runtime, order: tuple[int, ...]
) -> None:
    story = [created(sequencer="10"), removed(sequencer="20"), created(sequencer="30")]
    add_place(runtime)
    arrivals.apply(runtime, [story[step] for step in order])
    assert known(runtime) == [("s3://b/in/a.mp4", "created", "30")]
    after_it = order[order.index(2) + 1 :]
    # The place is made current by the job's listing, unless no removal has touched it.
    assert current(runtime) == (["s3://b/in/a.mp4"] if 1 in after_it else [])
    assert len(jobs(runtime)) == (2 if order.index(0) < min(order.index(1), order.index(2)) else 1)


def test_without_sequencers_the_same_file_may_come_back(runtime: Runtime) -> None:
    story = [created(sequencer=None), removed(sequencer=None), created(sequencer=None)]
    for event in story:
        arrivals.apply(runtime, [event, event])
    assert len(jobs(runtime)) == 2
    assert len({job["job_key"] for job in jobs(runtime)}) == 2


def test_a_sequencer_that_never_changes_hides_nothing(runtime: Runtime) -> None:
    story = [created(), created(etag="e2"), removed(sequencer="10"), created(etag="e2")]
    for event in story:
        arrivals.apply(runtime, [event, event])
    assert len(jobs(runtime)) == 3


def test_the_removal_of_an_old_version_leaves_the_object(runtime: Runtime) -> None:
    add_place(runtime, version="v2")
    arrivals.apply(runtime, [created(version="v2"), removed(version="v1")])
    assert current(runtime) == ["s3://b/in/a.mp4"]
    assert known(runtime) == [("s3://b/in/a.mp4", "created", "10")]
    arrivals.apply(runtime, [removed(sequencer="30", version="v2")])
    assert current(runtime) == []


def test_the_removal_of_an_old_version_does_not_hide_a_late_creation(runtime: Runtime) -> None:
    arrivals.apply(runtime, [removed(version="v1"), created(version="v2")])
    assert len(jobs(runtime)) == 1
    assert known(runtime) == [("s3://b/in/a.mp4", "created", "10")]


def test_a_place_that_was_submitted_by_hand_goes_too(runtime: Runtime) -> None:
    add_place(runtime, "s3://b/elsewhere/a.dat")
    later, earlier = created("elsewhere/a.dat", "30"), removed("elsewhere/a.dat", "20")
    arrivals.apply(runtime, [later, earlier])
    assert current(runtime) == ["s3://b/elsewhere/a.dat"]
    arrivals.apply(runtime, [removed("elsewhere/a.dat", "40")])
    assert current(runtime) == []
    assert jobs(runtime) == []


@pytest.mark.parametrize(
    ("sidecar", "media"),
    [
        ("in/a.srt", ["in/a.mp4"]),
        ("in/a.en.forced.vtt", ["in/a.mp4"]),
        ("in/a.part.de.ass", ["in/a.part.MKV"]),
        ("in/B.SRT", ["in/B.mkv", "in/B.mp4"]),
        ("in/picture.srt", []),
        ("in/a.1.srt", []),
        ("in/deep/a.srt", []),
        ("other/a.srt", []),
    ],
)
def test_late_subtitles_submit_the_media_beside_them(
    runtime: Runtime, sidecar: str, media: list[str]
) -> None:
    for key in ("in/a.mp4", "in/a.part.MKV", "in/B.mkv", "in/B.mp4", "in/picture.jpg"):
        add_place(runtime, f"s3://b/{key}")
    add_place(runtime, "s3://b/other/a.mp4")  # no rule says what to do with it
    events = [created(sidecar), removed(sidecar)]
    for times, event in enumerate(events, start=1):
        arrivals.apply(runtime, [event, event])
        assert sorted(submitted(runtime)) == sorted(f"s3://b/{key}" for key in media * times)
    assert {job["priority"] for job in jobs(runtime)} <= {5}


def test_subtitles_may_come_before_the_job_of_their_media_has_listed_it(
    runtime: Runtime,
) -> None:
    arrivals.apply(runtime, [created("in/a.mp4"), created("in/a.en.srt")])
    assert submitted(runtime) == ["s3://b/in/a.mp4", "s3://b/in/a.mp4"]
    arrivals.apply(runtime, [removed("in/a.mp4"), created("in/a.fr.srt")])
    assert len(jobs(runtime)) == 2


def test_many_processes_with_the_same_events_make_one_job_each(runtime: Runtime) -> None:
    events = [created(f"in/{n}.mp4", sequencer=None) for n in range(6)]
    start, errors = threading.Barrier(4), []

    def apply() -> None:
        start.wait()
        try:
            arrivals.apply(runtime, events)
        except Exception as error:  # noqa: BLE001  told to the test
            errors.append(error)

    threads = [threading.Thread(target=apply) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sorted(submitted(runtime)) == [f"s3://b/in/{n}.mp4" for n in range(6)]
    assert len(known(runtime)) == 6


def test_events_in_a_race_end_with_the_newest(runtime: Runtime) -> None:
    add_place(runtime)
    events = [
        (created if n % 2 else removed)(sequencer=f"{n:04X}", etag=f"e{n}") for n in range(1, 25)
    ]
    start = threading.Barrier(4)

    def apply(mine: list[BucketEvent]) -> None:
        start.wait()
        arrivals.apply(runtime, mine)

    threads = [threading.Thread(target=apply, args=(events[n::4],)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert known(runtime) == [("s3://b/in/a.mp4", "removed", "0018")]
    assert current(runtime) == []


def test_a_crash_between_job_and_mark_makes_neither_two_jobs_nor_none(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: Any) -> bool:
        raise DatabaseUnavailableError("the connection was cut")

    with monkeypatch.context() as patch:
        patch.setattr(arrivals, "_remember", crash)
        with pytest.raises(DatabaseUnavailableError):
            arrivals.apply(runtime, [created()])
    assert (len(jobs(runtime)), known(runtime)) == (1, [])
    arrivals.apply(runtime, [created()])
    assert len(jobs(runtime)) == 1
    assert known(runtime) == [("s3://b/in/a.mp4", "created", "10")]


def test_a_rule_that_is_wrong_is_said(database: Database, tmp_path: Path) -> None:
    url = database.engine.url.render_as_string(hide_password=False)
    rules = {"films": RuleOptions(bucket="b", profile="nonsense")}
    runtime = Runtime(Settings(data_dir=tmp_path / "data", database=url, rules=rules))
    try:
        with pytest.raises(ConfigurationError, match="nonsense"):
            arrivals.apply(runtime, [created()])
        assert known(runtime) == []
    finally:
        runtime.close()
