"""What the broker is given next, and what is brought back when it or a worker loses something.

A run moves ``waiting`` → ``queued`` → published (``published_at`` is set) → ``running``. Any number
of dispatchers may do this at once: each takes its rows with conditional updates.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Integer,
    Row,
    Select,
    and_,
    bindparam,
    false,
    func,
    or_,
    select,
    tuple_,
    update,
)

from pipeline.db.runs import job_is_held, unless_cancelled, unlocked
from pipeline.errors import AttemptLostError
from schemas.tables import job, stage_run
from schemas.types import utc_now

#: Rows moved per statement: enough to be quick, few enough not to block others long.
BATCH = 1000
#: Lanes looked at per round; a dispatcher's next round goes on with those after them.
MAX_LANES = 64


def _due(queue: ColumnElement[str] | str) -> ColumnElement[bool]:
    """The condition of ``ix_stage_run_due``: whatever it holds may be published at once."""
    return and_(
        stage_run.c.queue == queue,
        stage_run.c.state == "queued",
        stage_run.c.published_at.is_(None),
    )


_WAKING = and_(stage_run.c.state == "waiting", stage_run.c.not_before <= utc_now())


@cache
def _look(queues: tuple[str, ...]) -> Any:
    # Ordered as the index is: of an EXISTS PostgreSQL may think that a scan finds one soon.
    looks: list[Any] = [
        select(stage_run.c.id)
        .where(_due(queue))
        .order_by(stage_run.c.dispatch_rank, stage_run.c.job_id, stage_run.c.id)
        .limit(1)
        .scalar_subquery()
        .is_not(None)
        for queue in queues
    ]
    first_waiting = (
        select(stage_run.c.not_before)
        .where(stage_run.c.state == "waiting")
        .order_by(stage_run.c.not_before)
        .limit(1)
        .scalar_subquery()
    )
    return select(func.coalesce(first_waiting <= utc_now(), false()), *looks)


def look(connection: Connection, queues: Sequence[str]) -> tuple[list[str], bool]:
    """Those of ``queues`` in which something is due, held back or not, and whether runs' pauses
    are over; takes no lock."""
    is_waking, *found = connection.execute(_look(tuple(queues))).one()
    return [queue for queue, is_due in zip(queues, found, strict=True) if is_due], is_waking


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """The due runs of one job in one queue and rank."""

    rank: int
    job_id: int


@cache
def _lane_query(*, is_first: bool, within_rank: bool) -> Select[Any]:
    query = (
        select(
            stage_run.c.dispatch_rank,
            stage_run.c.job_id,
            and_(job.c.paused_at.is_(None), job.c.cancelled_at.is_(None)).label("is_free"),
        )
        .join(job, job.c.id == stage_run.c.job_id)
        .where(_due(bindparam("in_queue")))
        .order_by(stage_run.c.dispatch_rank, stage_run.c.job_id)
        .limit(1)
    )
    if within_rank:
        # Two equal columns and a range: the databases then look into the index once.
        return query.where(
            stage_run.c.dispatch_rank == bindparam("rank"),
            stage_run.c.job_id > bindparam("job"),
        )
    if is_first:
        return query
    return query.where(
        tuple_(stage_run.c.dispatch_rank, stage_run.c.job_id)
        > tuple_(bindparam("rank", type_=Integer), bindparam("job", type_=BigInteger))
    )


def next_lane(
    connection: Connection, queue: str, after: Lane | None, *, within_rank: bool = False
) -> Lane | None:
    """The first lane behind ``after`` (the most urgent of all where it is ``None``), or behind it
    in the same rank; lanes of jobs that are held are passed over.

    Each step is one look into the index, however many runs wait in the lanes.
    """
    while True:
        values: dict[str, Any] = {"in_queue": queue}
        if after is not None:
            values |= {"rank": after.rank, "job": after.job_id}
        query = _lane_query(is_first=after is None, within_rank=within_rank)
        found = connection.execute(query, values).one_or_none()
        if found is None:
            return None
        lane = Lane(rank=found.dispatch_rank, job_id=found.job_id)
        if found.is_free:
            return lane
        after = lane


_IN_BROKER = (
    select(stage_run.c.dispatch_rank, func.count())
    .where(
        stage_run.c.queue == bindparam("in_queue"),
        stage_run.c.state == "queued",
        stage_run.c.published_at.is_not(None),
        # Messages of held jobs are thrown away by whoever gets them.
        ~job_is_held(),
    )
    .group_by(stage_run.c.dispatch_rank)
)


def in_broker(connection: Connection, queue: str) -> dict[int, int]:
    """How many runs of a queue are published and not claimed, by rank."""
    return {row[0]: row[1] for row in connection.execute(_IN_BROKER, {"in_queue": queue})}


def take_due(
    connection: Connection, queue: str, *, depth: int, after: Lane | None = None
) -> tuple[list[int], Lane | None]:
    """Ids of due runs to publish now, so that about ``depth`` of their rank or a more urgent one
    are in the broker; they are marked as published, by statements that need no transaction.

    Strict by priority: a lane is served only when no more urgent one has anything left. Fair
    between jobs: the lanes of one rank share the room, beginning behind the lane ``after`` that was
    served last. Gives the ids and the lane to begin behind next time.
    """
    published = in_broker(connection, queue)
    taken: list[int] = []
    best = next_lane(connection, queue, None)
    while best is not None:
        room = depth - len(taken)
        room -= sum(count for rank, count in published.items() if rank <= best.rank)
        if room <= 0:
            break
        lanes = _lanes(connection, queue, best, after, limit=min(room, MAX_LANES))
        while lanes and room > 0:
            share = -(-room // len(lanes))
            unfinished = []
            for lane in lanes:
                limit = min(share, room)
                if limit <= 0:
                    break
                ids = _take_lane(connection, queue, lane, limit)
                taken += ids
                room -= len(ids)
                if ids:
                    after = lane
                if len(ids) == limit:
                    unfinished.append(lane)
            lanes = unfinished
        if room > 0:
            best = next_lane(connection, queue, Lane(rank=best.rank, job_id=MAX_ID))
    return taken, after


#: Above every id.
MAX_ID = 2**63 - 1


def _lanes(
    connection: Connection, queue: str, best: Lane, after: Lane | None, *, limit: int
) -> list[Lane]:
    """Lanes of the best rank in turn, the one behind ``after`` first."""
    lanes: list[Lane] = []
    begin = after if after is not None and after.rank == best.rank else None
    lane = next_lane(connection, queue, begin, within_rank=True) if begin else best
    while lane is not None and len(lanes) < limit:
        lanes.append(lane)
        lane = next_lane(connection, queue, lane, within_rank=True)
    if begin is None or len(lanes) >= limit:
        return lanes
    # Round again from the first.
    lane = best
    while lane is not None and lane.job_id <= begin.job_id and len(lanes) < limit:
        lanes.append(lane)
        lane = next_lane(connection, queue, lane, within_rank=True)
    return lanes


_TAKE_LANE = (
    update(stage_run)
    .where(
        stage_run.c.id.in_(
            select(stage_run.c.id)
            .where(
                _due(bindparam("in_queue")),
                stage_run.c.dispatch_rank == bindparam("rank"),
                stage_run.c.job_id == bindparam("job"),
            )
            # All of the index's columns, lest a planner takes the order of the primary key.
            .order_by(
                stage_run.c.queue, stage_run.c.dispatch_rank, stage_run.c.job_id, stage_run.c.id
            )
            .limit(bindparam("limit"))
            .with_for_update(skip_locked=True)
        )
    )
    .values(published_at=utc_now())
    .returning(stage_run.c.id)
)


def _take_lane(connection: Connection, queue: str, lane: Lane, limit: int) -> list[int]:
    values = {"in_queue": queue, "rank": lane.rank, "job": lane.job_id, "limit": limit}
    return sorted(connection.execute(_TAKE_LANE, values).scalars())


def unpublish(connection: Connection, ids: Sequence[int]) -> None:
    """The broker did not take these, or nobody did anything with them: they are due at once."""
    connection.execute(
        update(stage_run)
        .where(stage_run.c.id.in_(ids), stage_run.c.state == "queued")
        .values(published_at=None)
    )


def forget_published(connection: Connection) -> None:
    """The broker starts empty: whatever was published to an earlier one is due at once."""
    connection.execute(
        update(stage_run)
        .where(stage_run.c.state == "queued", stage_run.c.published_at.is_not(None))
        .values(published_at=None)
    )


def wake_waiting(connection: Connection) -> int:
    """Queue the runs whose pause is over; gives how many."""
    over = unlocked(_WAKING)
    woken = connection.execute(
        update(stage_run)
        .where(stage_run.c.id.in_(over.limit(BATCH)))
        .values(state="queued", not_before=None, published_at=None)
    )
    return woken.rowcount


def republish(
    connection: Connection, *, seconds: float, empty_queues: Sequence[str], empty_seconds: float
) -> int:
    """Make runs due again that were published and never claimed; gives how many.

    After ``seconds``, each further time twice as long: a message that merely waits its turn is not
    doubled every minute. In ``empty_queues``, of which the broker says that they hold nothing,
    after ``empty_seconds``.
    """
    # At most eight doublings: a day, at five minutes to begin with.
    age = [
        and_(
            stage_run.c.republished == times,
            stage_run.c.published_at < utc_now(-seconds * 2**times),
        )
        for times in range(8)
    ]
    age.append(
        and_(stage_run.c.republished >= 8, stage_run.c.published_at < utc_now(-seconds * 2**8))
    )
    age.append(
        and_(
            stage_run.c.queue.in_(empty_queues),
            stage_run.c.published_at < utc_now(-empty_seconds),
        )
    )
    lost = unlocked(stage_run.c.state == "queued", stage_run.c.published_at.is_not(None), or_(*age))
    found = connection.execute(
        update(stage_run)
        .where(stage_run.c.id.in_(lost.limit(BATCH)))
        .values(published_at=None, republished=stage_run.c.republished + 1)
    )
    return found.rowcount


def queues_published(connection: Connection, older_than_seconds: float) -> list[str]:
    """Queues with runs that were published some time ago and are not claimed."""
    query = (
        select(stage_run.c.queue)
        .where(
            stage_run.c.state == "queued",
            stage_run.c.published_at < utc_now(-older_than_seconds),
            ~job_is_held(),
        )
        .distinct()
    )
    return sorted(connection.execute(query).scalars())


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """Which leases count as lost. ``dead_owners`` are known to be gone; ``with_expired``: those
    that ran out, too."""

    dead_owners: Sequence[str] = ()
    with_expired: bool = True

    def condition(self) -> ColumnElement[bool]:
        expired = stage_run.c.lease_expires_at < utc_now() if self.with_expired else false()
        return and_(
            stage_run.c.state == "running",
            or_(expired, stage_run.c.lease_owner.in_(self.dead_owners)),
        )


_RELEASED: dict[str, Any] = {
    "lease_token": None,
    "lease_owner": None,
    "lease_expires_at": None,
    "published_at": None,
    "error_class": AttemptLostError.__name__,
}


def lost_for_good(connection: Connection, lost: Lost, *, max_attempts: int) -> list[Row[Any]]:
    """Lost runs that are out of attempts: id, stage, asset_id. Takes no lock."""
    query = select(stage_run.c.id, stage_run.c.stage, stage_run.c.asset_id).where(
        lost.condition(), stage_run.c.attempt >= max_attempts
    )
    return list(connection.execute(query.order_by(stage_run.c.id).limit(BATCH)))


def fail_lost(connection: Connection, stage_run_id: int, lost: Lost, *, max_attempts: int) -> bool:
    """Fail a run that is lost for good; gives whether it still was. The caller has locked its
    asset, and closes what waits for it in the same transaction."""
    failed = connection.execute(
        update(stage_run)
        .where(
            stage_run.c.id == stage_run_id, lost.condition(), stage_run.c.attempt >= max_attempts
        )
        .values(
            state="failed",
            finished_at=utc_now(),
            error_text="the worker died or stalled in every attempt at this stage",
            **_RELEASED,
        )
    )
    return bool(failed.rowcount)


def requeue_lost(connection: Connection, lost: Lost, *, max_attempts: int) -> int:
    """Queue lost runs that have attempts left; gives how many."""
    queued = connection.execute(
        update(stage_run)
        .where(
            stage_run.c.id.in_(
                unlocked(lost.condition(), stage_run.c.attempt < max_attempts).limit(BATCH)
            )
        )
        .values(
            state=unless_cancelled("queued"),
            error_text="the worker died or stalled; trying again",
            **_RELEASED,
        )
    )
    return queued.rowcount


def running_owners(connection: Connection) -> set[str]:
    query = select(stage_run.c.lease_owner).where(stage_run.c.state == "running").distinct()
    return {owner for owner in connection.execute(query).scalars() if owner}
