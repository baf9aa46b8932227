"""Short stages of an asset follow each other in the worker that has it."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jobs import Process
from sqlalchemy import Connection
from tiny_stages import meanwhile, tiny_stages

from pipeline.db import job_control
from pipeline.errors import DatabaseUnavailableError, InvalidMediaError
from pipeline.plan.graph import STAGES
from pipeline.plan.standing import Standing
from pipeline.runner import attempt, control, execute
from pipeline.runner.leases import StoppingError
from pipeline.stages.base import QUEUES, Models, StageInputs, StageOutput, StageSpec

STATES = (
    "SELECT stage, state, attempt FROM stage_run WHERE stage NOT IN ('expand', 'ingest') "
    "ORDER BY id"
)


@pytest.fixture
def job(process: Process, folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> int:
    """A picture whose ingest is done and whose split is due, in a worker that has much time and
    knows all stages to be short."""
    monkeypatch.setattr(execute, "RUN_ON_SECONDS", 600.0)
    for stage in STAGES:
        process.runtime.pace.note(stage, 0.0)
    made = process.submit(folder("media", "a.png"))
    assert process.drain(limit=1) == 1
    return made


def states(process: Process) -> dict[str, tuple[str, int]]:
    return {row["stage"]: (row["state"], row["attempt"]) for row in process.sql(STATES)}


@pytest.mark.usefixtures("job")
def test_one_of_the_runs_that_become_due_is_gone_on_with(process: Process) -> None:
    process.execute_next(run_on=QUEUES)
    after_split = [name for name, spec in STAGES.items() if "keyframes" in spec.inputs]
    found = states(process)
    assert found.pop("split") == ("succeeded", 1)
    first, *others = [name for name in after_split if name in found]
    assert found.pop(first) == ("succeeded", 1)
    assert others
    assert found == dict.fromkeys(others, ("queued", 0)), "for other workers"
    process.drain()
    assert process.sql("SELECT state FROM v_jobs") == [{"state": "done"}]
    assert set(states(process).values()) == {("succeeded", 1)}
    inputs = "SELECT count(*) AS inputs FROM stage_run_input WHERE stage_run_id > 2"
    assert process.sql(inputs)[0]["inputs"] >= len(after_split)


@pytest.mark.usefixtures("job")
def test_not_beyond_its_time(process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execute, "RUN_ON_SECONDS", 0.0)
    process.execute_next(run_on=QUEUES)
    assert {state for stage, state in states(process).items() if stage != "split"} == {
        ("queued", 0)
    }


@pytest.mark.usefixtures("job")
def test_not_with_stages_that_take_long(process: Process) -> None:
    for _ in range(20):
        for stage in STAGES:
            process.runtime.pace.note(stage, 3.0)
    process.execute_next(run_on=QUEUES)
    assert {state for stage, state in states(process).items() if stage != "split"} == {
        ("queued", 0)
    }


@pytest.mark.usefixtures("job")
def test_not_with_queues_of_other_workers(process: Process) -> None:
    process.execute_next(run_on=["io"])
    assert {state for stage, state in states(process).items() if stage != "split"} == {
        ("queued", 0)
    }


@pytest.mark.parametrize("hold", [job_control.pause, job_control.begin_cancelling])
def test_not_with_what_nobody_wants_now(
    process: Process, job: int, hold: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = STAGES["split"].run

    def held(inputs: StageInputs, params: Any, models: Models) -> StageOutput:
        output = real(inputs, params, models)
        with process.runtime.database.transaction() as connection:
            assert hold(connection, job)
        return output

    monkeypatch.setitem(STAGES, "split", replace(STAGES["split"], run=held))  # type: ignore[arg-type]
    process.execute_next(run_on=QUEUES)
    found = states(process)
    assert found.pop("split") == ("succeeded", 1)
    assert set(found.values()) <= {("queued", 0), ("cancelled", 0)}
    assert found


@pytest.mark.usefixtures("job")
def test_a_worker_that_ends_gives_back_what_it_would_go_on_with(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = STAGES["split"].run

    def ending(inputs: StageInputs, params: Any, models: Models) -> StageOutput:
        output = real(inputs, params, models)
        # From here on nothing is begun; what is at work may end.
        process.keeper.hurry()
        process.keeper.wait_until_idle(0)
        return output

    monkeypatch.setitem(STAGES, "split", replace(STAGES["split"], run=ending))  # type: ignore[arg-type]
    with pytest.raises(StoppingError):
        process.execute_next(run_on=QUEUES)
    found = states(process)
    assert found.pop("split") == ("succeeded", 1)
    assert set(found.values()) == {("queued", 0)}


@pytest.fixture
def film(
    process: Process, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, StageSpec]]:
    """The tiny stages of a film whose ingest is done and whose split is due: after it ocr and
    speech, then fuse."""
    monkeypatch.setattr(execute, "RUN_ON_SECONDS", 600.0)
    (tmp_path / "film.mp4").write_text("video 1")
    with tiny_stages(monkeypatch) as stages:
        process.submit(tmp_path / "film.mp4")
        assert process.drain(limit=1) == 1
        yield stages


def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Filled with a name whenever an asset is looked at."""
    found: list[str] = []
    real = attempt.look_at

    def look_at(connection: Connection, facts: Any) -> Standing:
        found.append(facts.sha256)
        return real(connection, facts)

    monkeypatch.setattr(attempt, "look_at", look_at)
    return found


ALL_DONE = dict.fromkeys(("split", "ocr", "speech", "fuse"), ("succeeded", 1))


@pytest.mark.usefixtures("film")
def test_an_asset_is_looked_at_once_where_nobody_else_has_it(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = looks(monkeypatch)
    process.execute_next(run_on=QUEUES)
    assert states(process)["ocr"] == ("succeeded", 1)
    assert len(found) == 1
    process.execute_next(run_on=QUEUES)
    assert states(process) == ALL_DONE
    assert len(found) == 2
    assert process.sql("SELECT state FROM v_jobs") == [{"state": "done"}]
    assert process.sql("SELECT text FROM caption") == [{"text": "plain plain"}]


def test_what_others_finish_meanwhile_is_seen(process: Process, film: dict[str, StageSpec]) -> None:
    meanwhile(film, "ocr", process.execute_next)
    process.execute_next(run_on=QUEUES)
    assert states(process) == ALL_DONE, "the last of two goes on with what needs both"
    assert process.sql("SELECT state FROM v_jobs") == [{"state": "done"}]


def test_a_job_that_is_submitted_meanwhile_is_seen(
    process: Process, film: dict[str, StageSpec], tmp_path: Path
) -> None:
    def submit() -> None:
        process.submit(tmp_path / "film.mp4")

    meanwhile(film, "ocr", submit)
    process.execute_next(run_on=QUEUES)
    process.drain()
    assert states(process) == ALL_DONE
    assert process.sql("SELECT state FROM v_jobs") == [{"state": "done"}] * 2


@pytest.mark.parametrize("hold", [control.pause, control.cancel])
def test_not_with_what_is_held_meanwhile(
    process: Process, film: dict[str, StageSpec], hold: Callable[..., Any]
) -> None:
    # One of a kind after another: nothing waits in a queue when the job is held.
    film["ocr"] = replace(film["ocr"], kinds=frozenset({"image"}))
    meanwhile(film, "speech", lambda: hold(process.runtime.database, 1))
    process.execute_next(run_on=QUEUES)
    found = states(process)
    assert found.pop("speech") == ("succeeded", 1)
    assert found.pop("split") == ("succeeded", 1)
    assert set(found.values()) <= {("queued", 0)}


def test_what_a_commit_in_vain_noted_is_forgotten(
    process: Process, film: dict[str, StageSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, failures = attempt.advance_items, iter(["speech"])

    def advance_items(connection: Connection, seen: Standing, *others: Any) -> Any:
        following = real(connection, seen, *others)
        if ("speech", "succeeded") in {(key[0], run.state) for key, run in seen.runs.items()}:
            for _ in failures:
                raise DatabaseUnavailableError("cut in the middle of a commit")
        return following

    monkeypatch.setattr(attempt, "advance_items", advance_items)
    film["ocr"] = replace(film["ocr"], kinds=frozenset({"image"}))
    found = looks(monkeypatch)
    process.execute_next(run_on=QUEUES)
    assert next(failures, None) is None, "the commit failed once"
    assert len(found) == 2
    process.drain()
    assert set(states(process).values()) == {("succeeded", 1)}
    assert process.sql("SELECT state FROM v_jobs") == [{"state": "done"}]


@pytest.mark.usefixtures("film")
def test_a_stage_that_is_not_known_yet_is_gone_on_with(process: Process) -> None:
    assert process.runtime.pace.slower_than(0.0) <= {"split"}
    process.execute_next(run_on=QUEUES)
    assert states(process)["ocr"] == ("succeeded", 1)


def test_how_long_a_stage_takes_is_known_also_if_it_fails(
    process: Process, film: dict[str, StageSpec]
) -> None:
    def run(inputs: StageInputs, params: Any, models: Models) -> StageOutput:
        raise InvalidMediaError("bad")

    film["ocr"] = replace(film["ocr"], run=run)
    process.execute_next(run_on=QUEUES)
    assert states(process)["ocr"] == ("failed", 1)
    assert "ocr" in process.runtime.pace.slower_than(0.0)
