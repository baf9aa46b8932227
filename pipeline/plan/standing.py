"""How an asset stands: its runs, its heads, and the jobs that wait for it; in one look."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, Text, and_, bindparam, cast, func, select

from pipeline.db.jobs import OPEN_ITEM_STATES
from pipeline.db.runs import ClaimedRun
from schemas.records import MediaKind
from schemas.tables import INGEST, asset, head, job, job_item, location, sidecar, stage_run
from schemas.types import JsonArray, JsonList, is_one_of


class OpenItem(NamedTuple):
    """An item that still waits for the asset; in the order of its columns in :data:`_ITEMS`."""

    is_paused: bool
    is_cancelled: bool
    job_id: int
    location_id: int
    state: str
    priority: int
    submitted_at: datetime

    @property
    def is_held(self) -> bool:
        return self.is_paused or self.is_cancelled

    @classmethod
    def read(cls, columns: Sequence[Any]) -> "OpenItem":
        *others, submitted_at = columns
        return cls._make((*others, _utc(submitted_at)))


class KnownRun(NamedTuple):
    """A run that was written since the look."""

    #: None where it is queued for a job that wants it: nobody adopts it.
    id: int | None
    job_id: int | None
    state: str
    outputs: Mapping[str, str]


@dataclass(slots=True, kw_only=True)
class Standing:
    """What is known of a locked asset; kept up to date by whoever has the lock."""

    asset_id: int
    lock_count: int
    kind: MediaKind
    has_audio: bool
    container: str
    duration_ms: int | None
    #: What the first stages read: the bytes, and the subtitle files beside them.
    base_inputs: Mapping[str, Any]
    #: (stage, fingerprint) → id, job_id, state, outputs, error_class, finished_at.
    runs: dict[tuple[str, str], Any]
    #: stage → the run that is shown.
    heads: dict[str, int]
    #: The newest job that is free first: what becomes due is then counted as its work.
    open_items: list[OpenItem]
    #: The newest job that ever had this asset; 0 where none had.
    newest_job: int

    def stands(self, facts: Any, job_id: int | None) -> bool:
        """Whether it is still true under the next lock, which gave ``facts``: nobody else had the
        asset in between.

        Only where no other job than ``job_id`` waits for the asset: they may be paused by now.
        """
        return facts.lock_count == self.lock_count + 1 and all(
            item.job_id == job_id for item in self.open_items
        )

    def is_wanted_by(self, job_id: int | None, *, also_if_held: bool) -> bool:
        """Whether an item of the job waits for the asset."""
        return any(
            item.job_id == job_id and (also_if_held or not item.is_held) for item in self.open_items
        )

    def note_queued(self, stage: str, fingerprint: str, job_id: int) -> None:
        self.runs[stage, fingerprint] = KnownRun(None, job_id, "queued", {})

    def note_succeeded(self, run: ClaimedRun, outputs: Mapping[str, str], facts: Any) -> None:
        """Our run, under the lock that gave ``facts``."""
        self.lock_count = facts.lock_count
        self.runs[run.stage, run.fingerprint] = KnownRun(
            run.stage_run_id, run.job_id, "succeeded", outputs
        )

    def note_moved(self, item: OpenItem, state: str) -> None:
        place = self.open_items.index(item)
        is_open = state in OPEN_ITEM_STATES
        self.open_items[place : place + 1] = [item._replace(state=state)] if is_open else []


_SIDECARS = (
    select(JsonList(JsonArray(sidecar.c.name, sidecar.c.sha256)))
    .join(location, location.c.id == sidecar.c.location_id)
    .where(location.c.asset_id == bindparam("asset"), location.c.is_current)
    .scalar_subquery()
)
_ITEMS = (
    select(
        JsonList(
            JsonArray(
                job.c.paused_at.is_not(None),
                job.c.cancelled_at.is_not(None),
                job_item.c.job_id,
                job_item.c.location_id,
                job_item.c.state,
                job.c.priority,
                job.c.submitted_at,
            )
        )
    )
    .select_from(job_item)
    .join(job, job.c.id == job_item.c.job_id)
    .where(job_item.c.asset_id == bindparam("asset"), is_one_of(job_item.c.state, OPEN_ITEM_STATES))
    .scalar_subquery()
)
_NEWEST_JOB = (
    select(func.max(job_item.c.job_id))
    .where(job_item.c.asset_id == bindparam("asset"))
    .scalar_subquery()
)
#: A row for each run; at least one, which is empty where there is no run.
_LOOK = (
    select(
        stage_run.c.id,
        stage_run.c.job_id,
        stage_run.c.stage,
        stage_run.c.fingerprint,
        stage_run.c.state,
        stage_run.c.outputs,
        stage_run.c.error_class,
        stage_run.c.finished_at,
        head.c.stage_run_id.label("head_id"),
        # The same in each row: as text, which is read once.
        cast(_SIDECARS, Text).label("sidecars"),
        cast(_ITEMS, Text).label("items"),
        _NEWEST_JOB.label("newest_job"),
    )
    .select_from(asset)
    .outerjoin(stage_run, and_(stage_run.c.asset_id == asset.c.id, stage_run.c.stage != INGEST))
    .outerjoin(head, and_(head.c.asset_id == asset.c.id, head.c.stage == stage_run.c.stage))
    .where(asset.c.id == bindparam("asset"))
)


def look_at(connection: Connection, facts: Any) -> Standing:
    """How a locked asset stands; ``facts`` are of :func:`pipeline.db.assets.lock_asset`."""
    rows = connection.execute(_LOOK, {"asset": facts.id}).all()
    first = rows[0]
    rows = [row for row in rows if row.id is not None]
    return Standing(
        asset_id=facts.id,
        lock_count=facts.lock_count,
        kind=facts.kind,
        has_audio=facts.has_audio,
        container=facts.container,
        duration_ms=facts.duration_ms,
        base_inputs={
            "media": facts.sha256,
            "sidecars": _distinct(json.loads(first.sidecars or "[]")),
        },
        runs={(row.stage, row.fingerprint): row for row in rows},
        heads={row.stage: row.head_id for row in rows if row.head_id is not None},
        open_items=sorted(
            (OpenItem.read(item) for item in json.loads(first.items or "[]")),
            key=lambda item: (item.is_paused, -item.job_id, item.location_id),
        ),
        newest_job=first.newest_job or 0,
    )


def _distinct(sidecars: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    """The (name, sha256) of subtitle files beside the asset, each content once."""
    # Sorted before and after: the same content under two names keeps the first of them.
    names = {sha256: name for name, sha256 in sorted(sidecars, reverse=True)}
    return [{"name": name, "sha256": sha256} for sha256, name in sorted(names.items())]


def _utc(text: str) -> datetime:
    """A timestamp as the databases write it into JSON: SQLite's has no time zone, and is UTC."""
    found = datetime.fromisoformat(text)
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
