"""Jobs and their items as rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Connection,
    Row,
    case,
    func,
    or_,
    select,
    tuple_,
    update,
)

from pipeline.db.results import insert_or_ignore
from schemas.plans import JobPlan
from schemas.tables import EXPAND, job, job_item, location, model, stage_run

OPEN_ITEM_STATES = ("pending", "running")
UNFINISHED_RUN_STATES = ("waiting", "queued", "running")


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenAt:
    """A place as a listing tells of it; ``etag`` is empty where it tells none."""

    uri: str
    etag: str
    size_bytes: int | None


class PlanCache:
    """Plans of jobs by id, and ids of models: neither ever changes."""

    def __init__(self) -> None:
        self._plans: dict[int, JobPlan] = {}
        self._models: dict[tuple[str, str], int] = {}

    def model_id(self, connection: Connection, name: str, revision: str) -> int:
        """The id of a registered model."""
        if (name, revision) not in self._models:
            query = select(model.c.id).where(model.c.name == name, model.c.revision == revision)
            self._models[name, revision] = connection.execute(query).scalar_one()
        return self._models[name, revision]

    def get(self, connection: Connection, job_id: int) -> JobPlan:
        if job_id not in self._plans:
            stored = connection.execute(select(job.c.plan).where(job.c.id == job_id)).scalar_one()
            if len(self._plans) >= 256:
                self._plans.clear()
            self._plans[job_id] = JobPlan.model_validate(stored)
        return self._plans[job_id]


def create_job(
    connection: Connection,
    *,
    job_key: str | None,
    name: str,
    priority: int,
    sources: Sequence[str],
    plan: JobPlan,
    origin: str = "command",
    events: str = "none",
    webhook: str | None = None,
) -> tuple[int, bool]:
    """A new job, still without items; or the one that was submitted under ``job_key`` before.

    Gives the job's id and whether it is new.
    """
    created = connection.execute(
        insert_or_ignore(connection, job)
        .values(
            job_key=job_key,
            name=name,
            priority=priority,
            profile=plan.profile,
            sources=list(sources),
            plan=plan.model_dump(mode="json"),
            origin=origin,
            events=events,
            webhook=webhook,
            state="expanding",
        )
        .returning(job.c.id)
    ).scalar_one_or_none()
    if created is not None:
        return int(created), True
    known = connection.execute(select(job.c.id).where(job.c.job_key == job_key)).scalar_one()
    return int(known), False


def see_locations(connection: Connection, seen: Sequence[SeenAt]) -> list[Row[Any]]:
    """Rows of ``location`` for these places, in order, made where they are new; an older version
    of the same place is not current any more."""
    connection.execute(
        insert_or_ignore(connection, location),
        [
            {
                "uri": place.uri,
                "etag": place.etag,
                "size_bytes": place.size_bytes,
                "is_current": True,
            }
            for place in seen
        ],
    )
    keys = [(place.uri, place.etag) for place in seen]
    key_columns = tuple_(location.c.uri, location.c.etag)
    rows = {
        (row.uri, row.etag): row
        for row in connection.execute(select(location).where(key_columns.in_(keys)))
    }
    current = sorted(row.id for row in rows.values())
    connection.execute(
        update(location)
        .where(
            location.c.uri.in_([place.uri for place in seen]),
            location.c.is_current != location.c.id.in_(current),
        )
        .values(is_current=location.c.id.in_(current))
    )
    return [rows[key] for key in keys]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewItem:
    """An item of a job. ``asset_id``: where the ingest is done already."""

    location_id: int
    ingest_run_id: int
    asset_id: int | None


def add_items(connection: Connection, job_id: int, items: Sequence[NewItem]) -> None:
    """Items that the job has already stay as they are."""
    connection.execute(
        insert_or_ignore(connection, job_item),
        [
            {
                "job_id": job_id,
                "location_id": item.location_id,
                "ingest_run_id": item.ingest_run_id,
                "asset_id": item.asset_id,
                "state": "pending",
            }
            for item in items
        ],
    )


def open_items_of_ingest(connection: Connection, ingest_run_id: int) -> list[Row[Any]]:
    """Items that still wait for an ingest: job_id, location_id."""
    query = (
        select(job_item.c.job_id, job_item.c.location_id)
        .where(job_item.c.ingest_run_id == ingest_run_id, job_item.c.state.in_(OPEN_ITEM_STATES))
        .order_by(job_item.c.job_id.desc(), job_item.c.location_id)
    )
    return list(connection.execute(query))


def bind_asset(
    connection: Connection,
    *,
    location_id: int,
    ingest_run_id: int,
    asset_id: int,
    version: str | None,
) -> None:
    """The ingest found out which asset, in which version, lies at this location."""
    connection.execute(
        update(location)
        .where(location.c.id == location_id)
        .values(asset_id=asset_id, version=version, ingest_run_id=ingest_run_id)
    )
    connection.execute(
        update(job_item)
        .where(job_item.c.ingest_run_id == ingest_run_id, job_item.c.state.in_(OPEN_ITEM_STATES))
        .values(asset_id=asset_id)
    )


def adopt_run(connection: Connection, stage_run_id: int, *, job_id: int, priority: int) -> None:
    """A job that needs a run which another job left unfinished takes it over; a failed one starts
    anew. A run at work goes on, and counts for the newer job."""
    rank = stage_run.c.dispatch_rank
    connection.execute(
        update(stage_run)
        .where(
            stage_run.c.id == stage_run_id,
            stage_run.c.state.in_(UNFINISHED_RUN_STATES),
            or_(stage_run.c.job_id != job_id, stage_run.c.job_id.is_(None)),
        )
        .values(
            job_id=job_id,
            dispatch_rank=case((rank > -priority, -priority), else_=rank),
            # A message that came while the other job was held was of no effect.
            published_at=None,
        )
    )
    connection.execute(
        update(stage_run)
        .where(stage_run.c.id == stage_run_id, stage_run.c.state.in_(("failed", "cancelled")))
        .values(**_queued_anew(job_id, priority))
    )


def requeue(connection: Connection, stage_run_id: int, *, job_id: int, priority: int) -> None:
    """Queue a run again although it has succeeded: what it looked at may be different now."""
    connection.execute(
        update(stage_run)
        .where(stage_run.c.id == stage_run_id, stage_run.c.state == "succeeded")
        .values(**_queued_anew(job_id, priority))
    )


def _queued_anew(job_id: int, priority: int) -> dict[str, Any]:
    return {
        "job_id": job_id,
        "dispatch_rank": -priority,
        "state": "queued",
        "attempt": 0,
        "not_before": None,
        "published_at": None,
        "republished": 0,
        "finished_at": None,
        "error_class": None,
        "error_text": None,
    }


def counts_by_stage(connection: Connection, job_id: int) -> Mapping[tuple[str, str], int]:
    """How many of the job's stage runs are in each (stage, state); its listing apart."""
    query = (
        select(stage_run.c.stage, stage_run.c.state, func.count())
        .where(stage_run.c.job_id == job_id, stage_run.c.stage != EXPAND)
        .group_by(stage_run.c.stage, stage_run.c.state)
    )
    return {(stage, state): count for stage, state, count in connection.execute(query)}
