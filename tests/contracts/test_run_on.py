"""Short stages of an asset follow each other in the worker that has it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jobs import Process

from pipeline.db import job_control
from pipeline.plan.graph import STAGES
from pipeline.runner import execute
from pipeline.runner.leases import StoppingError
from pipeline.stages.base import QUEUES, Models, StageInputs, StageOutput

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
