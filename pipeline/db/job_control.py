"""Pausing, cancelling and retrying jobs, as rows.

A stage run belongs to the newest job that needs it (``stage_run.job_id``). A job that is held hands
the runs that others wait for too over to them, so that it never holds up anybody else.
"""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, and_, delete, func, or_, select, true, update

from pipeline.db import jobs, outbox
from pipeline.db.assets import lock_asset, lock_assets
from pipeline.db.runs import locked, unlocked
from pipeline.errors import (
    ConfigurationError,
    ContractError,
    InvalidMediaError,
    PipelineError,
    names_of,
)
from schemas.tables import EXPAND, INGEST, job, job_item, stage_run
from schemas.types import utc_now

OPEN_JOB_STATES = ("expanding", "running")


def lock_job(connection: Connection, job_id: int) -> str:
    """The job's state, fixed until the transaction ends.

    Raises:
        ConfigurationError: there is no such job.
    """
    query = select(job.c.state).where(job.c.id == job_id).with_for_update(key_share=True)
    state = connection.execute(query).scalar_one_or_none()
    if state is None:
        raise ConfigurationError(f"there is no job {job_id}; `mediaweave jobs list` lists them")
    return str(state)


def pause(connection: Connection, job_id: int, *, error: PipelineError | None = None) -> bool:
    """Start nothing more of a job; gives whether it was open and not paused. ``error``: why."""
    paused = connection.execute(
        update(job)
        .where(
            job.c.id == job_id,
            job.c.state.in_(OPEN_JOB_STATES),
            job.c.paused_at.is_(None),
            job.c.cancelled_at.is_(None),
        )
        .values(
            paused_at=utc_now(),
            error_class=None if error is None else type(error).__name__,
            error_text=None if error is None else str(error),
        )
    )
    _unpublish(connection, job_id)
    return bool(paused.rowcount)


def resume(connection: Connection, job_id: int) -> bool:
    """Go on with a paused job; gives whether it was paused."""
    resumed = connection.execute(
        update(job)
        .where(job.c.id == job_id, job.c.paused_at.is_not(None))
        .values(paused_at=None, error_class=None, error_text=None)
    )
    # Messages that came while it was paused were of no effect.
    _unpublish(connection, job_id)
    return bool(resumed.rowcount)


def _unpublish(connection: Connection, job_id: int) -> None:
    published = unlocked(
        stage_run.c.job_id == job_id,
        stage_run.c.state == "queued",
        stage_run.c.published_at.is_not(None),
    )
    connection.execute(
        update(stage_run).where(stage_run.c.id.in_(published)).values(published_at=None)
    )


def hand_over(
    connection: Connection,
    job_id: int,
    *,
    among: ColumnElement[bool] | None = None,
    also_to_paused: bool = False,
) -> int:
    """Give unfinished runs that other jobs wait for too to the newest of them; gives how many.

    ``among``: only these runs. ``also_to_paused``: to a paused one where there is no other, since
    ours will not come back.
    """
    handed = 0
    for waits_for, is_stage in (
        (job_item.c.asset_id == stage_run.c.asset_id, stage_run.c.stage.not_in((EXPAND, INGEST))),
        (job_item.c.ingest_run_id == stage_run.c.id, stage_run.c.stage == INGEST),
    ):
        others = (
            select(job_item.c.job_id)
            .select_from(job_item.join(job, job.c.id == job_item.c.job_id))
            .where(
                waits_for,
                job_item.c.state.in_(jobs.OPEN_ITEM_STATES),
                job_item.c.job_id != job_id,
                job.c.paused_at.is_(None) if not also_to_paused else true(),
                job.c.cancelled_at.is_(None),
            )
            .order_by(job.c.paused_at.is_not(None), job_item.c.job_id.desc())
            .correlate(stage_run)
        )
        updated = connection.execute(
            update(stage_run)
            .where(
                stage_run.c.id.in_(
                    # Who cancels afterwards waits for those that others have locked, too.
                    (locked if also_to_paused else unlocked)(
                        stage_run.c.job_id == job_id,
                        stage_run.c.state.in_(jobs.UNFINISHED_RUN_STATES),
                        is_stage,
                        among if among is not None else true(),
                        others.order_by(None).exists(),
                    )
                )
            )
            .values(job_id=others.limit(1).scalar_subquery(), published_at=None)
        )
        handed += updated.rowcount
    return handed


def paused(connection: Connection) -> list[int]:
    """Open jobs that are paused."""
    query = select(job.c.id).where(job.c.state.in_(OPEN_JOB_STATES), job.c.paused_at.is_not(None))
    return list(connection.execute(query).scalars())


def begin_cancelling(connection: Connection, job_id: int) -> bool:
    """Start nothing more of a job, for good; gives whether it was still open.

    Its items are closed by :func:`cancel_batch`.
    """
    is_open = select(job.c.id).where(job.c.id == job_id, job.c.state.in_(OPEN_JOB_STATES))
    # Before the job's row, as whoever ends the listing does.
    _cancel_runs(
        connection,
        stage_run.c.job_id == job_id,
        stage_run.c.stage == EXPAND,
        is_open.exists(),
    )
    if lock_job(connection, job_id) not in OPEN_JOB_STATES:
        return False
    connection.execute(
        update(job)
        .where(job.c.id == job_id)
        .values(state="running", cancelled_at=func.coalesce(job.c.cancelled_at, utc_now()))
    )
    return True


def cancelling(connection: Connection) -> list[int]:
    """Jobs whose cancelling has begun and not ended."""
    query = select(job.c.id).where(
        job.c.state.in_(OPEN_JOB_STATES), job.c.cancelled_at.is_not(None)
    )
    return list(connection.execute(query).scalars())


def cancel_batch(connection: Connection, job_id: int, *, after: int, limit: int) -> list[int]:
    """Close up to ``limit`` items behind the location ``after`` and the runs that nobody else waits
    for; gives the items' locations.

    What runs at this moment is left to end. When fewer than ``limit`` are left the job is
    ``cancelled``; unless somebody has opened items again, which takes another round from 0.
    """
    query = (
        select(job_item.c.location_id, job_item.c.asset_id, job_item.c.ingest_run_id)
        .where(
            job_item.c.job_id == job_id,
            job_item.c.location_id > after,
            job_item.c.state.in_(jobs.OPEN_ITEM_STATES),
        )
        .order_by(job_item.c.location_id)
        .limit(limit)
    )
    items = list(connection.execute(query))
    # Locks in the one order: ingests, assets, other runs, jobs. An ingest that ends meanwhile binds
    # its asset to the item, hence the second look.
    ingests = sorted(row.ingest_run_id for row in items if row.asset_id is None)
    _lock_runs(connection, ingests)
    items = list(connection.execute(query))
    assets = sorted({row.asset_id for row in items if row.asset_id is not None})
    lock_assets(connection, assets)
    closed = [row.location_id for row in items]
    if items:
        theirs = or_(
            and_(stage_run.c.asset_id.in_(assets), stage_run.c.stage != INGEST),
            stage_run.c.id.in_([row.ingest_run_id for row in items if row.asset_id is None]),
        )
        hand_over(connection, job_id, among=theirs, also_to_paused=True)
        _cancel_runs(connection, stage_run.c.job_id == job_id, theirs, only_waiting=True)
        connection.execute(
            update(job_item)
            .where(
                job_item.c.job_id == job_id,
                job_item.c.location_id.in_(closed),
                job_item.c.state.in_(jobs.OPEN_ITEM_STATES),
            )
            .values(state="cancelled")
        )
        outbox.add_finished_items(connection, job_id, closed)
    if len(items) == limit:
        return closed
    # And what was once queued for it, and no open item of it waits for.
    hand_over(connection, job_id, also_to_paused=True)
    _cancel_runs(connection, stage_run.c.job_id == job_id, only_waiting=True)
    if lock_job(connection, job_id) in OPEN_JOB_STATES and not _has_open_items(connection, job_id):
        connection.execute(
            update(job).where(job.c.id == job_id).values(state="cancelled", finished_at=utc_now())
        )
        outbox.add_finished_job(connection, job_id)
    return closed


def _has_open_items(connection: Connection, job_id: int) -> bool:
    """Somebody may have retried what had failed."""
    query = select(job_item.c.job_id).where(
        job_item.c.job_id == job_id, job_item.c.state.in_(jobs.OPEN_ITEM_STATES)
    )
    return connection.execute(query.limit(1)).first() is not None


def _lock_runs(connection: Connection, ids: Sequence[int]) -> None:
    if ids:
        connection.execute(locked(stage_run.c.id.in_(ids)))


def _cancel_runs(
    connection: Connection, *conditions: ColumnElement[bool], only_waiting: bool = False
) -> None:
    states = jobs.UNFINISHED_RUN_STATES[:2] if only_waiting else jobs.UNFINISHED_RUN_STATES
    connection.execute(
        update(stage_run)
        .where(*conditions, stage_run.c.state.in_(states))
        .values(
            state="cancelled",
            finished_at=utc_now(),
            not_before=None,
            published_at=None,
            lease_token=None,
            lease_owner=None,
            lease_expires_at=None,
        )
    )


def failed_runs(
    connection: Connection,
    *,
    job_id: int | None,
    error_class: str | None,
    stage: str | None,
    after: int,
    limit: int,
) -> list[int]:
    """Ids, in order and behind ``after``, of failed runs that items wait in vain for.

    Without ``error_class``: all but those of bad media, which stays bad.
    """
    matches = (
        stage_run.c.error_class == error_class
        if error_class is not None
        else stage_run.c.error_class.not_in(names_of(InvalidMediaError))
    )
    query = (
        select(stage_run.c.id)
        .where(
            stage_run.c.state == "failed",
            stage_run.c.id > after,
            matches,
            stage_run.c.stage == stage if stage is not None else true(),
            or_(
                stage_run.c.stage == EXPAND,
                select(job_item.c.job_id)
                .where(
                    job_item.c.state == "failed",
                    job_item.c.job_id == job_id if job_id is not None else true(),
                    or_(
                        job_item.c.ingest_run_id == stage_run.c.id,
                        and_(
                            stage_run.c.stage != INGEST,
                            job_item.c.asset_id == stage_run.c.asset_id,
                        ),
                    ),
                )
                .exists(),
            ),
        )
        .order_by(stage_run.c.id)
        .limit(limit)
    )
    if job_id is not None:
        query = query.where(or_(stage_run.c.stage != EXPAND, stage_run.c.job_id == job_id))
    return list(connection.execute(query).scalars())


def retry_run(connection: Connection, run_id: int, *, job_id: int | None) -> bool:
    """Queue a failed run anew and open the items, of one job or of all, that failed with its asset
    or ingest; gives whether it was still failed."""
    run = connection.execute(select(stage_run).where(stage_run.c.id == run_id)).one()
    if run.stage == EXPAND:
        return _retry_listing(connection, run.job_id, run_id)
    if run.stage == INGEST:
        _lock_runs(connection, [run_id])
        items = and_(job_item.c.ingest_run_id == run_id, job_item.c.asset_id.is_(None))
    elif run.asset_id is not None:
        lock_asset(connection, run.asset_id)
        items = job_item.c.asset_id == run.asset_id
    else:
        raise ContractError(f"stage run {run_id} of {run.stage} has no asset")
    opened = connection.execute(
        update(job_item)
        .where(
            items,
            job_item.c.state == "failed",
            job_item.c.job_id == job_id if job_id is not None else true(),
        )
        .values(
            state="running" if run.stage != INGEST else "pending",
            failed_run_id=None,
            error_class=None,
            error_text=None,
        )
        .returning(job_item.c.job_id)
    )
    owners = sorted(set(opened.scalars()))
    if not owners:
        # Another failed run of the same asset has opened them already.
        waiting = select(job_item.c.job_id).where(
            items, job_item.c.state.in_(jobs.OPEN_ITEM_STATES)
        )
        owners = sorted(set(connection.execute(waiting).scalars()))
    if not owners:
        return False
    priority = connection.execute(select(job.c.priority).where(job.c.id == owners[-1])).scalar_one()
    jobs.adopt_run(connection, run_id, job_id=owners[-1], priority=priority)
    for owner in owners:
        # Those that are open, too: whoever closes the last other item now has to see ours.
        lock_job(connection, owner)
    connection.execute(
        update(job)
        .where(job.c.id.in_(owners), job.c.state.not_in(OPEN_JOB_STATES))
        .values(state="running", finished_at=None, cancelled_at=None)
    )
    return True


def _retry_listing(connection: Connection, job_id: int, run_id: int) -> bool:
    if lock_job(connection, job_id) != "failed":
        return False
    priority = connection.execute(select(job.c.priority).where(job.c.id == job_id)).scalar_one()
    jobs.adopt_run(connection, run_id, job_id=job_id, priority=priority)
    # The listing finds them again, and how far their ingests have come since.
    connection.execute(
        delete(job_item).where(job_item.c.job_id == job_id, job_item.c.state == "cancelled")
    )
    connection.execute(
        update(job)
        .where(job.c.id == job_id)
        .values(state="expanding", finished_at=None, error_class=None, error_text=None)
    )
    return True
