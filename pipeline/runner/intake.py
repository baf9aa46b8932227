"""Jobs from outside become rows."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, Self

from sqlalchemy import Connection, Row, select

from pipeline.config import Settings
from pipeline.db import jobs
from pipeline.db.results import insert_or_ignore
from pipeline.errors import PipelineError, is_reopened
from pipeline.plan.advance import advance, lock_asset, register_models
from pipeline.plan.fingerprint import fingerprint
from pipeline.plan.graph import INGEST, INGEST_CODE_VERSION, STAGES
from pipeline.plan.profiles import model_entry, resolve_plan
from pipeline.runner.runtime import Runtime
from pipeline.storage.local import normalise_uri
from pipeline.storage.sources import SkippedFile, SourceItem, expand
from schemas.messages import JobMessage
from schemas.plans import JobPlan
from schemas.tables import job, stage_run

#: Items written per transaction: large enough to be quick, small enough not to block others long.
BATCH = 500


def submit(
    runtime: Runtime,
    message: JobMessage,
    *,
    on_progress: Callable[[int, int], None] = lambda found, skipped: None,
    still_wanted: Callable[[], bool] = lambda: True,
) -> int:
    """List the sources and write the job with its items; gives the job's id.

    Finished work is found by its fingerprint and not queued again. A message whose ``job_key`` was
    submitted before changes nothing, or completes the listing if that was broken off.
    ``on_progress`` is told how many files were found and skipped; ``still_wanted`` is asked between
    batches, and ends the listing (the job is then ``cancelled``).

    Raises:
        ConfigurationError: the profile, a parameter or a source is wrong; nothing was written.
        StoreUnavailableError: a store cannot be reached; a job without a key is then ``failed``.
    """
    plan = resolve_plan(message, runtime.settings)
    sources = [normalise_uri(source) for source in message.sources]
    with runtime.database.transaction() as connection:
        register_models(connection, _plan_models(plan, runtime.settings))
        job_id, _ = jobs.create_job(
            connection,
            job_key=message.job_key,
            name=message.name or _name_of(sources),
            priority=message.priority,
            sources=sources,
            plan=plan,
        )
        listing = _Listing.of(connection, job_id)
    if listing.state != "expanding":
        return job_id
    try:
        complete = _list_sources(runtime, listing, sources, on_progress, still_wanted)
    except PipelineError:
        if message.job_key is None:
            _abandon(runtime, job_id, "failed")
        raise
    if not complete:
        _abandon(runtime, job_id, "cancelled")
    return job_id


@dataclass(frozen=True, slots=True, kw_only=True)
class _Listing:
    """The stored job, while its sources are listed."""

    job_id: int
    state: str
    priority: int
    submitted_at: datetime
    plan: JobPlan

    @classmethod
    def of(cls, connection: Connection, job_id: int) -> Self:
        row = connection.execute(select(job).where(job.c.id == job_id)).one()
        return cls(
            job_id=job_id,
            state=row.state,
            priority=row.priority,
            submitted_at=row.submitted_at,
            plan=JobPlan.model_validate(row.plan),
        )


def _list_sources(
    runtime: Runtime,
    listing: _Listing,
    sources: Sequence[str],
    on_progress: Callable[[int, int], None],
    still_wanted: Callable[[], bool],
) -> bool:
    """Write items batch by batch; gives whether the listing came to its end."""
    found = skipped = 0
    entries = (entry for source in sources for entry in expand(source, runtime.stores))
    for batch in _batches(entries, BATCH):
        items = [entry for entry in batch if isinstance(entry, SourceItem)]
        skipped += sum(1 for entry in batch if isinstance(entry, SkippedFile))
        found += len(items)
        if items:
            with runtime.database.transaction() as connection:
                _add_batch(connection, listing, items)
        on_progress(found, skipped)
        if not still_wanted():
            return False
    with runtime.database.transaction() as connection:
        jobs.listing_complete(connection, listing.job_id, skipped)
    return True


def _abandon(runtime: Runtime, job_id: int, state: str) -> None:
    with runtime.database.transaction() as connection:
        jobs.abandon(connection, job_id, state)


def _add_batch(connection: Connection, listing: _Listing, items: Sequence[SourceItem]) -> None:
    # The same place may come twice in one job, by two sources. Sorted: two submissions that write
    # the same new places never wait for each other in a circle.
    by_place = dict(
        sorted((((item.uri, item.etag or ""), item) for item in items), key=lambda pair: pair[0])
    )
    places = jobs.see_locations(
        connection,
        [
            jobs.SeenAt(uri=uri, etag=etag, size_bytes=item.size_bytes)
            for (uri, etag), item in by_place.items()
        ],
    )
    ingests = {
        place.id: _ensure_ingest(connection, listing, place, item)
        for place, item in zip(places, by_place.values(), strict=True)
    }
    jobs.add_items(
        connection,
        listing.job_id,
        [
            jobs.NewItem(
                location_id=place_id,
                ingest_run_id=ingest.id,
                asset_id=ingest.asset_id if ingest.state == "succeeded" else None,
            )
            for place_id, ingest in ingests.items()
        ],
    )
    for place_id, ingest in ingests.items():
        if ingest.state == "failed":
            jobs.set_item_state(
                connection, listing.job_id, place_id, "failed", failed_run_id=ingest.id
            )
    known = [
        (found.asset_id, place) for place, found in ingests.items() if found.state == "succeeded"
    ]
    # In the order of ids: two submissions never wait for each other's assets in a circle.
    for asset_id, place_id in sorted(known):
        lock_asset(connection, asset_id)
        progress = advance(
            connection,
            asset_id=asset_id,
            job_id=listing.job_id,
            priority=listing.priority,
            plan=listing.plan,
            submitted_at=listing.submitted_at,
            adopt=True,
        )
        jobs.set_item_state(
            connection,
            listing.job_id,
            place_id,
            progress.item_state,
            failed_run_id=progress.failed_run_id,
        )


def _ensure_ingest(
    connection: Connection, listing: _Listing, place: Row[Any], item: SourceItem
) -> Any:
    """The ingest of a location, queued unless that is useless: its id, state and asset."""
    inputs = {
        "uri": item.uri,
        "etag": item.etag,
        "sidecars": [{"uri": sidecar.uri, "etag": sidecar.etag} for sidecar in item.sidecars],
    }
    mark = fingerprint(
        stage=INGEST, code_version=INGEST_CODE_VERSION, params={}, models={}, inputs=inputs
    )
    connection.execute(
        insert_or_ignore(connection, stage_run).values(
            location_id=place.id,
            job_id=listing.job_id,
            stage=INGEST,
            queue="io",
            fingerprint=mark,
            code_version=INGEST_CODE_VERSION,
            params={},
            inputs=inputs,
            dispatch_rank=-listing.priority,
            state="queued",
        )
    )
    query = (
        select(stage_run.c.id, stage_run.c.state, stage_run.c.error_class, stage_run.c.asset_id)
        .where(
            stage_run.c.location_id == place.id,
            stage_run.c.stage == INGEST,
            stage_run.c.fingerprint == mark,
        )
        # A worker that ends this ingest now must see our item, or we what it found.
        .with_for_update(key_share=True)
    )
    known = connection.execute(query).one()
    owner = {"job_id": listing.job_id, "priority": listing.priority}
    if known.state == "succeeded":
        # Without a tag nothing says that the bytes are still the same; and a later ingest of this
        # place may have found other sidecars since, which must be undone.
        if item.etag is None or place.ingest_run_id != known.id:
            jobs.requeue(connection, known.id, **owner)
    elif known.state != "failed" or is_reopened(known.error_class):
        jobs.adopt_run(connection, known.id, **owner)
    return connection.execute(query).one()


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
