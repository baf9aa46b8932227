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

from sqlalchemy import Connection, Row, and_, bindparam, insert, select, update

from pipeline.db import jobs
from pipeline.db.results import insert_or_ignore
from pipeline.errors import is_reopened
from pipeline.models.base import ModelInfo
from pipeline.plan.fingerprint import fingerprint
from pipeline.plan.graph import providers, stages_for
from pipeline.stages.base import StageSpec
from schemas.plans import JobPlan, StagePlan
from schemas.records import MediaKind
from schemas.tables import (
    INGEST,
    asset,
    head,
    location,
    model,
    sidecar,
    stage_run,
    stage_run_input,
    stage_run_model,
)
from schemas.types import utc_now


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
class _Asset:
    """What is known of a locked asset; kept up to date while runs are queued."""

    id: int
    kind: MediaKind
    has_audio: bool
    #: What the first stages read: the bytes, and the subtitle files beside them.
    base_inputs: Mapping[str, Any]
    #: (stage, fingerprint) → id, state, outputs, error_class, finished_at.
    runs: dict[tuple[str, str], Any]
    #: stage → the run that is shown.
    heads: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class _QueuedRun:
    """A run that was queued a moment ago, beside the rows of those that were there."""

    id: int
    state: str = "queued"


_LOCK = (
    select(asset.c.kind, asset.c.has_audio, asset.c.sha256)
    .where(asset.c.id == bindparam("asset"))
    # NO KEY: rows that refer to the asset may be written meanwhile.
    .with_for_update(key_share=True)
)
_RUNS = (
    select(
        stage_run.c.id,
        stage_run.c.stage,
        stage_run.c.fingerprint,
        stage_run.c.state,
        stage_run.c.outputs,
        stage_run.c.error_class,
        stage_run.c.finished_at,
        head.c.stage_run_id.label("head_id"),
    )
    .select_from(
        stage_run.outerjoin(
            head, and_(head.c.asset_id == stage_run.c.asset_id, head.c.stage == stage_run.c.stage)
        )
    )
    .where(stage_run.c.asset_id == bindparam("asset"), stage_run.c.stage != INGEST)
)
_SIDECARS = (
    select(sidecar.c.name, sidecar.c.sha256)
    .join(location, location.c.id == sidecar.c.location_id)
    .where(location.c.asset_id == bindparam("asset"), location.c.is_current)
)


def lock_asset(connection: Connection, asset_id: int) -> Any:
    """Two workers that finish two stages of one asset at once must see each other's work.

    Gives what never changes of it: kind, has_audio, sha256.
    """
    return connection.execute(_LOCK, {"asset": asset_id}).one()


def _look(connection: Connection, asset_id: int, facts: Any) -> _Asset:
    """How a locked asset stands."""
    rows = connection.execute(_RUNS, {"asset": asset_id}).all()
    return _Asset(
        id=asset_id,
        kind=facts.kind,
        has_audio=facts.has_audio,
        base_inputs={"media": facts.sha256, "sidecars": _sidecars(connection, asset_id)},
        runs={(row.stage, row.fingerprint): row for row in rows},
        heads={row.stage: row.head_id for row in rows if row.head_id is not None},
    )


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
    seen = _look(connection, asset_id, lock_asset(connection, asset_id))
    progress = _advance(
        connection,
        seen,
        job_id=job_id,
        priority=priority,
        plan=plan,
        submitted_at=submitted_at,
        plans=plans,
        adopt=True,
    )
    _flip_heads(
        connection, seen, progress, newest_job=jobs.newest_job(connection, asset_id), job_id=job_id
    )
    return progress


def _advance(
    connection: Connection,
    seen: _Asset,
    *,
    job_id: int,
    priority: int,
    plan: JobPlan,
    submitted_at: datetime,
    plans: jobs.PlanCache,
    adopt: bool,
) -> Progress:
    stages = stages_for(seen.kind, has_audio=seen.has_audio)
    progress = Progress(stages=len(stages))
    for spec in stages:
        upstream = {
            provider.name: provider
            for name in spec.inputs
            if name not in seen.base_inputs
            for provider in providers(name, stages)
        }
        if not all(name in progress.succeeded for name in upstream):
            continue
        inputs = _inputs(spec, stages, seen.base_inputs, progress)
        stage_plan = plan.stages[spec.name]
        mark = fingerprint(
            stage=spec.name,
            code_version=spec.code_version,
            params=stage_plan.parameters,
            models=_models(spec, stage_plan),
            inputs=inputs,
        )
        row = seen.runs.get((spec.name, mark))
        if row is None:
            run_id = _queue(
                connection,
                spec=spec,
                stage_plan=stage_plan,
                inputs=inputs,
                mark=mark,
                asset_id=seen.id,
                job_id=job_id,
                priority=priority,
                upstream=[progress.succeeded[name].id for name in upstream],
                plans=plans,
            )
            seen.runs[spec.name, mark] = _QueuedRun(id=run_id)
            progress.pending.append(spec.name)
        elif row.state == "succeeded":
            progress.succeeded[spec.name] = row
        elif row.state == "failed" and not (
            row.finished_at < submitted_at and is_reopened(row.error_class)
        ):
            progress.failed.append(row.id)
        else:
            if adopt or row.state in ("failed", "cancelled"):
                jobs.adopt_run(connection, row.id, job_id=job_id, priority=priority)
                seen.runs[spec.name, mark] = _QueuedRun(id=row.id)
            progress.pending.append(spec.name)
    return progress


def advance_items(
    connection: Connection,
    asset_id: int,
    plans: jobs.PlanCache,
    facts: Any = None,
) -> None:
    """Advance the asset in every job that waits for it, and close what is complete.

    ``facts``: what :func:`lock_asset` gave, where it is locked already.
    """
    seen = _look(connection, asset_id, facts or lock_asset(connection, asset_id))
    for item in jobs.open_items_of_asset(connection, asset_id):
        progress = _advance(
            connection,
            seen,
            job_id=item.job_id,
            priority=item.priority,
            plan=plans.get(connection, item.job_id),
            submitted_at=item.submitted_at,
            plans=plans,
            adopt=False,
        )
        _flip_heads(connection, seen, progress, newest_job=item.newest_job, job_id=item.job_id)
        if progress.item_state == item.state:
            continue
        jobs.set_item_state(
            connection,
            item.job_id,
            item.location_id,
            progress.item_state,
            failed_run_id=progress.failed_run_id,
        )
        if progress.item_state not in jobs.OPEN_ITEM_STATES:
            jobs.close_if_complete(connection, item.job_id)


def _sidecars(connection: Connection, asset_id: int) -> list[dict[str, str]]:
    """The subtitle files beside the asset wherever it still is, each content once."""
    rows = connection.execute(_SIDECARS, {"asset": asset_id})
    # Sorted before and after: the same content under two names keeps the first of them.
    names = {row.sha256: row.name for row in sorted(rows, reverse=True)}
    return [{"name": name, "sha256": sha256} for sha256, name in sorted(names.items())]


def _inputs(
    spec: StageSpec,
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
        for name in spec.inputs
    }


def _models(spec: StageSpec, stage_plan: StagePlan) -> dict[str, tuple[str, str]]:
    models = {role: (ref.name, ref.revision) for role, ref in stage_plan.models.items()}
    if spec.own_model is not None and spec.credited_role not in models:
        models["own"] = (spec.own_model.name, spec.own_model.revision)
    return models


def _queue(
    connection: Connection,
    *,
    spec: StageSpec,
    stage_plan: StagePlan,
    inputs: Mapping[str, Any],
    mark: str,
    asset_id: int,
    job_id: int,
    priority: int,
    upstream: list[int],
    plans: jobs.PlanCache,
) -> int:
    """Queue a run that is not there yet (the asset is locked); gives its id."""
    models = {
        role: plans.model_id(connection, ref.name, ref.revision)
        for role, ref in stage_plan.models.items()
    }
    credited = models.get(spec.credited_role or "")
    if credited is None and spec.own_model is not None:
        credited = plans.model_id(connection, spec.own_model.name, spec.own_model.revision)
    run_id = connection.execute(
        _NEW_RUN,
        {
            "asset_id": asset_id,
            "job_id": job_id,
            "stage": spec.name,
            "queue": spec.queue,
            "fingerprint": mark,
            "code_version": spec.code_version,
            "params": stage_plan.parameters,
            "inputs": inputs,
            "model_id": credited,
            "dispatch_rank": -priority,
            "state": "queued",
        },
    ).scalar_one()
    if upstream:
        connection.execute(
            insert(stage_run_input),
            [{"stage_run_id": run_id, "input_run_id": found} for found in upstream],
        )
    if models:
        connection.execute(
            insert(stage_run_model),
            [
                {"stage_run_id": run_id, "role": role, "model_id": found}
                for role, found in models.items()
            ],
        )
    return int(run_id)


_NEW_RUN = insert(stage_run).returning(stage_run.c.id)


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


def _flip_heads(
    connection: Connection, seen: _Asset, progress: Progress, *, newest_job: int, job_id: int
) -> None:
    """Show what is done: for the newest job of the asset, else only where nothing is shown."""
    flipped = {
        stage: row.id
        for stage, row in progress.succeeded.items()
        if seen.heads.get(stage) != row.id and (stage not in seen.heads or newest_job <= job_id)
    }
    for stage, run_id in flipped.items():
        if stage in seen.heads:
            connection.execute(
                update(head)
                .where(head.c.asset_id == seen.id, head.c.stage == stage)
                .values(stage_run_id=run_id, flipped_at=utc_now())
            )
        else:
            connection.execute(
                insert(head), {"asset_id": seen.id, "stage": stage, "stage_run_id": run_id}
            )
    seen.heads.update(flipped)
