"""Moves an asset on: which of its stages are done, which are due, which heads point where.

The fingerprints of a plan are worked out stage by stage, each from the digests of the outputs
before it. A run with that fingerprint exists: reuse it, whoever made it. It does not: queue it.
So equal work is never done twice, and a changed parameter changes that stage and what follows
from a changed output, nothing before.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row

from pipeline.db import job_ends, jobs
from pipeline.db.assets import lock_asset
from pipeline.db.planned import PlannedRun, Taker, write_planned
from pipeline.db.results import insert_or_ignore
from pipeline.db.runs import ClaimedRun
from pipeline.errors import is_reopened
from pipeline.media.ranges import count_ranges
from pipeline.models.base import ModelInfo
from pipeline.plan.fingerprint import fingerprint
from pipeline.plan.graph import providers, stages_for
from pipeline.plan.standing import Standing, look_at
from pipeline.stages.base import InputName, StageSpec
from schemas.plans import JobPlan, StagePlan
from schemas.tables import model


@dataclass(slots=True, kw_only=True)
class Progress:
    """Where an asset stands under a plan."""

    succeeded: dict[str, Row[Any]] = field(default_factory=dict)
    pending: list[str] = field(default_factory=list)
    #: Ids of the failed runs that stand in the way.
    failed: list[int] = field(default_factory=list)
    stages: int = 0

    @property
    def item_state(self) -> str:
        if len(self.succeeded) == self.stages:
            return "done"
        return "failed" if self.failed and not self.pending else "running"

    @property
    def failed_run_id(self) -> int | None:
        return self.failed[0] if self.item_state == "failed" else None


@dataclass(slots=True, kw_only=True)
class _Changes:
    """What is to be written when the asset is advanced."""

    runs: list[PlannedRun] = field(default_factory=list)
    heads: dict[str, int] = field(default_factory=dict)
    #: Id of a run that is there → the job that takes it over, and its priority.
    adopted: dict[int, tuple[int, int]] = field(default_factory=dict)

    def write(
        self, connection: Connection, asset_id: int, taker: Taker | None = None
    ) -> ClaimedRun | None:
        """Gives the run that ``taker`` has now."""
        # Sorted, as everybody locks runs.
        for run_id, (job_id, priority) in sorted(self.adopted.items()):
            jobs.adopt_run(connection, run_id, job_id=job_id, priority=priority)
        return write_planned(connection, asset_id, self.runs, self.heads, taker)


def advance(
    connection: Connection,
    *,
    asset_id: int,
    job_id: int,
    priority: int,
    plan: JobPlan,
    submitted_at: datetime,
    plans: jobs.PlanCache,
) -> Progress:
    """Lock the asset, queue every stage of it that is due under ``plan``, and point the heads at
    what is done. Runs that another job left unfinished count for this one.

    Failed runs that may succeed by now (not those of bad media) are queued again, if they failed
    before the job was submitted.
    """
    seen = look_at(connection, lock_asset(connection, asset_id))
    changes = _Changes()
    progress = _advance(
        connection,
        seen,
        job_id=job_id,
        priority=priority,
        plan=plan,
        submitted_at=submitted_at,
        plans=plans,
        changes=changes,
        adopt=True,
        is_held=False,
    )
    _flip_heads(seen, progress, job_id, changes)
    changes.write(connection, asset_id)
    return progress


def _advance(
    connection: Connection,
    seen: Standing,
    *,
    job_id: int,
    priority: int,
    plan: JobPlan,
    submitted_at: datetime,
    plans: jobs.PlanCache,
    changes: _Changes,
    adopt: bool,
    is_held: bool,
) -> Progress:
    ranges = count_ranges(
        kind=seen.kind,
        container=seen.container,
        duration_ms=seen.duration_ms,
        params=plan.stages["split"].parameters,
    )
    stages = stages_for(seen.kind, has_audio=seen.has_audio, ranges=ranges)
    progress = Progress(stages=len(stages))
    for spec in stages:
        stage_plan = plan.stages[spec.configured_as or spec.name]
        unused = spec.unused_inputs(stage_plan.parameters, stage_plan.models)
        used = [name for name in spec.inputs if name not in unused]
        upstream = {
            provider.name: provider
            for name in used
            if name not in seen.base_inputs
            for provider in providers(name, stages)
        }
        if not all(name in progress.succeeded for name in upstream):
            continue
        inputs = _inputs(used, stages, seen.base_inputs, progress)
        mark = fingerprint(
            stage=spec.name,
            code_version=spec.code_version,
            params=stage_plan.parameters,
            models=_models(spec, stage_plan),
            inputs=inputs,
        )
        row = seen.runs.get((spec.name, mark))
        if row is None:
            run = _planned(
                connection,
                spec=spec,
                stage_plan=stage_plan,
                inputs=inputs,
                mark=mark,
                job_id=job_id,
                priority=priority,
                input_runs={name: progress.succeeded[name].id for name in upstream},
                is_held=is_held,
                plans=plans,
            )
            changes.runs.append(run)
            seen.note_queued(spec.name, mark, job_id)
            progress.pending.append(spec.name)
        elif row.state == "succeeded":
            progress.succeeded[spec.name] = row
        elif row.state == "failed" and not (
            row.finished_at < submitted_at and is_reopened(row.error_class)
        ):
            progress.failed.append(row.id)
        else:
            if (
                adopt
                or row.state in ("failed", "cancelled")
                or not seen.is_wanted_by(row.job_id, also_if_held=is_held)
            ):
                changes.adopted[row.id] = (job_id, priority)
                seen.note_queued(spec.name, mark, job_id)
            progress.pending.append(spec.name)
    return progress


def advance_items(
    connection: Connection,
    seen: Standing,
    plans: jobs.PlanCache,
    taker: Taker | None = None,
) -> ClaimedRun | None:
    """Advance the asset in every job that waits for it, and close what is complete; gives the run
    that ``taker`` has now. The asset is locked, and ``seen`` is how it stands; what is written is
    noted there."""
    changes = _Changes()
    moved = []
    for item in seen.open_items:
        progress = _advance(
            connection,
            seen,
            job_id=item.job_id,
            priority=item.priority,
            plan=plans.get(connection, item.job_id),
            submitted_at=item.submitted_at,
            plans=plans,
            changes=changes,
            adopt=False,
            is_held=item.is_held,
        )
        _flip_heads(seen, progress, item.job_id, changes)
        if progress.item_state != item.state:
            moved.append((item, progress))
    # Locks are taken in one order everywhere: runs, items, jobs.
    taken = changes.write(connection, seen.asset_id, taker)
    closed = set()
    for item, progress in moved:
        job_ends.set_item_state(
            connection,
            item.job_id,
            item.location_id,
            progress.item_state,
            asset_id=seen.asset_id,
            failed_run_id=progress.failed_run_id,
        )
        seen.note_moved(item, progress.item_state)
        if progress.item_state not in jobs.OPEN_ITEM_STATES:
            closed.add(item.job_id)
    for job_id in sorted(closed):
        job_ends.close_if_complete(connection, job_id)
    return taken


def _inputs(
    names: Iterable[InputName],
    stages: list[StageSpec],
    base_inputs: Mapping[str, Any],
    progress: Progress,
) -> dict[str, Any]:
    return {
        name: base_inputs[name]
        if name in base_inputs
        else {
            provider.name: progress.succeeded[provider.name].outputs[name]
            for provider in providers(name, stages)
            if name in progress.succeeded[provider.name].outputs
        }
        for name in names
    }


def _models(spec: StageSpec, stage_plan: StagePlan) -> dict[str, tuple[str, str]]:
    models = {role: (ref.name, ref.revision) for role, ref in stage_plan.models.items()}
    if spec.own_model is not None and spec.credited_role not in models:
        models["own"] = (spec.own_model.name, spec.own_model.revision)
    return models


def _planned(
    connection: Connection,
    *,
    spec: StageSpec,
    stage_plan: StagePlan,
    inputs: Mapping[str, Any],
    mark: str,
    job_id: int,
    priority: int,
    input_runs: Mapping[str, int],
    is_held: bool,
    plans: jobs.PlanCache,
) -> PlannedRun:
    models = {
        role: plans.model_id(connection, ref.name, ref.revision)
        for role, ref in stage_plan.models.items()
    }
    credited = models.get(spec.credited_role or "")
    if credited is None and spec.own_model is not None:
        credited = plans.model_id(connection, spec.own_model.name, spec.own_model.revision)
    return PlannedRun(
        job_id=job_id,
        stage=spec.name,
        queue=spec.queue,
        fingerprint=mark,
        code_version=spec.code_version,
        params=stage_plan.parameters,
        inputs=inputs,
        model_id=credited,
        dispatch_rank=-priority,
        input_runs=input_runs,
        models={role: (ref.name, ref.revision) for role, ref in stage_plan.models.items()},
        model_ids=models,
        is_held=is_held,
    )


def register_models(connection: Connection, infos: Iterable[ModelInfo]) -> None:
    """Make sure that every model has its row; before jobs refer to them."""
    for info in infos:
        connection.execute(
            insert_or_ignore(connection, model).values(
                name=info.name,
                revision=info.revision,
                task=info.task,
                licence=info.licence,
                source=info.source,
                sha256=info.sha256,
            )
        )


def _flip_heads(seen: Standing, progress: Progress, job_id: int, changes: _Changes) -> None:
    """Show what is done: for the newest job of the asset, else only where nothing is shown."""
    is_newest = seen.newest_job <= job_id
    flipped = {
        stage: row.id
        for stage, row in progress.succeeded.items()
        if seen.heads.get(stage) != row.id and (is_newest or stage not in seen.heads)
    }
    changes.heads |= flipped
    seen.heads |= flipped
