"""Schedules and their fires, as rows. All functions run in the caller's transaction.

A schedule is due when ``next_fire_at`` has come. A fire is written before its job exists, and
settled afterwards together with the schedule's next time; in between it is *open*. So the time that
is fired for is decided once, and a schedule with an open fire stays due.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, delete, func, select, update

from pipeline.db.results import insert_or_ignore
from pipeline.errors import ConfigurationError
from schemas.operations import schedule, schedule_fire
from schemas.types import utc_now


def now(connection: Connection) -> datetime:
    """The database's clock."""
    return connection.execute(select(utc_now())).scalar_one()


def due(connection: Connection) -> list[int]:
    """Ids of the schedules whose time has come, the one that waits longest first."""
    query = select(schedule.c.id).where(_is_due()).order_by(schedule.c.next_fire_at)
    return list(connection.execute(query).scalars())


def lock_due(connection: Connection, schedule_id: int) -> Row[Any] | None:
    """The schedule and the database's ``now``, locked; ``None`` where it is not due any more, or
    another scheduler is at it at this moment."""
    query = (
        select(schedule, utc_now().label("now"))
        .where(schedule.c.id == schedule_id, _is_due())
        .with_for_update(key_share=True, skip_locked=True)
    )
    return connection.execute(query).one_or_none()


def _is_due() -> Any:
    return schedule.c.enabled & (schedule.c.next_fire_at <= utc_now())


def open_fire(connection: Connection, row: Row[Any]) -> datetime | None:
    """The time that was decided on for a due schedule, and not settled yet."""
    query = select(schedule_fire.c.fire_at).where(
        schedule_fire.c.schedule_id == row.id,
        schedule_fire.c.fire_at >= row.next_fire_at,
        *_IS_OPEN,
    )
    return connection.execute(query).scalars().first()


_IS_OPEN = (schedule_fire.c.job_id.is_(None), schedule_fire.c.error_text.is_(None))


def add_fire(connection: Connection, schedule_id: int, fire_at: datetime) -> None:
    """Decide on a time to fire for."""
    connection.execute(
        insert_or_ignore(connection, schedule_fire).values(schedule_id=schedule_id, fire_at=fire_at)
    )


def settle(
    connection: Connection,
    schedule_id: int,
    fire_at: datetime,
    *,
    next_fire_at: datetime,
    job_id: int | None = None,
    error_text: str | None = None,
) -> None:
    """Write what came of a fire, and go on to the next time, unless the schedule was removed
    meanwhile. Once settled a fire stays as it is."""
    lock = select(schedule.c.id).where(schedule.c.id == schedule_id)
    if connection.execute(lock.with_for_update(key_share=True)).first() is None:
        return
    add_fire(connection, schedule_id, fire_at)
    connection.execute(
        update(schedule_fire)
        .where(
            schedule_fire.c.schedule_id == schedule_id,
            schedule_fire.c.fire_at == fire_at,
            *_IS_OPEN,
        )
        .values(job_id=job_id, error_text=error_text, fired_at=utc_now())
    )
    # Not if another scheduler, or a person, has moved it on meanwhile.
    connection.execute(
        update(schedule)
        .where(schedule.c.id == schedule_id, schedule.c.next_fire_at <= fire_at)
        .values(next_fire_at=next_fire_at)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSchedule:
    """A schedule to be. ``message``: a job message as JSON."""

    name: str
    cron: str
    time_zone: str
    message: Mapping[str, Any]


def add(connection: Connection, new: NewSchedule, next_fire_at: datetime) -> None:
    """Raises ConfigurationError where the name is taken."""
    added = connection.execute(
        insert_or_ignore(connection, schedule)
        .values(
            name=new.name,
            cron=new.cron,
            time_zone=new.time_zone,
            message=dict(new.message),
            enabled=True,
            next_fire_at=next_fire_at,
        )
        .returning(schedule.c.id)
    ).scalar_one_or_none()
    if added is None:
        raise ConfigurationError(
            f"there is a schedule {new.name!r} already; remove it first, or take another name"
        )


def put(connection: Connection, new: NewSchedule, next_fire_at: datetime) -> None:
    """Add a schedule, or bring it to what is given. A time that it waits for, or has missed, stands
    unless it is fired by another cron expression or time zone now, or was disabled."""
    values = {
        "cron": new.cron,
        "time_zone": new.time_zone,
        "message": dict(new.message),
        "enabled": True,
    }
    connection.execute(
        insert_or_ignore(connection, schedule).values(
            name=new.name, next_fire_at=next_fire_at, **values
        )
    )
    row = lock_named(connection, new.name)
    if not row.enabled or (row.cron, row.time_zone) != (new.cron, new.time_zone):
        _forget_open_fire(connection, row.id)
        values["next_fire_at"] = next_fire_at
    connection.execute(update(schedule).where(schedule.c.id == row.id).values(**values))


def lock_named(connection: Connection, name: str) -> Row[Any]:
    """Raises ConfigurationError where there is no such schedule."""
    row = connection.execute(
        select(schedule).where(schedule.c.name == name).with_for_update(key_share=True)
    ).one_or_none()
    if row is None:
        raise ConfigurationError(
            f"there is no schedule {name!r}; `mediaweave schedule list` shows them"
        )
    return row


def enable(connection: Connection, schedule_id: int, next_fire_at: datetime) -> None:
    _forget_open_fire(connection, schedule_id)
    connection.execute(
        update(schedule)
        .where(schedule.c.id == schedule_id)
        .values(enabled=True, next_fire_at=next_fire_at)
    )


def disable(connection: Connection, schedule_id: int) -> None:
    _forget_open_fire(connection, schedule_id)
    connection.execute(
        update(schedule)
        .where(schedule.c.id == schedule_id)
        .values(enabled=False, next_fire_at=None)
    )


def _forget_open_fire(connection: Connection, schedule_id: int) -> None:
    connection.execute(
        delete(schedule_fire).where(schedule_fire.c.schedule_id == schedule_id, *_IS_OPEN)
    )


def remove(connection: Connection, schedule_id: int) -> None:
    """The schedule with the list of its fires; its jobs stay."""
    connection.execute(delete(schedule).where(schedule.c.id == schedule_id))


def enabled_with_prefix(connection: Connection, prefix: str) -> list[Row[Any]]:
    """Enabled schedules whose name begins so: id and name, in the order of names."""
    query = (
        select(schedule.c.id, schedule.c.name)
        .where(schedule.c.enabled, schedule.c.name.startswith(prefix, autoescape=True))
        .order_by(schedule.c.name)
    )
    return list(connection.execute(query))


def record_run(connection: Connection, schedule_id: int, job_id: int) -> None:
    """A run that a person asked for, among the fires of the schedule."""
    connection.execute(
        insert_or_ignore(connection, schedule_fire).values(
            schedule_id=schedule_id, fire_at=utc_now(), job_id=job_id
        )
    )


def _table() -> Select[Any]:
    """Schedules, each with its last fire."""
    newest = schedule_fire.alias()
    last = (
        select(func.max(newest.c.fire_at))
        .where(newest.c.schedule_id == schedule.c.id)
        .scalar_subquery()
    )
    joined = schedule.outerjoin(
        schedule_fire,
        (schedule_fire.c.schedule_id == schedule.c.id) & (schedule_fire.c.fire_at == last),
    )
    return select(
        schedule.c.name,
        schedule.c.cron,
        schedule.c.time_zone,
        schedule.c.enabled,
        schedule.c.next_fire_at,
        schedule_fire.c.fire_at.label("last_fire_at"),
        schedule_fire.c.job_id.label("last_job_id"),
        schedule_fire.c.error_text.label("last_error"),
        schedule.c.message,
    ).select_from(joined)


def table(connection: Connection) -> list[dict[str, Any]]:
    """All schedules by name: name, cron, time_zone, enabled, next_fire_at, last_fire_at,
    last_job_id, last_error, message."""
    query = _table().order_by(schedule.c.name)
    return [dict(row) for row in connection.execute(query).mappings()]


def details(connection: Connection, name: str, *, fires: int) -> dict[str, Any]:
    """One row of :func:`table`, and ``fires``: the newest ones with fire_at, fired_at, job_id and
    error_text. Raises ConfigurationError where there is no such schedule."""
    found = connection.execute(_table().where(schedule.c.name == name)).mappings().one_or_none()
    if found is None:
        raise ConfigurationError(
            f"there is no schedule {name!r}; `mediaweave schedule list` shows them"
        )
    return {**found, "fires": _newest_fires(connection, name, fires)}


def _newest_fires(connection: Connection, name: str, count: int) -> Sequence[dict[str, Any]]:
    query = (
        select(
            schedule_fire.c.fire_at,
            schedule_fire.c.fired_at,
            schedule_fire.c.job_id,
            schedule_fire.c.error_text,
        )
        .join(schedule, schedule.c.id == schedule_fire.c.schedule_id)
        .where(schedule.c.name == name)
        .order_by(schedule_fire.c.fire_at.desc())
        .limit(count)
    )
    return [dict(row) for row in connection.execute(query).mappings()]
