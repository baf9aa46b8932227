"""How items end, and with the last of them their job."""

from sqlalchemy import Connection, bindparam, exists, func, or_, select, union_all, update

from pipeline.db import outbox
from pipeline.db.jobs import OPEN_ITEM_STATES, UNFINISHED_RUN_STATES
from schemas.tables import EXPAND, job, job_item, stage_run
from schemas.types import Id, is_one_of, utc_now

_SET_ITEM_STATE = (
    update(job_item)
    .where(
        job_item.c.job_id == bindparam("job"),
        job_item.c.location_id == bindparam("location"),
        is_one_of(job_item.c.state, OPEN_ITEM_STATES),
        or_(job_item.c.asset_id == bindparam("asset"), bindparam("asset", type_=Id).is_(None)),
    )
    .values(
        state=bindparam("new_state"),
        failed_run_id=bindparam("failed_run"),
        **{
            name: select(stage_run.c[name])
            .where(stage_run.c.id == bindparam("failed_run"))
            .scalar_subquery()
            for name in ("error_class", "error_text")
        },
    )
)


def set_item_state(
    connection: Connection,
    job_id: int,
    location_id: int,
    state: str,
    *,
    asset_id: int | None = None,
    failed_run_id: int | None = None,
) -> None:
    """Move an open item on; with ``asset_id`` only while it waits for that asset: other bytes may
    have been found at its place. Whoever closes one calls :func:`close_if_complete` afterwards."""
    moved = connection.execute(
        _SET_ITEM_STATE,
        {
            "job": job_id,
            "location": location_id,
            "asset": asset_id,
            "new_state": state,
            "failed_run": failed_run_id,
        },
    )
    if moved.rowcount and state not in OPEN_ITEM_STATES:
        outbox.add_finished_items(connection, job_id, [location_id])


#: Where so many items of a job are open, none of those that are being closed is the last one.
MANY_OPEN = 64
# A look into the index for each state: of an OR the planner may think that a scan finds some soon.
_MANY_OPEN = select(func.count()).select_from(
    union_all(
        *(
            select(
                select(job_item.c.job_id)
                .where(job_item.c.job_id == bindparam("job"), job_item.c.state == state)
                .limit(MANY_OPEN)
                .subquery()
            )
            for state in OPEN_ITEM_STATES
        )
    ).subquery()
)
_LOCK_JOB = (
    select(job.c.state, job.c.cancelled_at)
    .where(job.c.id == bindparam("job"))
    .with_for_update(key_share=True)
)


def close_if_complete(connection: Connection, job_id: int) -> None:
    """Close a job whose listing is complete and whose items are all closed; not one that is being
    cancelled, which whoever cancels it closes.

    Far from its end the job is not touched: whoever locks it waits for the commits of all others.
    If more than :data:`MANY_OPEN` close the last ones at one moment, :func:`complete_but_open`
    finds the job.
    """
    if connection.execute(_MANY_OPEN, {"job": job_id}).scalar_one() >= MANY_OPEN:
        return
    # The lock serialises two workers that close a job's last two items at once.
    found = connection.execute(_LOCK_JOB, {"job": job_id}).one()
    if found.state != "running" or found.cancelled_at is not None:
        return
    if connection.execute(_MANY_OPEN, {"job": job_id}).scalar_one():
        return
    failed = connection.execute(
        select(job_item.c.job_id)
        .where(job_item.c.job_id == job_id, job_item.c.state == "failed")
        .limit(1)
    ).first()
    connection.execute(
        update(job)
        .where(job.c.id == job_id)
        .values(
            state="failed" if failed else "done",
            finished_at=utc_now(),
            # It may have been paused, and why, while its last items were at work.
            paused_at=None,
            error_class=None,
            error_text=None,
        )
    )
    outbox.add_finished_job(connection, job_id)


def complete_but_open(connection: Connection) -> list[int]:
    """Jobs without open items that :func:`close_if_complete` was not called for at the end."""
    still_open = (
        exists().where(job_item.c.job_id == job.c.id, job_item.c.state == state)
        for state in OPEN_ITEM_STATES
    )
    query = select(job.c.id).where(
        job.c.state == "running", job.c.cancelled_at.is_(None), *(~each for each in still_open)
    )
    return list(connection.execute(query).scalars())


def listing_complete(connection: Connection, job_id: int, files_skipped: int) -> None:
    connection.execute(
        update(job)
        .where(job.c.id == job_id, job.c.state == "expanding")
        .values(state="running", files_skipped=files_skipped)
    )
    close_if_complete(connection, job_id)


def abandon(
    connection: Connection,
    job_id: int,
    state: str,
    *,
    error_class: str | None = None,
    error_text: str | None = None,
) -> None:
    """Close a job whose listing was not completed; what it queued is worked off all the same."""
    is_expanding = select(job.c.id).where(job.c.id == job_id, job.c.state == "expanding").exists()
    # Runs, items, job: the order of everybody.
    connection.execute(
        update(stage_run)
        .where(
            stage_run.c.job_id == job_id,
            stage_run.c.stage == EXPAND,
            stage_run.c.state.in_(UNFINISHED_RUN_STATES),
        )
        .values(
            state="cancelled",
            lease_token=None,
            lease_owner=None,
            lease_expires_at=None,
            finished_at=utc_now(),
        )
    )
    items = connection.execute(
        update(job_item)
        .where(job_item.c.job_id == job_id, job_item.c.state.in_(OPEN_ITEM_STATES), is_expanding)
        .values(state="cancelled")
        .returning(job_item.c.location_id)
    )
    outbox.add_finished_items(connection, job_id, list(items.scalars()))
    closed = connection.execute(
        update(job)
        .where(job.c.id == job_id, job.c.state == "expanding")
        .values(state=state, finished_at=utc_now(), error_class=error_class, error_text=error_text)
    )
    if closed.rowcount:
        outbox.add_finished_job(connection, job_id)
