"""Works off one stage run: claim, read, run, store, advance. The only writer of results."""

import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import structlog
from sqlalchemy import Connection, select

from pipeline.db import jobs, results, runs
from pipeline.errors import (
    ConfigurationError,
    ContractError,
    DatabaseUnavailableError,
    PipelineError,
    is_retried,
)
from pipeline.models.base import ModelInfo
from pipeline.plan.advance import advance_items, lock_asset
from pipeline.plan.graph import INGEST, INGEST_CODE_VERSION, STAGES
from pipeline.plan.profiles import build_parameters
from pipeline.runner.ingest import ingest, store_ingested
from pipeline.runner.inputs import RunInputs
from pipeline.runner.leases import LeaseKeeper
from pipeline.runner.outputs import store_files, write_rows
from pipeline.runner.runtime import Runtime
from schemas.tables import stage_run

log = structlog.get_logger()


class RunModels:
    """The models of one stage run, by role; counts its share of the device's time."""

    def __init__(self, runtime: Runtime, models: Mapping[str, tuple[str, str]]) -> None:
        self._runtime = runtime
        self._models = models
        self.device_seconds = 0.0

    def has(self, role: str) -> bool:
        return role in self._models

    def info(self, role: str) -> ModelInfo:
        return self._batcher(role).model.info  # type: ignore[no-any-return]

    def get(self, role: str) -> Any:
        return self._batcher(role).model

    def infer(self, role: str, items: Sequence[Any]) -> list[Any]:
        result = self._batcher(role).submit(items)
        self.device_seconds += result.device_seconds
        return list(result.outputs)

    def map(self, role: str, items: Iterator[Any]) -> Iterator[Any]:
        size = 2 * self._batcher(role).model.max_batch
        while batch := list(islice(items, size)):
            yield from self.infer(role, batch)

    def _batcher(self, role: str) -> Any:
        name, revision = self._models[role]
        batcher = self._runtime.models.batcher(name)
        if batcher.model.info.revision != revision:
            raise ConfigurationError(
                f"the stage asks for model {name} in revision {revision}, this worker has "
                f"{batcher.model.info.revision}: give all workers the same version and settings"
            )
        return batcher


def execute(runtime: Runtime, stage_run_id: int, keeper: LeaseKeeper) -> bool:
    """Claim and work off a stage run; gives whether there was anything to do.

    Whatever happens to the media is recorded in the database and raises nothing.

    Raises:
        DatabaseUnavailableError: nothing could be recorded; the lease brings the run back.
    """
    settings = runtime.settings
    with runtime.database.transaction() as connection:
        run = runs.claim(
            connection,
            stage_run_id,
            owner=runs.process_owner(),
            lease_seconds=settings.lease_seconds,
        )
    if run is None:
        return False
    started = time.monotonic()
    with (
        keeper.holding(run.token),
        structlog.contextvars.bound_contextvars(
            stage_run_id=stage_run_id, stage=run.stage, asset_id=run.asset_id, attempt=run.attempt
        ),
    ):
        try:
            if run.stage == INGEST:
                _ingest(runtime, run, started)
            else:
                _stage(runtime, run, started)
        except runs.LeaseLostError:
            log.warning("lease_lost")
        except DatabaseUnavailableError:
            raise
        except PipelineError as error:
            _record_failure(runtime, run, error, time.monotonic() - started)
        except Exception as error:
            log.exception("stage_bug")
            wrapped = ContractError(f"{type(error).__name__}: {error}")
            _record_failure(runtime, run, wrapped, time.monotonic() - started)
    return True


def _ingest(runtime: Runtime, run: runs.ClaimedRun, started: float) -> None:
    _same_code(run, INGEST_CODE_VERSION)
    with runtime.scratch.temporary_folder() as work_dir:
        found = ingest(runtime, run, work_dir)
    with runtime.database.transaction() as connection:
        runs.hold(connection, run)
        asset_id = store_ingested(connection, run, found)
        runs.succeed(
            connection,
            run,
            asset_id=asset_id,
            outputs={"media": found.sha256},
            seconds=time.monotonic() - started,
            device_seconds=0,
            cpu_seconds=found.usage.by_kind(),
            notes=(),
        )
        advance_items(connection, asset_id, runtime.plans)


def _stage(runtime: Runtime, run: runs.ClaimedRun, started: float) -> None:
    spec = STAGES.get(run.stage)
    if spec is None:
        raise ConfigurationError(f"this worker knows no stage {run.stage!r}; upgrade it")
    _same_code(run, spec.code_version)
    models = RunModels(runtime, run.models)
    with RunInputs(runtime, run, spec) as inputs:
        output = spec.run(inputs, build_parameters(spec, run.params), models)
        stored = store_files(runtime, spec, output, inputs.work_dir)
        assert run.asset_id is not None  # noqa: S101  RunInputs has checked it
        with runtime.database.transaction() as connection:
            # Locks are taken in one order everywhere: the ingest's run, assets, other runs, jobs.
            lock_asset(connection, run.asset_id)
            ref = results.RunRef(stage_run_id=run.stage_run_id, asset_id=run.asset_id)
            write_rows(connection, runtime, ref, stored)
            runs.succeed(
                connection,
                run,
                asset_id=run.asset_id,
                outputs=stored.digests,
                seconds=time.monotonic() - started,
                device_seconds=models.device_seconds,
                cpu_seconds=output.cpu_seconds,
                notes=output.notes,
            )
            advance_items(connection, run.asset_id, runtime.plans)
    log.info("stage_done", seconds=round(time.monotonic() - started, 3))


def _same_code(run: runs.ClaimedRun, version: int) -> None:
    if run.code_version != version:
        raise ConfigurationError(
            f"the run was planned for version {run.code_version} of stage {run.stage}, this worker "
            f"has version {version}: give all workers the same mediaweave and submit again"
        )


def _record_failure(
    runtime: Runtime, run: runs.ClaimedRun, error: PipelineError, seconds: float
) -> None:
    settings = runtime.settings
    error_class, error_text = type(error).__name__, str(error)
    log.warning("stage_failed", error_class=error_class, error_text=error_text)
    try:
        with runtime.database.transaction() as connection:
            if run.asset_id is not None and run.stage != INGEST:
                lock_asset(connection, run.asset_id)
            if is_retried(error) and run.attempt < settings.max_attempts:
                runs.postpone(
                    connection,
                    run,
                    error_class=error_class,
                    error_text=error_text,
                    pause_seconds=settings.retry_seconds * 2 ** (run.attempt - 1),
                )
                return
            runs.fail(
                connection, run, error_class=error_class, error_text=error_text, seconds=seconds
            )
            close_failed(connection, runtime, run.stage_run_id)
    except runs.LeaseLostError:
        log.warning("lease_lost")


def close_failed(connection: Connection, runtime: Runtime, stage_run_id: int) -> None:
    """Close the items that a failed run leaves without a way on."""
    run = connection.execute(
        select(stage_run.c.stage, stage_run.c.asset_id).where(stage_run.c.id == stage_run_id)
    ).one()
    if run.stage != INGEST:
        advance_items(connection, run.asset_id, runtime.plans)
        return
    for item in jobs.open_items(connection, ingest_run_id=stage_run_id):
        jobs.set_item_state(
            connection, item.job_id, item.location_id, "failed", failed_run_id=stage_run_id
        )
        jobs.close_if_complete(connection, item.job_id)
