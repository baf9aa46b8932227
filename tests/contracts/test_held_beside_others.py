"""Jobs are paused, cancelled and retried beside others that need the same runs."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jobs import Process, Rival
from sqlalchemy import text
from tiny_stages import meanwhile, tiny_stages

from pipeline.db import job_control, job_ends, jobs, runs
from pipeline.errors import ContractError, ResourceExhaustedError
from pipeline.runner import control
from pipeline.stages.base import StageSpec

ONLY_POSTGRESQL = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, StageSpec]]:
    with tiny_stages(monkeypatch) as specs:
        yield specs


@pytest.fixture
def chain(stages: dict[str, StageSpec]) -> dict[str, StageSpec]:
    """One stage after the other: split, ocr, fuse."""
    stages["speech"] = replace(stages["speech"], kinds=frozenset({"image"}))
    return stages


def make_media(tmp_path: Path, count: int = 1) -> Path:
    folder = tmp_path / "media"
    folder.mkdir()
    for number in range(count):
        (folder / f"{number}.mp4").write_text(f"video {number}")
    return folder


def queued(process: Process, *stages: str) -> list[int]:
    rows = process.sql("SELECT id, stage FROM stage_run WHERE state = 'queued' ORDER BY id")
    return [row["id"] for row in rows if not stages or row["stage"] in stages]


def item_states(process: Process, job: int) -> set[str]:
    return {row["state"] for row in process.sql(f"SELECT state FROM job_item WHERE job_id = {job}")}


def begin_cancelling(process: Process, job: int) -> None:
    with process.runtime.database.transaction() as connection:
        assert job_control.begin_cancelling(connection, job)


@pytest.mark.usefixtures("chain")
@pytest.mark.parametrize("done_before", [0, 2])
def test_what_is_given_back_while_its_job_is_being_cancelled_is_done_for_others(
    process: Process, tmp_path: Path, done_before: int
) -> None:
    folder = make_media(tmp_path)
    process.submit(folder)
    process.drain(limit=done_before)
    process.submit(folder)
    token = process.claim_next()
    begin_cancelling(process, 2)
    process.give_back(token)
    control.finish_cancelling(process.runtime.database, 2)
    process.drain()
    assert item_states(process, 1) == {"done"}
    assert item_states(process, 2) == {"cancelled"}


def test_also_what_is_postponed_then(
    process: Process, chain: dict[str, StageSpec], tmp_path: Path
) -> None:
    def end() -> None:
        begin_cancelling(process, 2)
        raise ResourceExhaustedError("no memory")

    folder = make_media(tmp_path)
    process.submit(folder)
    process.drain(limit=2)
    process.submit(folder)
    meanwhile(chain, "ocr", end)
    process.execute_next()
    control.finish_cancelling(process.runtime.database, 2)
    process.drain()
    assert item_states(process, 1) == {"done"}


@pytest.mark.usefixtures("chain")
def test_what_comes_back_to_a_cancelled_job_ends(process: Process, tmp_path: Path) -> None:
    process.submit(make_media(tmp_path))
    process.drain(limit=2)
    token = process.claim_next()
    control.cancel(process.runtime.database, 1)
    process.give_back(token)
    assert process.sql("SELECT state FROM stage_run WHERE stage = 'ocr'") == [
        {"state": "cancelled"}
    ]


def test_a_retry_while_a_job_is_being_cancelled_leaves_nothing_open(
    process: Process,
    chain: dict[str, StageSpec],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def bug() -> None:
        raise ContractError("wrong")

    database = process.runtime.database
    process.submit(make_media(tmp_path, 3))
    process.drain(limit=1)
    meanwhile(chain, "split", bug)
    process.execute(*queued(process, "split"))
    monkeypatch.setattr(control, "BATCH", 1)
    retries = iter([1])

    def retry(closed: int) -> None:
        for job in retries:
            assert control.retry(database, job_id=job) == 1

    control.cancel(database, 1, on_progress=retry)
    # What a dispatcher does where a job's cancelling has begun and not ended.
    with database.reading() as connection:
        assert job_control.cancelling(connection) == [1]
    control.finish_cancelling(database, 1)
    assert item_states(process, 1) == {"cancelled"}
    assert process.sql("SELECT state FROM v_jobs") == [{"state": "cancelled"}]
    assert queued(process) == []


@ONLY_POSTGRESQL
def test_a_retry_for_two_jobs_beside_the_last_item_of_both(
    process: Process,
    chain: dict[str, StageSpec],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def bug() -> None:
        raise ContractError("wrong")

    database = process.runtime.database
    folder = make_media(tmp_path, 2)
    for _ in range(2):
        process.submit(folder)
    for run_id in queued(process):
        process.execute(run_id)
    bad, good = queued(process)
    meanwhile(chain, "split", bug)
    process.execute(bad)
    process.execute(good)
    process.execute(*queued(process, "ocr"))
    retried: list[int] = []
    retrier = Rival(lambda: retried.append(control.retry(database, error_class="ContractError")))
    real, closed = job_ends.close_if_complete, []

    def close_if_complete(connection: Any, job_id: int) -> None:
        real(connection, job_id)
        closed.append(job_id)
        if len(closed) == 1:
            retrier.start(database)

    monkeypatch.setattr(job_ends, "close_if_complete", close_if_complete)
    process.execute(*queued(process, "fuse"))
    retrier.join()
    assert retrier.error is None
    assert retried == [1]
    assert len(closed) == 2
    process.drain()
    assert process.sql("SELECT state FROM v_jobs") == [{"state": "done"}] * 2


@ONLY_POSTGRESQL
def test_runs_are_adopted_beside_the_cancelling_of_their_job(
    process: Process,
    stages: dict[str, StageSpec],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    database = process.runtime.database
    folder = make_media(tmp_path)
    # The first job's runs have ids in another order than the stages.
    split, ocr, speech, fuse = stages.items()
    stages.clear()
    stages.update((split, speech, ocr, fuse))
    process.submit(folder)
    process.execute(*queued(process, "ingest"))
    process.execute(*queued(process, "split"))
    stages.clear()
    stages.update((split, ocr, speech, fuse))
    for _ in range(2):
        process.claim_next()
    begin_cancelling(process, 1)
    with database.transaction() as connection:
        assert job_control.cancel_batch(connection, 1, after=0, limit=1)
    # Another split with the same outcome: both runs turn out to be needed when it is done.
    (folder / "0.srt").write_text("words")
    process.submit(folder)
    process.execute(*queued(process, "ingest"))
    canceller = Rival(lambda: control.finish_cancelling(database, 1))
    real, adopted = jobs.adopt_run, []

    def adopt_run(connection: Any, run_id: int, **options: Any) -> None:
        real(connection, run_id, **options)
        adopted.append(run_id)
        if len(adopted) == 1:
            canceller.start(database)

    monkeypatch.setattr(jobs, "adopt_run", adopt_run)
    process.execute(*queued(process, "split"))
    canceller.join()
    assert canceller.error is None
    assert len(adopted) == 2
    owners = process.sql("SELECT job_id FROM stage_run WHERE stage IN ('ocr', 'speech')")
    assert owners == [{"job_id": 2}] * 2


@pytest.mark.usefixtures("stages")
def test_a_run_of_a_paused_job_is_taken_over_by_who_turns_out_to_need_it(
    process: Process, tmp_path: Path
) -> None:
    folder = make_media(tmp_path)
    process.submit(folder)
    process.drain(limit=2)
    control.pause(process.runtime.database, 1)
    (folder / "0.srt").write_text("words")
    process.submit(folder)
    free = (
        "SELECT r.id FROM stage_run r JOIN job j ON j.id = r.job_id "
        "WHERE r.state = 'queued' AND j.paused_at IS NULL ORDER BY r.id"
    )
    while due := process.sql(free):
        process.execute(due[0]["id"])
    assert item_states(process, 2) == {"done"}


@pytest.mark.usefixtures("chain")
def test_a_run_whose_message_came_in_vain_is_published_again_for_who_takes_it_over(
    process: Process, tmp_path: Path
) -> None:
    folder = make_media(tmp_path)
    process.submit(folder)
    process.drain(limit=2)
    (run_id,) = queued(process)
    with process.runtime.database.transaction() as connection:
        connection.execute(text("UPDATE stage_run SET published_at = created_at"))
        assert job_control.begin_cancelling(connection, 1)
        owner = {"owner": "test/1", "lease_seconds": 60, "max_attempts": 3}
        assert runs.claim(connection, run_id, **owner) is None  # type: ignore[arg-type]
    process.submit(folder)
    found = process.sql("SELECT job_id, published_at FROM stage_run WHERE state = 'queued'")
    assert found == [{"job_id": 2, "published_at": None}]
