"""expand: a job's sources → its items, each with the ingest it waits for."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, Self

from sqlalchemy import Connection, Row, select, tuple_

from pipeline.db import closing, job_ends, jobs, runs
from pipeline.db.results import insert_or_ignore
from pipeline.errors import is_reopened
from pipeline.plan.advance import advance
from pipeline.plan.fingerprint import fingerprint
from pipeline.plan.graph import INGEST_CODE_VERSION
from pipeline.runner.bucket_rules import rule_for
from pipeline.runner.runtime import Runtime
from pipeline.runner.sweep import WatchedStore
from pipeline.storage.s3 import parse_s3_uri
from pipeline.storage.sources import (
    SkippedFile,
    SourceItem,
    expand,
    expand_object,
    expand_prefix,
)
from schemas.plans import JobPlan
from schemas.tables import INGEST, job, stage_run

#: Raised when a listing starts to find something else.
EXPAND_CODE_VERSION = 1
#: Items written per transaction: large enough to be quick, small enough not to block others long.
BATCH = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The stored job, while its sources are listed."""

    job_id: int
    priority: int
    submitted_at: datetime
    sources: Sequence[str]
    plan: JobPlan

    @classmethod
    def of(cls, connection: Connection, job_id: int) -> Self:
        row = connection.execute(select(job).where(job.c.id == job_id)).one()
        return cls(
            job_id=job_id,
            priority=row.priority,
            submitted_at=row.submitted_at,
            sources=row.sources,
            plan=JobPlan.model_validate(row.plan),
        )


def list_sources(
    runtime: Runtime,
    run: runs.ClaimedRun,
    listing: Listing,
    on_progress: Callable[[int, int], None] = lambda found, skipped: None,
    still_wanted: Callable[[], bool] = lambda: True,
) -> bool:
    """Write items batch by batch; gives whether the listing came to its end.

    Every batch is a transaction of its own, fenced by the run's token; a listing that is done again
    from its beginning finds its items there already.

    Raises:
        LeaseLostError: the job was cancelled, or another worker lists it.
        StoreUnavailableError: a store cannot be reached.
    """
    found = skipped = 0
    rule = run.inputs["rule"]
    watched = WatchedStore(runtime.stores) if rule is not None else None
    entries = (
        entry
        for source in listing.sources
        for entry in (
            _of_rule(runtime, rule, source, watched)
            if watched is not None
            else [expand_object(source, runtime.stores)]
            if run.inputs["exact"]
            else expand(source, runtime.stores)
        )
    )
    for batch in _batches(entries, BATCH):
        items = [entry for entry in batch if isinstance(entry, SourceItem)]
        skipped += sum(1 for entry in batch if isinstance(entry, SkippedFile))
        found += len(items)
        if items:
            with runtime.database.transaction() as connection:
                runs.hold(connection, run)
                _add_batch(
                    connection,
                    listing,
                    items,
                    runtime.plans,
                    only_new=run.inputs["only_new"],
                )
        on_progress(found, skipped)
        if not still_wanted():
            return False
    if watched is not None:
        watched.retire_unlisted(runtime.database, since=listing.submitted_at)
    with runtime.database.transaction() as connection:
        runs.hold(connection, run)
        closing.succeed(connection, run, closing.Outcome(asset_id=None, outputs={}, seconds=0))
        job_ends.listing_complete(connection, listing.job_id, skipped)
    return True


def _of_rule(
    runtime: Runtime, rule: str, prefix: str, store: WatchedStore
) -> Iterator[SourceItem | SkippedFile]:
    """What lies below a prefix and is taken by this very rule, as an event of it would be."""
    rules = runtime.settings.rules

    def is_taken(uri: str) -> bool:
        found = rule_for(rules, *parse_s3_uri(uri))
        return found is not None and found[0] == rule

    return expand_prefix(prefix, store, is_taken)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """A listed file beside its row in ``location``, and what its ingest is known by."""

    item: SourceItem
    row: Row[Any]
    inputs: Mapping[str, Any]
    mark: str

    @classmethod
    def of(cls, row: Row[Any], item: SourceItem) -> Self:
        inputs = {
            "uri": item.uri,
            "etag": item.etag,
            "sidecars": [{"uri": sidecar.uri, "etag": sidecar.etag} for sidecar in item.sidecars],
        }
        mark = fingerprint(
            stage=INGEST, code_version=INGEST_CODE_VERSION, params={}, models={}, inputs=inputs
        )
        return cls(item=item, row=row, inputs=inputs, mark=mark)

    def is_settled_by(self, ingest: Row[Any]) -> bool:
        """Whether the ingest has found what lies here now.

        Without a tag nothing says that the bytes are still the same; and a later ingest of this
        place may have found other sidecars since, which must be undone.
        """
        return self.item.etag is not None and self.row.ingest_run_id == ingest.id


def _add_batch(
    connection: Connection,
    listing: Listing,
    items: Sequence[SourceItem],
    plans: jobs.PlanCache,
    *,
    only_new: bool,
) -> None:
    # The same place may come twice in one job, by two sources. Sorted: two submissions that write
    # the same new places never wait for each other in a circle.
    by_place = dict(
        sorted((((item.uri, item.etag or ""), item) for item in items), key=lambda pair: pair[0])
    )
    rows = jobs.see_locations(
        connection,
        [
            jobs.SeenAt(uri=uri, etag=etag, size_bytes=item.size_bytes)
            for (uri, etag), item in by_place.items()
        ],
    )
    places = [_Place.of(row, item) for row, item in zip(rows, by_place.values(), strict=True)]
    if only_new:
        known = _ingests(connection, places)
        places = [
            place
            for place in places
            if (ingest := known.get(place.row.id)) is None
            # Of an earlier attempt at this listing.
            or ingest.job_id == listing.job_id
            or ingest.state == "cancelled"
            or (ingest.state == "succeeded" and not place.is_settled_by(ingest))
        ]
    if not places:
        return
    ingests = _ensure_ingests(connection, listing, places)
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
            job_ends.set_item_state(
                connection, listing.job_id, place_id, "failed", failed_run_id=ingest.id
            )
    finished = [
        (ingest.asset_id, place) for place, ingest in ingests.items() if ingest.state == "succeeded"
    ]
    # In the order of ids: two submissions never wait for each other's assets in a circle.
    for asset_id, place_id in sorted(finished):
        progress = advance(
            connection,
            asset_id=asset_id,
            job_id=listing.job_id,
            priority=listing.priority,
            plan=listing.plan,
            submitted_at=listing.submitted_at,
            plans=plans,
        )
        job_ends.set_item_state(
            connection,
            listing.job_id,
            place_id,
            progress.item_state,
            failed_run_id=progress.failed_run_id,
        )


def _ensure_ingests(
    connection: Connection, listing: Listing, places: Sequence[_Place]
) -> dict[int, Any]:
    """The ingest of each place, queued unless that is useless: location id → its run."""
    connection.execute(
        insert_or_ignore(connection, stage_run),
        [
            {
                "location_id": place.row.id,
                "job_id": listing.job_id,
                "stage": INGEST,
                "queue": "io",
                "fingerprint": place.mark,
                "code_version": INGEST_CODE_VERSION,
                "params": {},
                "inputs": place.inputs,
                "dispatch_rank": -listing.priority,
                "state": "queued",
            }
            for place in places
        ],
    )
    ingests = _ingests(connection, places, lock=True)
    owner = {"job_id": listing.job_id, "priority": listing.priority}
    changed = False
    for place in places:
        ingest = ingests[place.row.id]
        if ingest.job_id == listing.job_id and ingest.state != "cancelled":
            # Queued above, or by an earlier attempt at this listing.
            continue
        if ingest.state == "succeeded":
            if place.is_settled_by(ingest):
                continue
            jobs.requeue(connection, ingest.id, **owner)
        elif ingest.state != "failed" or is_reopened(ingest.error_class):
            jobs.adopt_run(connection, ingest.id, **owner)
        changed = True
    return _ingests(connection, places) if changed else ingests


def _ingests(
    connection: Connection, places: Sequence[_Place], *, lock: bool = False
) -> dict[int, Any]:
    """The runs of the places' ingests, by location."""
    query = (
        select(
            stage_run.c.id,
            stage_run.c.location_id,
            stage_run.c.state,
            stage_run.c.error_class,
            stage_run.c.asset_id,
            stage_run.c.job_id,
        )
        .where(
            stage_run.c.stage == INGEST,
            tuple_(stage_run.c.location_id, stage_run.c.fingerprint).in_(
                [(place.row.id, place.mark) for place in places]
            ),
        )
        .order_by(stage_run.c.id)
    )
    if lock:
        # A worker that ends such an ingest now must see our items, or we what it found.
        query = query.with_for_update(key_share=True)
    return {row.location_id: row for row in connection.execute(query)}


def _batches(entries: Iterator[Any], size: int) -> Iterator[list[Any]]:
    while batch := list(islice(entries, size)):
        yield batch
