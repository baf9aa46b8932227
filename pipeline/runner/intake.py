"""Jobs from outside become rows."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

from sqlalchemy import Connection, select

from pipeline.config import Settings
from pipeline.db import jobs
from pipeline.db.results import insert_or_ignore
from pipeline.errors import is_reopened
from pipeline.plan.advance import advance, lock_asset, register_models
from pipeline.plan.fingerprint import fingerprint
from pipeline.plan.graph import INGEST, INGEST_CODE_VERSION, STAGES
from pipeline.plan.profiles import model_entry, resolve_plan
from pipeline.runner.runtime import Runtime
from pipeline.storage.local import normalise_uri
from pipeline.storage.sources import SkippedFile, SourceItem, expand
from schemas.messages import JobMessage
from schemas.plans import JobPlan
from schemas.tables import stage_run

#: Items written per transaction: large enough to be quick, small enough not to block others long.
BATCH = 500


def submit(
    runtime: Runtime,
    message: JobMessage,
    *,
    on_progress: Callable[[int, int], None] = lambda found, skipped: None,
) -> int:
    """List the sources and write the job with its items; gives the job's id.

    Finished work is found by its fingerprint and not queued again. A message whose ``job_key`` was
    submitted before changes nothing. ``on_progress`` is told how many files were found and skipped.

    Raises:
        ConfigurationError: the profile, a parameter or a source is wrong; nothing was written.
        StoreUnavailableError: a store cannot be reached.
    """
    plan = resolve_plan(message, runtime.settings)
    sources = [normalise_uri(source) for source in message.sources]
    with runtime.database.transaction() as connection:
        register_models(connection, _plan_models(plan, runtime.settings))
        job_id, is_new = jobs.create_job(
            connection,
            job_key=message.job_key,
            name=message.name or _name_of(sources),
            priority=message.priority,
            sources=sources,
            plan=plan,
        )
    if not is_new:
        return job_id
    found = skipped = 0
    entries = (entry for source in sources for entry in expand(source, runtime.stores))
    for batch in _batches(entries, BATCH):
        items = [entry for entry in batch if isinstance(entry, SourceItem)]
        skipped += sum(1 for entry in batch if isinstance(entry, SkippedFile))
        found += len(items)
        if items:
            _add_batch(runtime, job_id, message.priority, plan, items)
        on_progress(found, skipped)
    with runtime.database.transaction() as connection:
        jobs.listing_complete(connection, job_id, skipped)
    return job_id


def _add_batch(
    runtime: Runtime, job_id: int, priority: int, plan: JobPlan, items: Sequence[SourceItem]
) -> None:
    # The same place may come twice in one job, by two sources.
    by_place = {(item.uri, item.etag or ""): item for item in items}
    with runtime.database.transaction() as connection:
        rows = jobs.see_locations(
            connection,
            [
                jobs.SeenAt(uri=uri, etag=etag, size_bytes=item.size_bytes)
                for (uri, etag), item in by_place.items()
            ],
        )
        known: list[tuple[int, int]] = []
        members: list[tuple[int, int | None]] = []
        hopeless: list[int] = []
        for row, item in zip(rows, by_place.values(), strict=True):
            state = _ensure_ingest(connection, row.id, item, job_id, priority)
            asset_id = row.asset_id if state == "succeeded" else None
            members.append((row.id, asset_id))
            if asset_id is not None:
                known.append((asset_id, row.id))
            elif state == "failed":
                hopeless.append(row.id)
        jobs.add_items(connection, job_id, members)
        for location_id in hopeless:
            jobs.set_item_state(connection, job_id, location_id, "failed")
        # In the order of ids: two submissions never wait for each other's assets in a circle.
        for asset_id, location_id in sorted(known):
            lock_asset(connection, asset_id)
            progress = advance(
                connection,
                asset_id=asset_id,
                job_id=job_id,
                priority=priority,
                plan=plan,
                reopen=True,
            )
            jobs.set_item_state(connection, job_id, location_id, progress.item_state)


def _ensure_ingest(
    connection: Connection, location_id: int, item: SourceItem, job_id: int, priority: int
) -> str:
    """Queue the ingest of a location unless that is useless; gives the state it is then in."""
    inputs = {
        "uri": item.uri,
        "etag": item.etag,
        "sidecars": [{"uri": sidecar.uri, "etag": sidecar.etag} for sidecar in item.sidecars],
    }
    mark = fingerprint(
        stage=INGEST, code_version=INGEST_CODE_VERSION, params={}, models={}, inputs=inputs
    )
    created = connection.execute(
        insert_or_ignore(connection, stage_run)
        .values(
            location_id=location_id,
            job_id=job_id,
            stage=INGEST,
            queue="io",
            fingerprint=mark,
            code_version=INGEST_CODE_VERSION,
            params={},
            inputs=inputs,
            priority=priority,
            state="queued",
        )
        .returning(stage_run.c.id)
    ).scalar_one_or_none()
    if created is not None:
        return "queued"
    known: Any = connection.execute(
        select(stage_run.c.id, stage_run.c.state, stage_run.c.error_class).where(
            stage_run.c.location_id == location_id,
            stage_run.c.stage == INGEST,
            stage_run.c.fingerprint == mark,
        )
    ).one()
    if known.state == "succeeded" or (
        known.state == "failed" and not is_reopened(known.error_class)
    ):
        return str(known.state)
    jobs.adopt_run(connection, known.id, job_id=job_id, priority=priority)
    return "queued"


def _plan_models(plan: JobPlan, settings: Settings) -> list[Any]:
    names = {ref.name for stage in plan.stages.values() for ref in stage.models.values()}
    own = [spec.own_model for spec in STAGES.values() if spec.own_model is not None]
    return [*(model_entry(name, settings).info for name in sorted(names)), *own]


def _name_of(sources: Sequence[str]) -> str:
    more = f" and {len(sources) - 1} more" if len(sources) > 1 else ""
    return sources[0][:180] + more


def _batches(entries: Iterator[Any], size: int) -> Iterator[list[Any]]:
    while batch := list(islice(entries, size)):
        yield batch
