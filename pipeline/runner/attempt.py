"""One attempt at a claimed stage run: read, run, store, advance. The only writer of results."""

import threading
import time
from dataclasses import dataclass, field

import structlog
from sqlalchemy import Connection

from pipeline.db import closing, results, runs
from pipeline.db.assets import lock_asset
from pipeline.db.planned import Taker
from pipeline.errors import (
    ConfigurationError,
    ContractError,
    DatabaseUnavailableError,
    PipelineError,
    StoreUnavailableError,
    TransientError,
    is_retried,
)
from pipeline.plan.advance import advance_items
from pipeline.plan.graph import find_stage
from pipeline.plan.profiles import build_parameters
from pipeline.plan.standing import Standing, look_at
from pipeline.runner import control
from pipeline.runner.expand import Listing, list_sources
from pipeline.runner.failing import close_failed, lock_asset_of
from pipeline.runner.ingest import ingest, store_ingested
from pipeline.runner.inputs import RunInputs
from pipeline.runner.leases import LeaseKeeper
from pipeline.runner.outputs import store_files, write_rows
from pipeline.runner.patience import (
    persist,
    random_pause,
    wait_for_database,
    wait_for_stores,
)
from pipeline.runner.run_models import RunModels
from pipeline.runner.runtime import Runtime
from pipeline.storage.local import normalise_uri
from schemas.tables import EXPAND, INGEST

log = structlog.get_logger()

#: How often a store that answers, but failed us, is asked again before that is a failed attempt.
TRIES_IN_PLACE = 3
#: Stages that take longer, as far as this process knows, are not gone on with.
SHORT_SECONDS = 0.05
#: How long a run that needs a newer worker waits for one.
NEWER_PAUSE_SECONDS = 15.0


@dataclass(slots=True, kw_only=True)
class RunOn:
    """Of which queues, and until when by the monotonic clock, runs that become due are gone on
    with."""

    queues: frozenset[str]
    until: float
    #: What the run before this one saw of the asset.
    seen: Standing | None = None

    @property
    def is_over(self) -> bool:
        return time.monotonic() > self.until

    def recall(self) -> Standing | None:
        """What was seen. Once: what is noted in it from now on is true only when committed."""
        seen, self.seen = self.seen, None
        return seen if not self.is_over else None


@dataclass(slots=True, kw_only=True)
class Attempt:
    """One attempt at a claimed stage run."""

    runtime: Runtime
    run: runs.ClaimedRun
    keeper: LeaseKeeper
    stopping: threading.Event
    run_on: RunOn | None = None
    #: The run that became due and is ours.
    following: runs.ClaimedRun | None = None
    started: float = field(default_factory=time.monotonic)

    def make(self) -> None:
        """Work the run off. A dependency that is away is waited for, and the work begun again."""
        failures = 0
        while True:
            try:
                self._make_once()
            except DatabaseUnavailableError:
                wait_for_database(self.runtime.database, self.stopping, self._touch)
                # It answers, and yet it failed us: not at once again.
                self.stopping.wait(random_pause(0.5))
            except StoreUnavailableError:
                if self._wait_for_stores():
                    continue
                failures += 1
                if failures >= TRIES_IN_PLACE or self.stopping.wait(random_pause(1)):
                    raise
            else:
                return

    def _make_once(self) -> None:
        if self.run.stage == EXPAND:
            with self.runtime.database.reading() as connection:
                listing = Listing.of(connection, self.run.inputs["job"])
            list_sources(
                self.runtime,
                self.run,
                listing,
                lambda found, skipped: self._touch(),
            )
        elif self.run.stage == INGEST:
            self._ingest()
        else:
            self._stage()

    def _ingest(self) -> None:
        runtime, run = self.runtime, self.run
        with runtime.scratch.temporary_folder() as work_dir:
            found = ingest(runtime, run, work_dir)

        def close(connection: Connection) -> Standing:
            runs.hold(connection, run)
            facts = store_ingested(connection, run, found)
            outcome = closing.Outcome(
                asset_id=facts.id,
                outputs={"media": found.sha256},
                seconds=time.monotonic() - self.started,
                cpu_seconds=found.usage.by_kind(),
            )
            closing.succeed(connection, run, outcome)
            return self._advance(connection, look_at(connection, facts))

        self._remember(persist(runtime.database, self.stopping, close, self._touch))
        runtime.bugs.none(run.job_id, run.stage)

    def _stage(self) -> None:
        runtime, run = self.runtime, self.run
        spec = find_stage(run.stage)
        if spec is None or run.code_version > spec.code_version:
            self._leave_to_newer()
            return
        if run.code_version < spec.code_version:
            self._supersede()
            return
        models = RunModels(runtime.models, run.models, self._touch, one_by_one=run.alone)
        with RunInputs(runtime, run, spec) as inputs:
            output = spec.run(inputs, build_parameters(spec, run.params), models)
            stored = store_files(runtime, spec, output, inputs)
            ref = results.RunRef(stage_run_id=run.stage_run_id, asset_id=inputs.asset_id)

            def close(connection: Connection) -> Standing:
                outcome = closing.Outcome(
                    asset_id=ref.asset_id,
                    outputs=stored.digests,
                    seconds=time.monotonic() - self.started,
                    device_seconds=models.device_seconds,
                    cpu_seconds=output.cpu_seconds,
                    notes=output.notes,
                )
                # Before the rows: a commit whose answer was lost is found by the fence.
                facts, is_held = closing.lock_asset_and_succeed(connection, run, outcome)
                write_rows(connection, runtime, ref, stored)
                closing.note_use(
                    connection,
                    run,
                    {role: (use.items, use.device_seconds) for role, use in models.uses.items()},
                )
                seen = self.run_on.recall() if self.run_on is not None else None
                if seen is not None and not is_held and seen.stands(facts, run.job_id):
                    seen.note_succeeded(run, outcome.outputs, facts)
                else:
                    seen = look_at(connection, facts)
                return self._advance(connection, seen)

            self._remember(persist(runtime.database, self.stopping, close, self._touch))
        runtime.bugs.none(run.job_id, run.stage)
        seconds = time.monotonic() - self.started
        runtime.pace.note(run.stage, seconds)
        log.info("stage_done", seconds=round(seconds, 3))

    def _advance(self, connection: Connection, seen: Standing) -> Standing:
        """Gives ``seen``, with what was written noted in it."""
        # Even where the answer to the commit is lost: it may be ours, and nobody else has it then.
        self.following = advance_items(connection, seen, self.runtime.plans, self._taker())
        return seen

    def _remember(self, seen: Standing) -> None:
        """What was noted is committed: the next run of the asset may rely on it."""
        if self.run_on is not None:
            self.run_on.seen = seen

    def _taker(self) -> Taker | None:
        runtime, run_on = self.runtime, self.run_on
        if (
            run_on is None
            or run_on.is_over
            or self.stopping.is_set()
            or runtime.turns.is_wanted_alone
        ):
            return None
        return Taker(
            queues=run_on.queues,
            except_stages=runtime.pace.slower_than(SHORT_SECONDS),
            owner=runs.process_owner(),
            lease_seconds=runtime.settings.lease_seconds,
        )

    def _leave_to_newer(self) -> None:
        """An upgrade is under way: a newer worker will take the run."""
        log.warning("run_is_of_newer_version", code_version=self.run.code_version)
        persist(
            self.runtime.database,
            self.stopping,
            lambda connection: closing.postpone(
                connection,
                self.run,
                error_class=ConfigurationError.__name__,
                error_text=f"version {self.run.code_version} of stage {self.run.stage} needs a "
                "newer worker than the one that took it: upgrade all workers",
                pause_seconds=NEWER_PAUSE_SECONDS,
                counted=False,
            ),
        )

    def _supersede(self) -> None:
        """The run was planned by an older version: put this version's in its place."""

        def close(connection: Connection) -> None:
            asset_id = self.run.asset_id
            if asset_id is None:
                raise ContractError(f"stage run {self.run.stage_run_id} names no asset")
            facts = lock_asset(connection, asset_id)
            closing.cancel(
                connection,
                self.run,
                reason=f"planned for version {self.run.code_version} of the stage, which is older",
            )
            advance_items(connection, look_at(connection, facts), self.runtime.plans)

        log.info("run_superseded", code_version=self.run.code_version)
        persist(self.runtime.database, self.stopping, close)

    def _wait_for_stores(self) -> bool:
        runtime, run = self.runtime, self.run
        uris = [runtime.settings.artifacts_uri]
        if run.stage == EXPAND:
            uris += run.inputs["sources"]
        elif run.stage == INGEST:
            uris.append(run.inputs["uri"])
        elif run.asset_id is not None:
            with runtime.database.reading() as connection:
                uris += [place.uri for place in results.locations_of(connection, run.asset_id)]
        return wait_for_stores(
            runtime.stores,
            [normalise_uri(uri) for uri in uris],
            self.stopping,
            self._touch,
        )

    def _touch(self) -> None:
        self.keeper.touch(self.run.token)

    def record(self, error: PipelineError) -> None:
        """Store why the attempt failed, and what follows from it."""
        if self.stopping.is_set() and isinstance(error, TransientError):
            # Not the run's fault: it goes back uncounted.
            log.info("attempt_given_up", reason=str(error))
            with self.runtime.database.transaction() as connection:
                runs.give_back(connection, self.run.token)
            return
        log.warning("stage_failed", error_class=type(error).__name__, error_text=str(error))
        self.runtime.pace.note(self.run.stage, time.monotonic() - self.started)
        try:
            persist(self.runtime.database, self.stopping, lambda c: self._record(c, error))
        except runs.LeaseLostError:
            log.warning("lease_lost")
            return
        if isinstance(error, ContractError):
            self._stop_if_it_goes_on(error)

    def _stop_if_it_goes_on(self, error: ContractError) -> None:
        """Our own bugs stop the work that meets them, before they fail a million assets."""
        run = self.run
        if run.job_id is None or not self.runtime.bugs.met(run.job_id, run.stage):
            return
        reason = f"paused, as stage {run.stage} met a bug of ours again and again: {error}"
        log.error("job_paused", job_id=run.job_id, reason=reason)
        control.pause(self.runtime.database, run.job_id, error=ContractError(reason))

    def _record(self, connection: Connection, error: PipelineError) -> None:
        run, settings = self.run, self.runtime.settings
        error_class, error_text = type(error).__name__, results.without_nul(str(error))
        facts = lock_asset_of(connection, run)
        if is_retried(error) and run.attempt < settings.max_attempts:
            closing.postpone(
                connection,
                run,
                error_class=error_class,
                error_text=error_text,
                pause_seconds=random_pause(settings.retry_seconds * 2 ** (run.attempt - 1)),
            )
            return
        closing.fail(
            connection,
            run,
            error_class=error_class,
            error_text=error_text,
            seconds=time.monotonic() - self.started,
        )
        close_failed(connection, self.runtime, run.stage_run_id, facts)
