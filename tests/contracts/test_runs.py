"""Stage runs on every database: claims, leases and their fences, pauses, publishing."""

import threading
from typing import Any

import pytest
from database_rows import add_asset, add_job, add_run
from sqlalchemy import Connection, select, update

from pipeline.db import closing, dispatching, job_control, runs
from pipeline.db.engine import Database
from schemas import tables
from schemas.types import utc_now


def claim(
    database: Database, run_id: int, lease_seconds: float = 60, *, alone: bool = False
) -> runs.ClaimedRun | None:
    with database.transaction() as connection:
        return runs.claim(
            connection,
            run_id,
            owner="host/1",
            lease_seconds=lease_seconds,
            max_attempts=3,
            alone=alone,
        )


def recover(
    connection: Connection, *, max_attempts: int = 3, dead_owners: tuple[str, ...] = ()
) -> list[int]:
    """As a dispatcher does; gives the runs that failed for good."""
    lost = dispatching.Lost(dead_owners=dead_owners)
    out = dispatching.lost_for_good(connection, lost, max_attempts=max_attempts)
    failed = [
        row.id
        for row in out
        if dispatching.fail_lost(connection, row.id, lost, max_attempts=max_attempts)
    ]
    dispatching.requeue_lost(connection, lost, max_attempts=max_attempts)
    return failed


def take_due(connection: Connection, queue: str, *, depth: int) -> list[int]:
    return dispatching.take_due(connection, queue, depth=depth)[0]


def run_row(database: Database, run_id: int) -> Any:
    with database.reading() as connection:
        return connection.execute(
            select(tables.stage_run).where(tables.stage_run.c.id == run_id)
        ).one()


def succeed(database: Database, run: runs.ClaimedRun) -> None:
    with database.transaction() as connection:
        outcome = closing.Outcome(
            asset_id=run.asset_id or 0,
            outputs={"shots": "d"},
            seconds=1.5,
            device_seconds=0.5,
            cpu_seconds={"decoder": 1.0},
            notes=["a note"],
        )
        closing.succeed(connection, run, outcome)


def postpone(
    database: Database, run: runs.ClaimedRun, error_class: str, *, pause_seconds: float
) -> None:
    with database.transaction() as connection:
        closing.postpone(
            connection, run, error_class=error_class, error_text="why", pause_seconds=pause_seconds
        )


def test_a_run_is_claimed_once_and_counts_the_attempt(database: Database) -> None:
    run_id = add_run(database, add_asset(database))
    first = claim(database, run_id)
    assert first is not None
    assert (first.attempt, first.stage, first.params) == (1, "split", {"a": [1, None, "é"]})
    assert claim(database, run_id) is None
    succeed(database, first)
    assert claim(database, run_id) is None
    row = run_row(database, run_id)
    assert (row.state, row.outputs, row.notes) == ("succeeded", {"shots": "d"}, ["a note"])
    assert row.lease_token is None
    assert row.finished_at >= row.started_at


def test_many_threads_claim_a_run_once(database: Database) -> None:
    run_id = add_run(database, add_asset(database))
    claims: list[runs.ClaimedRun | None] = []
    threads = [
        threading.Thread(target=lambda: claims.append(claim(database, run_id))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(claims) == 8
    assert sum(taken is not None for taken in claims) == 1


def test_a_lost_lease_fences_the_old_worker_off(database: Database) -> None:
    run_id = add_run(database, add_asset(database))
    old = claim(database, run_id, lease_seconds=-1)
    assert old is not None
    with database.transaction() as connection:
        patient = dispatching.Lost(with_expired=False)
        assert dispatching.requeue_lost(connection, patient, max_attempts=3) == 0
        assert recover(connection) == []
    new = claim(database, run_id)
    assert new is not None
    assert new.attempt == 2
    with pytest.raises(runs.LeaseLostError):
        succeed(database, old)
    assert run_row(database, run_id).state == "running"
    succeed(database, new)
    assert run_row(database, run_id).state == "succeeded"


def test_a_renewed_lease_is_not_recovered(database: Database) -> None:
    run_id = add_run(database, add_asset(database))
    run = claim(database, run_id, lease_seconds=-1)
    assert run is not None
    with database.transaction() as connection:
        runs.renew(connection, [run.token, "other"], lease_seconds=60)
        recover(connection)
    assert run_row(database, run_id).state == "running"


def test_a_dead_owner_is_recovered_before_its_lease_ends(database: Database) -> None:
    run_id = add_run(database, add_asset(database))
    assert claim(database, run_id) is not None
    with database.transaction() as connection:
        assert dispatching.running_owners(connection) == {"host/1"}
        recover(connection, dead_owners=("host/1",))
    assert run_row(database, run_id).state == "queued"


def test_a_run_that_kills_its_workers_fails_after_its_attempts(database: Database) -> None:
    run_id = add_run(database, add_asset(database))
    for attempt in (1, 2):
        assert claim(database, run_id, lease_seconds=-1) is not None
        with database.transaction() as connection:
            failed = recover(connection, max_attempts=2)
        assert failed == ([run_id] if attempt == 2 else [])
    row = run_row(database, run_id)
    assert (row.state, row.error_class, row.attempt) == ("failed", "AttemptLostError", 2)


def test_given_back_work_does_not_count_as_an_attempt(database: Database) -> None:
    run_id = add_run(database, add_asset(database))
    run = claim(database, run_id)
    assert run is not None
    with database.transaction() as connection:
        runs.give_back(connection, run.token)
    again = claim(database, run_id)
    assert again is not None
    assert again.attempt == 1


def test_a_postponed_run_waits(database: Database) -> None:
    run_id = add_run(database, add_asset(database))
    run = claim(database, run_id)
    assert run is not None
    postpone(database, run, "StoreUnavailableError", pause_seconds=60)
    assert claim(database, run_id) is None
    assert run_row(database, run_id).state == "waiting"
    with database.transaction() as connection:
        assert dispatching.look(connection, ["cpu"]) == ([], False)
        assert dispatching.wake_waiting(connection) == 0
        assert take_due(connection, "cpu", depth=9) == []
        connection.execute(update(tables.stage_run).values(not_before=utc_now(-1)))
        assert dispatching.look(connection, ["cpu"]) == ([], True)
        assert dispatching.wake_waiting(connection) == 1
        assert take_due(connection, "cpu", depth=9) == [run_id]


def test_due_work_is_published_most_urgent_first_and_no_deeper_than_asked(
    database: Database,
) -> None:
    asset_id = add_asset(database)
    ids = {
        priority: add_run(database, asset_id, stage=f"s{priority}", priority=priority)
        for priority in (0, 5, 1, 9)
    }
    other = add_run(database, asset_id, queue="io")
    with database.transaction() as connection:
        assert dispatching.look(connection, ["io", "device"]) == (["io"], False)
        assert take_due(connection, "cpu", depth=2) == [ids[9], ids[5]]
        assert take_due(connection, "cpu", depth=2) == []
        assert take_due(connection, "cpu", depth=3) == [ids[1]]
        dispatching.unpublish(connection, [ids[9]])
        assert take_due(connection, "cpu", depth=3) == [ids[9]]
        assert take_due(connection, "io", depth=3) == [other]
        assert dispatching.look(connection, ["io", "device"]) == ([], False)


def test_urgent_work_is_published_although_the_broker_is_full_of_other(database: Database) -> None:
    asset_id = add_asset(database)
    bulk = [add_run(database, asset_id) for _ in range(3)]
    with database.transaction() as connection:
        assert take_due(connection, "cpu", depth=2) == bulk[:2]
    live = add_run(database, asset_id, priority=1)
    with database.transaction() as connection:
        assert take_due(connection, "cpu", depth=2) == [live]
        assert take_due(connection, "cpu", depth=2) == []


def test_jobs_of_one_priority_take_turns(database: Database) -> None:
    asset_id = add_asset(database)
    first, second, third = (add_job(database) for _ in range(3))
    many = [add_run(database, asset_id, job_id=first) for _ in range(6)]
    few = [add_run(database, asset_id, job_id=second) for _ in range(2)]
    one = add_run(database, asset_id, job_id=third)
    with database.transaction() as connection:
        taken, after = dispatching.take_due(connection, "cpu", depth=3)
        assert taken == [many[0], few[0], one]
        more, after = dispatching.take_due(connection, "cpu", depth=5, after=after)
        assert more == [many[1], few[1]]
        rest, _ = dispatching.take_due(connection, "cpu", depth=99, after=after)
        assert rest == many[2:]


def test_of_a_held_job_nothing_is_published_or_claimed(database: Database) -> None:
    asset_id = add_asset(database)
    held, free = add_job(database, priority=5), add_job(database)
    of_held = add_run(database, asset_id, job_id=held, priority=5)
    of_free = add_run(database, asset_id, job_id=free)
    with database.transaction() as connection:
        assert take_due(connection, "cpu", depth=1) == [of_held]
        assert job_control.pause(connection, held)
        assert not job_control.pause(connection, held), "it is paused already"
        assert take_due(connection, "cpu", depth=1) == [of_free]
    assert claim(database, of_held) is None
    with database.transaction() as connection:
        assert job_control.resume(connection, held)
        assert not job_control.resume(connection, held)
        assert take_due(connection, "cpu", depth=9) == [of_held]
    assert claim(database, of_held) is not None


def test_what_the_broker_lost_is_published_again_ever_more_patiently(database: Database) -> None:
    run_id = add_run(database, add_asset(database))

    def republish_after(age_seconds: float, empty: tuple[str, ...] = ()) -> int:
        with database.transaction() as connection:
            take_due(connection, "cpu", depth=9)
            connection.execute(update(tables.stage_run).values(published_at=utc_now(-age_seconds)))
            return dispatching.republish(
                connection, seconds=100, empty_queues=empty, empty_seconds=10
            )

    assert republish_after(90) == 0
    assert republish_after(110) == 1
    assert republish_after(190) == 0, "the second time it takes twice as long"
    assert republish_after(210) == 1
    assert republish_after(390) == 0
    assert republish_after(9, ("cpu",)) == 0
    assert republish_after(11, ("io",)) == 0
    assert republish_after(11, ("cpu",)) == 1, "the broker says that it holds nothing"
    assert republish_after(1e9) == 1
    assert run_row(database, run_id).republished == 4
    with database.transaction() as connection:
        take_due(connection, "cpu", depth=9)
        assert dispatching.queues_published(connection, -1) == ["cpu"]
    assert claim(database, run_id) is not None
    assert run_row(database, run_id).republished == 0


def test_what_ran_out_of_memory_or_of_workers_runs_alone(database: Database) -> None:
    asset_id = add_asset(database)
    greedy, unlucky = add_run(database, asset_id), add_run(database, asset_id)
    run = claim(database, greedy)
    assert run is not None
    postpone(database, run, "ResourceExhaustedError", pause_seconds=0)
    assert claim(database, greedy) is None
    with database.transaction() as connection:
        assert runs.needs_solitude(connection, greedy, max_attempts=3)
        assert not runs.needs_solitude(connection, unlucky, max_attempts=3)
    again = claim(database, greedy, alone=True)
    assert again is not None
    assert again.alone

    # A worker that died is no proof against a run, until it is its last attempt.
    for _ in range(2):
        assert claim(database, unlucky, lease_seconds=-1) is not None
        with database.transaction() as connection:
            recover(connection)
    assert claim(database, unlucky) is None
    last = claim(database, unlucky, alone=True)
    assert last is not None
    assert last.attempt == 3
