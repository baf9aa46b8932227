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

from sqlalchemy import Connection, Row, select, update

from pipeline.db import jobs
from pipeline.db.results import insert_or_ignore
from pipeline.errors import is_reopened
from pipeline.models.base import ModelInfo
from pipeline.plan.fingerprint import fingerprint
from pipeline.plan.graph import providers, stages_for
from pipeline.stages.base import StageSpec
from schemas.plans import JobPlan, StagePlan
from schemas.tables import (
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


def lock_asset(connection: Connection, asset_id: int) -> None:
    """Two workers that finish two stages of one asset at once must see each other's work."""
    # NO KEY: rows that refer to the asset may be written meanwhile.
    connection.execute(
        select(asset.c.id).where(asset.c.id == asset_id).with_for_update(key_share=True)
    )


def advance(
    connection: Connection,
    *,
    asset_id: int,
    job_id: int,
    priority: int,
    plan: JobPlan,
    submitted_at: datetime,
    adopt: bool = False,
) -> Progress:
    """Queue every stage of the asset that is due under ``plan`` and point the heads at what is
    done. The caller holds :func:`lock_asset`.

    Failed runs that may succeed by now (not those of bad media) are queued again, if they failed
    before the job was submitted. ``adopt``: runs that another job left unfinished count for this.
    """
    facts = connection.execute(select(asset).where(asset.c.id == asset_id)).one()
    stages = stages_for(facts.kind, has_audio=facts.has_audio)
    runs = {
        (row.stage, row.fingerprint): row
        for row in connection.execute(select(stage_run).where(stage_run.c.asset_id == asset_id))
    }
    base_inputs = {"media": facts.sha256, "sidecars": _sidecars(connection, asset_id)}
    progress = Progress(stages=len(stages))
    for spec in stages:
        upstream = {
            provider.name: provider
            for name in spec.inputs
            if name not in base_inputs
            for provider in providers(name, stages)
        }
        if not all(name in progress.succeeded for name in upstream):
            continue
        inputs = _inputs(spec, stages, base_inputs, progress)
        stage_plan = plan.stages[spec.name]
        mark = fingerprint(
            stage=spec.name,
            code_version=spec.code_version,
            params=stage_plan.parameters,
            models=_models(spec, stage_plan),
            inputs=inputs,
        )
        row = runs.get((spec.name, mark))
        if row is None:
            _queue(
                connection,
                spec=spec,
                stage_plan=stage_plan,
                inputs=inputs,
                mark=mark,
                asset_id=asset_id,
                job_id=job_id,
                priority=priority,
                upstream=[progress.succeeded[name].id for name in upstream],
            )
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
            progress.pending.append(spec.name)
    _flip_heads(
        connection, asset_id, progress, is_newest=jobs.newest_job(connection, asset_id) <= job_id
    )
    return progress


def advance_items(connection: Connection, asset_id: int, plans: jobs.PlanCache) -> None:
    """Advance the asset in every job that waits for it, and close what is complete."""
    lock_asset(connection, asset_id)
    for item in jobs.open_items(connection, asset_id=asset_id):
        progress = advance(
            connection,
            asset_id=asset_id,
            job_id=item.job_id,
            priority=item.priority,
            plan=plans.get(connection, item.job_id),
            submitted_at=item.submitted_at,
        )
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
    query = (
        select(sidecar.c.name, sidecar.c.sha256)
        .join(location, location.c.id == sidecar.c.location_id)
        .where(
            location.c.asset_id == asset_id,
            location.c.is_current,
        )
    )
    # Sorted before and after: the same content under two names keeps the first of them.
    names = {row.sha256: row.name for row in sorted(connection.execute(query), reverse=True)}
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
) -> None:
    models = {
        role: model_id(connection, ref.name, ref.revision)
        for role, ref in stage_plan.models.items()
    }
    credited = models.get(spec.credited_role or "")
    if credited is None and spec.own_model is not None:
        credited = model_id(connection, spec.own_model.name, spec.own_model.revision)
    run_id = connection.execute(
        insert_or_ignore(connection, stage_run)
        .values(
            asset_id=asset_id,
            job_id=job_id,
            stage=spec.name,
            queue=spec.queue,
            fingerprint=mark,
            code_version=spec.code_version,
            params=stage_plan.parameters,
            inputs=inputs,
            model_id=credited,
            dispatch_rank=-priority,
            state="queued",
        )
        .returning(stage_run.c.id)
    ).scalar_one_or_none()
    if run_id is None:
        return
    rows = [{"stage_run_id": run_id, "input_run_id": found} for found in upstream]
    if rows:
        connection.execute(insert_or_ignore(connection, stage_run_input), rows)
    rows = [
        {"stage_run_id": run_id, "role": role, "model_id": found} for role, found in models.items()
    ]
    if rows:
        connection.execute(insert_or_ignore(connection, stage_run_model), rows)


def model_id(connection: Connection, name: str, revision: str) -> int:
    """The id of a registered model."""
    query = select(model.c.id).where(model.c.name == name, model.c.revision == revision)
    return int(connection.execute(query).scalar_one())


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
    connection: Connection, asset_id: int, progress: Progress, *, is_newest: bool
) -> None:
    """Show what is done: for the newest job of the asset, else only where nothing is shown."""
    query = select(head.c.stage, head.c.stage_run_id).where(head.c.asset_id == asset_id)
    current = {row.stage: row.stage_run_id for row in connection.execute(query)}
    for stage, row in progress.succeeded.items():
        if current.get(stage) == row.id or (stage in current and not is_newest):
            continue
        if stage in current:
            connection.execute(
                update(head)
                .where(head.c.asset_id == asset_id, head.c.stage == stage)
                .values(stage_run_id=row.id, flipped_at=utc_now())
            )
        else:
            connection.execute(
                insert_or_ignore(connection, head).values(
                    asset_id=asset_id, stage=stage, stage_run_id=row.id
                )
            )
