"""Jobs on every database: their keys, the places of their items, how they close."""

from database_rows import add_asset, add_run, rows
from sqlalchemy import select, update

from pipeline.db import job_ends, jobs
from pipeline.db.engine import Database
from schemas import tables
from schemas.plans import JobPlan
from schemas.types import utc_now

EMPTY_PLAN = JobPlan(profile="offline", stages={})


def test_a_job_key_is_one_job(database: Database) -> None:
    made = []
    for _ in range(2):
        with database.transaction() as connection:
            made.append(
                jobs.create_job(
                    connection,
                    job_key="nightly-1",
                    name="n",
                    priority=0,
                    sources=["s3://b/p"],
                    plan=EMPTY_PLAN,
                )
            )
    assert made[0] == (made[1][0], True)
    assert made[1][1] is False


def test_a_new_version_of_a_place_replaces_the_old_one(database: Database) -> None:
    def see(etag: str) -> int:
        with database.transaction() as connection:
            place = jobs.SeenAt(uri="s3://b/k", etag=etag, size_bytes=1)
            return int(jobs.see_locations(connection, [place])[0].id)

    first, second = see("v1"), see("v2")
    current = "SELECT id FROM location WHERE is_current"
    assert rows(database, current) == [{"id": second}]
    assert see("v1") == first
    assert rows(database, current) == [{"id": first}]


def test_the_last_item_closes_its_job(database: Database) -> None:
    ingest = add_run(database, add_asset(database), stage="ingest", queue="io")
    with database.transaction() as connection:
        job_id, _ = jobs.create_job(
            connection, job_key=None, name="n", priority=0, sources=["x"], plan=EMPTY_PLAN
        )
        seen = [jobs.SeenAt(uri=f"s3://b/{n}", etag="e", size_bytes=1) for n in range(2)]
        places = [row.id for row in jobs.see_locations(connection, seen)]
        asset_id = connection.execute(select(tables.asset.c.id)).scalar_one()
        items = [
            jobs.NewItem(location_id=place, ingest_run_id=ingest, asset_id=asset_id)
            for place in places
        ]
        jobs.add_items(connection, job_id, items)
        job_ends.set_item_state(connection, job_id, places[0], "done")
        job_ends.close_if_complete(connection, job_id)
    assert rows(database, f"SELECT state FROM v_jobs WHERE job_id = {job_id}") == [
        {"state": "expanding"}
    ]
    with database.transaction() as connection:
        job_ends.listing_complete(connection, job_id, files_skipped=3)
    assert rows(database, f"SELECT state FROM v_jobs WHERE job_id = {job_id}") == [
        {"state": "running"}
    ]
    with database.transaction() as connection:
        job_ends.set_item_state(connection, job_id, places[1], "failed")
        job_ends.close_if_complete(connection, job_id)
    assert rows(
        database,
        "SELECT state, assets_total, assets_done, assets_failed, files_skipped FROM v_jobs "
        f"WHERE job_id = {job_id}",
    ) == [
        {"state": "failed", "assets_total": 2, "assets_done": 1, "assets_failed": 1,
         "files_skipped": 3}
    ]  # fmt: skip


def test_jobs_that_everybody_took_for_unfinished_are_found(database: Database) -> None:
    ingest = add_run(database, add_asset(database), stage="ingest", queue="io")
    with database.transaction() as connection:
        job_id, _ = jobs.create_job(
            connection, job_key=None, name="n", priority=0, sources=["x"], plan=EMPTY_PLAN
        )
        count = job_ends.MANY_OPEN + 1
        seen = [jobs.SeenAt(uri=f"s3://b/{n}", etag="e", size_bytes=1) for n in range(count)]
        places = [row.id for row in jobs.see_locations(connection, seen)]
        asset_id = connection.execute(select(tables.asset.c.id)).scalar_one()
        jobs.add_items(
            connection,
            job_id,
            [
                jobs.NewItem(location_id=place, ingest_run_id=ingest, asset_id=asset_id)
                for place in places
            ],
        )
        job_ends.listing_complete(connection, job_id, files_skipped=0)
        assert job_id not in job_ends.complete_but_open(connection)
        for place in places:
            job_ends.set_item_state(connection, job_id, place, "done")
        assert job_id in job_ends.complete_but_open(connection)
        connection.execute(update(tables.job).values(cancelled_at=utc_now()))
        assert job_id not in job_ends.complete_but_open(connection), "whoever cancels it closes it"
        job_ends.close_if_complete(connection, job_id)
        connection.execute(update(tables.job).values(cancelled_at=None))
        assert job_id in job_ends.complete_but_open(connection)
        job_ends.close_if_complete(connection, job_id)
        assert job_id not in job_ends.complete_but_open(connection)
    assert rows(database, f"SELECT state FROM v_jobs WHERE job_id = {job_id}") == [
        {"state": "done"}
    ]
