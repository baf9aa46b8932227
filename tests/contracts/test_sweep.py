"""A sweep marks as gone what a complete listing does not show, and nothing else."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from database_rows import rows
from sqlalchemy import insert, select, update

from pipeline.db.engine import Database, open_database
from pipeline.db.migrate import ensure_schema
from pipeline.errors import SourceError
from pipeline.runner import sweep
from pipeline.runner.sweep import ListedPlaces, WatchedStore, retire_unlisted
from pipeline.storage.base import ObjectInfo, OnSkip
from pipeline.storage.local import LocalStore
from pipeline.storage.sources import SourceItem, expand
from schemas.tables import job, job_item, location, stage_run
from schemas.types import utc_now

LATER = datetime(2999, 1, 1, tzinfo=UTC)


def add_places(database: Database, *uris: str) -> None:
    with database.transaction() as connection:
        connection.execute(
            insert(location), [{"uri": uri, "etag": "e", "is_current": True} for uri in uris]
        )


def current(database: Database) -> set[str]:
    return {row["uri"] for row in rows(database, "SELECT uri FROM location WHERE is_current")}


def listed(*uris: str) -> ListedPlaces:
    places = ListedPlaces()
    for uri in uris:
        places.add(uri)
    return places


def database_time(database: Database) -> datetime:
    with database.reading() as connection:
        now: datetime = connection.execute(select(utc_now())).scalar_one()
        return now


class Bucket(LocalStore):
    """A store that lists these objects, and breaks off before ``breaks_at``."""

    def __init__(self, *uris: str, breaks_at: str | None = None) -> None:
        self._uris = sorted(uris, key=str.encode)
        self._breaks_at = breaks_at

    def list(self, uri: str, *, on_skip: OnSkip | None = None) -> Iterator[ObjectInfo]:
        for found in self._uris:
            if found.startswith(uri):
                if found == self._breaks_at:
                    raise SourceError("the listing broke off")
                yield ObjectInfo(uri=found, size_bytes=1, etag="e")

    def head(self, uri: str) -> ObjectInfo:
        return ObjectInfo(uri=uri, size_bytes=1, etag="e")

    def siblings(self, uri: str) -> Iterator[ObjectInfo]:
        return iter(())


def swept(database: Database, source: str, store: Bucket | LocalStore) -> int:
    watched = WatchedStore(store)
    assert list(expand(source, watched))
    return watched.retire_unlisted(database, since=LATER)


def test_what_was_not_listed_is_gone(database: Database) -> None:
    add_places(database, "s3://b/in/a.mp4", "s3://b/in/b.mp4", "s3://b/other/c.mp4")
    places = listed("s3://b/in/a.mp4")
    assert retire_unlisted(database, "s3://b/in/", places, since=LATER) == 1
    assert current(database) == {"s3://b/in/a.mp4", "s3://b/other/c.mp4"}
    assert retire_unlisted(database, "s3://b/in/", places, since=LATER) == 0


@pytest.mark.parametrize(
    ("prefix", "below", "beside"),
    [
        ("s3://b/100%/", ["s3://b/100%/a.mp4"], ["s3://b/1000/a.mp4", "s3://b/100/%/a.mp4"]),
        ("s3://b/a_b/", ["s3://b/a_b/a.mp4"], ["s3://b/axb/a.mp4"]),
        ("s3://b/a*[b]?", ["s3://b/a*[b]?x"], ["s3://b/aab", "s3://b/ab?x"]),
        ("s3://b/a\\", ["s3://b/a\\b.mp4"], ["s3://b/a/b.mp4"]),
        ("s3://b/In/", ["s3://b/In/a.mp4"], ["s3://b/in/a.mp4", "s3://B/In/a.mp4"]),
        ("s3://b/é 日本🎬/", ["s3://b/é 日本🎬/a.mp4"], ["s3://b/e\u0301 日本🎬/a.mp4"]),
        ("s3://b/cam-", ["s3://b/cam-1/a.mp4", "s3://b/cam-"], ["s3://b/cam/a.mp4"]),
        ("s3://b/", ["s3://b/a.mp4"], ["s3://bc/a.mp4"]),
        # Folders of files have no slash at their end.
        ("file:///films", ["file:///films/a.mp4"], ["file:///films2/a.mp4"]),
    ],
)
def test_a_prefix_is_taken_by_its_letters(
    database: Database, prefix: str, below: list[str], beside: list[str]
) -> None:
    add_places(database, *below, *beside)
    assert retire_unlisted(database, prefix, listed(), since=LATER) == len(below)
    assert current(database) == set(beside)


def test_places_are_worked_off_in_batches(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "BATCH", 7)
    uris = [f"s3://b/in/{n}.mp4" for n in range(50)]
    add_places(database, *uris)
    assert retire_unlisted(database, "s3://b/in/", listed(*uris[::3]), since=LATER) == 33
    assert current(database) == set(uris[::3])


def test_what_appeared_meanwhile_stays(database: Database) -> None:
    add_places(database, "s3://b/in/old.mp4", "s3://b/in/again.mp4")
    with database.transaction() as connection:
        connection.execute(update(location).values(first_seen_at=utc_now(-60)))
    began = database_time(database)
    add_places(database, "s3://b/in/new.mp4")
    submit_again(database, "s3://b/in/again.mp4")
    assert retire_unlisted(database, "s3://b/in/", listed(), since=began) == 1
    assert current(database) == {"s3://b/in/new.mp4", "s3://b/in/again.mp4"}


def submit_again(database: Database, uri: str) -> None:
    with database.transaction() as connection:
        job_id = connection.execute(
            insert(job)
            .values(name="n", profile="p", sources=[uri], plan={}, state="running")
            .returning(job.c.id)
        ).scalar_one()
        place = connection.execute(select(location.c.id).where(location.c.uri == uri)).scalar_one()
        run_id = connection.execute(
            insert(stage_run)
            .values(
                job_id=job_id,
                location_id=place,
                stage="ingest",
                queue="io",
                fingerprint="f",
                code_version=1,
                params={},
                inputs={},
                state="queued",
            )
            .returning(stage_run.c.id)
        ).scalar_one()
        connection.execute(
            insert(job_item).values(
                job_id=job_id, location_id=place, ingest_run_id=run_id, state="pending"
            )
        )


def test_a_place_that_somebody_holds_stays_for_the_next_sweep(postgres_database: str) -> None:
    database = open_database(postgres_database)
    ensure_schema(database)
    add_places(database, "s3://b/in/a.mp4", "s3://b/in/b.mp4")
    with database.transaction() as connection:
        held = select(location).where(location.c.uri == "s3://b/in/a.mp4").with_for_update()
        connection.execute(held)
        assert retire_unlisted(database, "s3://b/in/", listed(), since=LATER) == 1
    assert current(database) == {"s3://b/in/a.mp4"}
    database.close()


def test_a_swept_folder_says_nothing_of_its_neighbours(database: Database) -> None:
    add_places(database, "s3://b/in/gone.mp4", "s3://b/in/a.mp4", "s3://b/in-2/b.mp4")
    # "in" is a folder here, so that in-2 is not listed.
    assert swept(database, "s3://b/in", Bucket("s3://b/in/a.mp4", "s3://b/in-2/b.mp4")) == 1
    assert current(database) == {"s3://b/in/a.mp4", "s3://b/in-2/b.mp4"}


def test_a_swept_beginning_of_names_is_all_of_them(database: Database) -> None:
    add_places(database, "s3://b/cam-1/gone.mp4", "s3://b/cam-2/a.mp4", "s3://b/cam/b.mp4")
    assert swept(database, "s3://b/cam-", Bucket("s3://b/cam-2/a.mp4", "s3://b/cam/b.mp4")) == 1
    assert current(database) == {"s3://b/cam-2/a.mp4", "s3://b/cam/b.mp4"}


def test_an_object_that_is_named_itself_says_nothing_of_others(database: Database) -> None:
    add_places(database, "s3://b/a.mp4", "s3://b/a.mp4.old.mp4")
    assert swept(database, "s3://b/a.mp4", Bucket("s3://b/a.mp4", "s3://b/a.mp4.new.mp4")) == 0
    assert len(current(database)) == 2


def test_what_a_listing_leaves_out_is_not_gone(database: Database) -> None:
    uris = ["s3://b/in/.hidden.mp4", "s3://b/in/film.dat", "s3://b/in/a.mp4"]
    add_places(database, *uris)
    assert swept(database, "s3://b/in/", Bucket(*uris)) == 0


def test_an_emptied_prefix_is_gone(database: Database) -> None:
    add_places(database, "s3://b/in/a.mp4")
    assert swept(database, "s3://b/in/", Bucket("s3://b/x.mp4")) == 1
    assert current(database) == set()


@pytest.mark.parametrize("breaks_at", ["s3://b/in/1.mp4", "s3://b/in/3.mp4"])
def test_a_listing_that_broke_off_takes_nothing_away(database: Database, breaks_at: str) -> None:
    uris = [f"s3://b/in/{n}.mp4" for n in range(1, 4)]
    add_places(database, *uris, "s3://b/in/0.mp4")
    assert swept(database, "s3://b/in/", Bucket(*uris, breaks_at=breaks_at)) == 0
    assert len(current(database)) == 4


def test_a_listing_that_was_not_read_to_its_end_takes_nothing_away(database: Database) -> None:
    add_places(database, "s3://b/in/0.mp4")
    watched = WatchedStore(Bucket("s3://b/in/1.mp4", "s3://b/in/2.mp4"))
    assert isinstance(next(expand("s3://b/in/", watched)), SourceItem)
    assert watched.retire_unlisted(database, since=LATER) == 0


def test_a_folder_that_could_not_be_read_whole_takes_nothing_away(
    database: Database, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.mp4").write_bytes(b"x")
    uri = f"file://{tmp_path}/in"
    add_places(database, f"{uri}/a.mp4", f"{uri}/gone.mp4")
    (tmp_path / "in" / "loop").symlink_to(tmp_path)
    assert swept(database, uri, LocalStore()) == 0
    (tmp_path / "in" / "loop").unlink()
    assert swept(database, uri, LocalStore()) == 1
    assert current(database) == {f"{uri}/a.mp4"}
