"""What follows from each class of error, and from workers of two versions at once."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import pytest
from jobs import Process
from sqlalchemy import text
from tenacity import wait_none

from pipeline.errors import (
    ContractError,
    DatabaseUnavailableError,
    InvalidMediaError,
    PipelineError,
    ResourceExhaustedError,
    StoreUnavailableError,
)
from pipeline.plan.graph import STAGES
from pipeline.runner import attempt, bugs, control, patience
from pipeline.runner.leases import StoppingError
from pipeline.stages.base import Models, StageInputs, StageOutput
from pipeline.storage.s3 import S3Settings
from pipeline.storage.stores import Stores

RunStage = Callable[[StageInputs, Any, Models], StageOutput]
SPLIT = (
    "SELECT state, attempt, error_class FROM stage_run WHERE stage = 'split' ORDER BY code_version"
)


@pytest.fixture
def job(process: Process, folder: Callable[..., Path]) -> int:
    """A picture whose ingest is done and whose split is due."""
    made = process.submit(folder("media", "a.png"))
    assert process.drain(limit=1) == 1
    return made


@pytest.fixture
def split(monkeypatch: pytest.MonkeyPatch) -> Callable[[RunStage], None]:
    """Puts another function in the place of the split stage."""

    def put(run: RunStage) -> None:
        monkeypatch.setitem(STAGES, "split", replace(STAGES["split"], run=run))  # type: ignore[arg-type]

    return put


def failing(*errors: Exception) -> tuple[RunStage, list[int]]:
    """The split stage, whose first calls fail; and the numbers of its calls so far."""
    real, calls = STAGES["split"].run, list[int]()

    def run(inputs: StageInputs, params: Any, models: Models) -> StageOutput:
        calls.append(len(calls) + 1)
        if len(calls) <= len(errors):
            raise errors[len(calls) - 1]
        return real(inputs, params, models)

    return run, calls


def rows(process: Process) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in process.sql(SPLIT)]


@pytest.mark.parametrize("error", [InvalidMediaError("bad bytes"), ContractError("we are wrong")])
@pytest.mark.usefixtures("job")
def test_bad_input_and_our_own_bugs_are_not_tried_again(
    process: Process, split: Callable[[RunStage], None], error: PipelineError
) -> None:
    run, calls = failing(error)
    split(run)
    process.drain()
    assert rows(process) == [("failed", 1, type(error).__name__)]
    assert calls == [1]
    assert process.sql("SELECT state, assets_failed FROM v_jobs") == [
        {"state": "failed", "assets_failed": 1}
    ]


@pytest.mark.usefixtures("job")
def test_an_exception_nobody_expected_is_a_bug_of_ours(
    process: Process, split: Callable[[RunStage], None]
) -> None:
    split(failing(KeyError("shots"))[0])
    process.drain()
    assert process.sql(
        "SELECT error_class, error_text FROM v_stage_runs WHERE stage = 'split'"
    ) == [{"error_class": "ContractError", "error_text": "KeyError: 'shots'"}]


def test_a_bug_that_everything_meets_pauses_the_job(
    process: Process, folder: Callable[..., Path], split: Callable[[RunStage], None]
) -> None:
    names = [f"{letter}.png" for letter in ascii_lowercase[: bugs.IN_A_ROW + 3]]
    job_id = process.submit(folder("media", *names))
    real = STAGES["split"].run
    split(failing(*[KeyError("shots")] * len(names))[0])
    assert process.drain(limit=len(names) + bugs.IN_A_ROW) == len(names) + bugs.IN_A_ROW
    (row,) = process.sql("SELECT state, assets_failed, error_class, error_text FROM v_jobs")
    assert row["assets_failed"] == bugs.IN_A_ROW
    assert row["state"] == "paused"
    assert row["error_class"] == "ContractError"
    assert "stage split met a bug of ours again and again: KeyError: 'shots'" in row["error_text"]

    # Mended, it goes on where it was.
    split(real)
    assert control.resume(process.runtime.database, job_id)
    assert control.retry(process.runtime.database, error_class="ContractError") == bugs.IN_A_ROW
    process.drain()
    assert process.sql("SELECT state, assets_done, error_text FROM v_jobs") == [
        {"state": "done", "assets_done": len(names), "error_text": None}
    ]


def test_bugs_that_only_some_files_meet_pause_nothing(
    process: Process, folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{letter}.png" for letter in ascii_lowercase[: 2 * bugs.IN_A_ROW]]
    process.submit(folder("media", *names))
    ingest = attempt.ingest

    def sometimes(runtime: Any, run: Any, work_dir: Path) -> Any:
        if run.inputs["uri"][-5] in ascii_lowercase[::2]:
            raise KeyError("streams")
        return ingest(runtime, run, work_dir)

    monkeypatch.setattr(attempt, "ingest", sometimes)
    process.drain()
    assert process.sql("SELECT state, assets_done, assets_failed FROM v_jobs") == [
        {"state": "failed", "assets_done": bugs.IN_A_ROW, "assets_failed": bugs.IN_A_ROW}
    ]


@pytest.mark.usefixtures("job")
def test_what_ran_out_of_resources_is_tried_again_alone(
    process: Process, split: Callable[[RunStage], None]
) -> None:
    run, calls = failing(ResourceExhaustedError("no memory"))
    begun, others = threading.Event(), list[threading.Thread]()

    def share() -> None:
        with process.runtime.turns.shared():
            begun.set()

    def watched(inputs: StageInputs, params: Any, models: Models) -> StageOutput:
        if calls:
            # Nobody else gets a turn while this one runs.
            thread = threading.Thread(target=share)
            thread.start()
            assert not begun.wait(0.1)
            others.append(thread)
        return run(inputs, params, models)

    split(watched)
    process.drain(limit=2)
    assert rows(process) == [("succeeded", 2, None)]
    (other,) = others
    other.join(60)
    assert begun.is_set(), "and then it is the other's turn"


@pytest.mark.usefixtures("job")
def test_a_store_that_answers_but_fails_us_is_asked_again_in_place(
    process: Process, split: Callable[[RunStage], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt, "random_pause", lambda seconds: 0)
    away = StoreUnavailableError("503")
    run, calls = failing(*[away] * attempt.TRIES_IN_PLACE)
    split(run)
    process.drain(limit=1)
    assert rows(process) == [("queued", 1, "StoreUnavailableError")]
    assert calls == [1, 2, 3]
    process.drain(limit=1)
    assert rows(process) == [("succeeded", 2, None)]


@pytest.mark.usefixtures("job")
def test_a_store_that_is_away_costs_no_attempt(
    process: Process, split: Callable[[RunStage], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "WAIT", wait_none())
    looks = []

    def check(uri: str) -> None:
        if uri.endswith("/artifacts"):
            looks.append(uri)
        if len(looks) % 4:
            raise StoreUnavailableError("connection refused")

    monkeypatch.setattr(process.runtime.stores, "check", check)
    run, calls = failing(*[StoreUnavailableError("connection refused")] * 8)
    split(run)
    process.drain(limit=1)
    assert rows(process) == [("succeeded", 1, None)]
    assert len(calls) == 9


@pytest.mark.usefixtures("job")
def test_a_worker_that_stops_while_it_waits_gives_the_run_back(
    process: Process, split: Callable[[RunStage], None]
) -> None:
    stopping = threading.Event()

    def run(inputs: StageInputs, params: Any, models: Models) -> StageOutput:
        stopping.set()
        raise StoreUnavailableError("away")

    split(run)
    process.execute_next(stopping)
    assert rows(process) == [("queued", 0, None)]


@pytest.mark.usefixtures("job")
def test_a_database_that_is_away_at_the_end_costs_nothing(
    process: Process, split: Callable[[RunStage], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, calls = failing()
    split(run)
    write, failures = attempt.write_rows, []

    def write_rows(*arguments: Any) -> None:
        write(*arguments)
        if len(failures) < 3:
            failures.append(1)
            raise DatabaseUnavailableError("the server closed the connection")

    monkeypatch.setattr(attempt, "write_rows", write_rows)
    process.drain(limit=1)
    assert rows(process) == [("succeeded", 1, None)]
    assert calls == [1], "only the transaction was tried again"


def test_a_run_planned_by_an_older_version_is_superseded(
    process: Process, job: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = replace(STAGES["split"], code_version=STAGES["split"].code_version + 1)
    monkeypatch.setitem(STAGES, "split", newer)  # type: ignore[arg-type]
    process.drain(limit=2)
    assert rows(process) == [("cancelled", 1, None), ("succeeded", 1, None)]
    versions = process.sql("SELECT state, code_version FROM stage_run WHERE stage = 'split' "
                           "ORDER BY code_version")  # fmt: skip
    assert versions[1]["code_version"] == newer.code_version
    assert process.sql("SELECT DISTINCT job_id FROM stage_run") == [{"job_id": job}]


@pytest.mark.usefixtures("job")
def test_a_run_planned_by_a_newer_version_is_left_to_newer_workers(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = replace(STAGES["split"], code_version=STAGES["split"].code_version - 1)
    with monkeypatch.context() as patch:
        patch.setitem(STAGES, "split", older)  # type: ignore[arg-type]
        assert process.drain(limit=1) == 1
    assert rows(process) == [("waiting", 0, "ConfigurationError")]
    with process.runtime.database.transaction() as connection:
        connection.execute(text("UPDATE stage_run SET state = 'queued' WHERE state = 'waiting'"))
    process.drain(limit=1)
    assert rows(process) == [("succeeded", 1, None)]


@pytest.mark.usefixtures("job")
def test_who_gets_a_turn_when_the_worker_stops_takes_nothing(process: Process) -> None:
    stopping = threading.Event()
    stopping.set()
    with pytest.raises(StoppingError):
        process.execute_next(stopping)
    assert rows(process) == [("queued", 0, None)]


@pytest.mark.usefixtures("job")
def test_what_is_claimed_while_the_worker_ends_goes_back(process: Process) -> None:
    assert process.keeper.wait_until_idle(0)
    with pytest.raises(StoppingError):
        process.execute_next(threading.Event())
    assert rows(process) == [("queued", 0, None)]


def test_a_listing_in_vain_is_tried_as_often_as_any_run(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = S3Settings(endpoint_url="http://127.0.0.1:9", max_attempts=1)
    monkeypatch.setattr(process.runtime, "stores", Stores(nowhere))
    seen = []
    for _ in range(process.runtime.settings.max_attempts):
        with process.runtime.database.transaction() as connection:
            connection.execute(text("UPDATE stage_run SET state = 'queued'"))
        with pytest.raises(StoreUnavailableError):
            process.submit("s3://bucket/media/", job_key="nightly")
        seen += process.sql("SELECT state, error_class FROM v_jobs")
    waits, fails = (
        {"state": "expanding", "error_class": None},
        {"state": "failed", "error_class": "StoreUnavailableError"},
    )
    assert seen == [waits, waits, fails]
    # It may be brought back as any failure.
    assert control.retry(process.runtime.database, error_class="StoreUnavailableError") == 1
    assert process.sql("SELECT state FROM v_jobs") == [{"state": "expanding"}]
