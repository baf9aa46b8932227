"""Works off stage runs: claims one, makes an attempt at it, and goes on with what it makes due."""

import threading
import time
from collections.abc import Collection

import structlog

from pipeline.db import runs
from pipeline.errors import ContractError, PipelineError
from pipeline.plan.graph import find_stage
from pipeline.runner.attempt import Attempt, RunOn
from pipeline.runner.leases import LeaseKeeper, StoppingError
from pipeline.runner.runtime import Runtime

log = structlog.get_logger()

#: A worker goes on with the next stage of an asset for so long before it looks for what is most
#: urgent.
RUN_ON_SECONDS = 0.2


def execute(
    runtime: Runtime,
    stage_run_id: int,
    keeper: LeaseKeeper,
    stopping: threading.Event | None = None,
    run_on: Collection[str] = (),
) -> bool:
    """Claim and work off a stage run; gives whether there was anything to do.

    ``run_on``: queues of which the runs that this makes due are gone on with, for a short while.

    Whatever happens to the media is recorded in the database and raises nothing. A database or
    store that is away is waited for, until ``stopping`` is set.

    Raises:
        DatabaseUnavailableError: nothing could be claimed, or recorded: the lease brings it back.
        StoppingError: nothing was claimed, as the worker is stopping.
    """
    stopping = stopping or threading.Event()
    with runtime.turns.shared():
        _refuse_if(stopping)
        run = _claim(runtime, stage_run_id, alone=False)
        if run is not None:
            on = RunOn(queues=frozenset(run_on), until=time.monotonic() + RUN_ON_SECONDS)
            while run is not None:
                run = _hold_and_work(runtime, run, keeper, stopping, on)
            return True
    with runtime.database.reading() as connection:
        if not runs.needs_solitude(
            connection, stage_run_id, max_attempts=runtime.settings.max_attempts
        ):
            return False
    with runtime.turns.alone():
        _refuse_if(stopping)
        runtime.models.unload_idle()
        run = _claim(runtime, stage_run_id, alone=True)
        if run is not None:
            _hold_and_work(runtime, run, keeper, stopping)
        return run is not None


def _refuse_if(stopping: threading.Event) -> None:
    # Whoever waited long for a turn may get it when the worker has ended its work.
    if stopping.is_set():
        raise StoppingError("the worker is stopping")


def _claim(runtime: Runtime, stage_run_id: int, *, alone: bool) -> runs.ClaimedRun | None:
    settings = runtime.settings
    with runtime.database.light() as connection:
        return runs.claim(
            connection,
            stage_run_id,
            owner=runs.process_owner(),
            lease_seconds=settings.lease_seconds,
            max_attempts=settings.max_attempts,
            alone=alone,
        )


def _hold_and_work(
    runtime: Runtime,
    run: runs.ClaimedRun,
    keeper: LeaseKeeper,
    stopping: threading.Event,
    run_on: RunOn | None = None,
) -> runs.ClaimedRun | None:
    """Gives the run that is to be gone on with, which is claimed."""
    # Media is opened in a child with limits of its own; models are not.
    spec = find_stage(run.stage)
    bounded = spec is None or spec.queue != "device"
    allowance = 2 * runtime.settings.media.wall_seconds if bounded else 0
    try:
        with (
            keeper.holding(run.token, allowance_seconds=allowance),
            structlog.contextvars.bound_contextvars(
                stage_run_id=run.stage_run_id,
                stage=run.stage,
                asset_id=run.asset_id,
                attempt=run.attempt,
            ),
        ):
            attempt = Attempt(
                runtime=runtime, run=run, keeper=keeper, stopping=stopping, run_on=run_on
            )
            _work(attempt)
            return attempt.following
    except StoppingError:
        with runtime.database.transaction() as connection:
            runs.give_back(connection, run.token)
        raise


def _work(attempt: Attempt) -> None:
    try:
        attempt.make()
    except runs.LeaseLostError:
        log.warning("lease_lost")
    except PipelineError as error:
        attempt.record(error)
    except Exception as error:
        log.exception("stage_bug")
        attempt.record(ContractError(f"{type(error).__name__}: {error}"))
