"""Events as rows: written in the transaction they tell of, sent by a relay after its commit.

An event to the exchange is sent and marked in one transaction that holds its row. A webhook may
take long, so that no transaction waits for it: a relay takes it for a while, calls, and marks.
Either way an event is sent at least once, under the same id each time.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Any, Literal

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    bindparam,
    delete,
    func,
    insert,
    literal_column,
    or_,
    select,
    text,
    update,
)

from schemas.events import JobFinished
from schemas.operations import outbox
from schemas.tables import asset, job, job_item, location
from schemas.types import JsonObject, UtcNowText, is_one_of, utc_now

Channel = Literal["exchange", "webhook"]

END_STATES = ("done", "failed", "cancelled")
#: Longest text of an error in an event; the whole one is in ``v_stage_runs``.
MAX_ERROR_CHARACTERS = 2000
#: Per statement: the databases take so many parameters, and no more.
MAX_LOCATIONS = 10_000
# Any constant: one relay at a time publishes, so that events of a job keep their order.
_EXCHANGE_LOCK = 0x6D77_6F62
# A relay that was frozen while it published lets go of the lock and of its rows.
_PUBLISHING_TIMEOUT = "60s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An event to be sent. ``attempt``: which one this is, from 1."""

    id: int
    topic: str
    body: Mapping[str, Any]
    webhook: str | None
    attempt: int

    @property
    def payload(self) -> str:
        """The body as it is sent; the same text each time."""
        return json.dumps(self.body, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


_ITEM_FACTS = {
    "event": literal_column("'asset.finished'"),
    "version": literal_column("1"),
    "job_id": job.c.id,
    "job_key": job.c.job_key,
    "asset_id": job_item.c.asset_id,
    "uri": location.c.uri,
    "sha256": asset.c.sha256,
    "status": job_item.c.state,
    "error_class": job_item.c.error_class,
    "error_text": func.substr(job_item.c.error_text, 1, MAX_ERROR_CHARACTERS),
    "finished_at": UtcNowText(),
}
_ADD_ITEMS = insert(outbox).from_select(
    ["topic", "body"],
    select(
        literal_column("'asset.'") + job_item.c.state,
        JsonObject(
            *(
                part
                for name, value in _ITEM_FACTS.items()
                for part in (literal_column(f"'{name}'"), value)
            )
        ),
    )
    .select_from(job_item)
    .join(job, job.c.id == job_item.c.job_id)
    .join(location, location.c.id == job_item.c.location_id)
    .outerjoin(asset, asset.c.id == job_item.c.asset_id)
    .where(
        job_item.c.job_id == bindparam("job"),
        job_item.c.location_id.in_(bindparam("locations", expanding=True)),
        is_one_of(job_item.c.state, END_STATES),
        job.c.events == "assets",
    ),
)


def add_finished_items(connection: Connection, job_id: int, location_ids: Sequence[int]) -> None:
    """One event per closed item among these, where the job asks for events of assets."""
    for start in range(0, len(location_ids), MAX_LOCATIONS):
        locations = list(location_ids[start : start + MAX_LOCATIONS])
        connection.execute(_ADD_ITEMS, {"job": job_id, "locations": locations})


def add_finished_job(connection: Connection, job_id: int) -> None:
    """The event of a closed job: to the exchange where the job asks for events, and to its webhook
    where it names one."""
    row = connection.execute(
        select(job).where(job.c.id == job_id, job.c.state.in_(END_STATES))
    ).one_or_none()
    if row is None or (row.events == "none" and row.webhook is None):
        return
    by_state = (
        select(job_item.c.state, func.count().label("items"))
        .where(job_item.c.job_id == job_id)
        .group_by(job_item.c.state)
    )
    counts = {row.state: row.items for row in connection.execute(by_state)}
    body = JobFinished(
        job_id=job_id,
        job_key=row.job_key,
        name=row.name,
        state=row.state,
        assets_total=sum(counts.values()),
        assets_done=counts.get("done", 0),
        assets_failed=counts.get("failed", 0),
        assets_cancelled=counts.get("cancelled", 0),
        error_class=row.error_class,
        error_text=row.error_text and row.error_text[:MAX_ERROR_CHARACTERS],
        finished_at=row.finished_at.astimezone(UTC),
    ).model_dump(mode="json")
    targets = [None] if row.events != "none" else []
    targets += [row.webhook] if row.webhook is not None else []
    event = {"topic": f"job.{row.state}", "body": body}
    connection.execute(insert(outbox), [{**event, "webhook": webhook} for webhook in targets])


def any_due(connection: Connection, channel: Channel) -> bool:
    """Whether :func:`take_batch` would find something; takes no lock."""
    return (
        connection.execute(select(outbox.c.id).where(*_due(channel)).limit(1)).first() is not None
    )


def take_batch(
    connection: Connection, limit: int, channel: Channel, *, lease_seconds: float = 120
) -> list[Event]:
    """Events that are due, oldest first, for the caller alone.

    ``exchange``: theirs until the transaction ends, in which they are to be sent and marked; empty
    while another relay is at it. ``webhook``: theirs for ``lease_seconds``, the attempt counted,
    once the transaction is committed.
    """
    if channel == "exchange" and not _may_publish(connection):
        return []
    due = due_query(channel, limit).with_for_update(skip_locked=True)
    rows = connection.execute(due).all()
    if channel == "webhook":
        connection.execute(
            update(outbox)
            .where(outbox.c.id.in_([row.id for row in rows]))
            .values(attempt=outbox.c.attempt + 1, not_before=utc_now(lease_seconds))
        )
    return [
        Event(
            id=row.id,
            topic=row.topic,
            body=row.body,
            webhook=row.webhook,
            attempt=row.attempt + 1,
        )
        for row in rows
    ]


def due_query(channel: Channel, limit: int) -> Select[Any]:
    """What is due, oldest first."""
    return select(outbox).where(*_due(channel)).order_by(outbox.c.id).limit(limit)


def _may_publish(connection: Connection) -> bool:
    if connection.dialect.name != "postgresql":
        return True  # the write lock that this transaction holds is for one alone
    connection.execute(
        text(f"SET LOCAL idle_in_transaction_session_timeout = '{_PUBLISHING_TIMEOUT}'")
    )
    taken = select(func.pg_try_advisory_xact_lock(_EXCHANGE_LOCK))
    return bool(connection.execute(taken).scalar_one())


def _due(channel: Channel) -> tuple[ColumnElement[bool], ...]:
    return (
        *_UNSENT,
        outbox.c.webhook.is_(None) if channel == "exchange" else outbox.c.webhook.is_not(None),
        or_(outbox.c.not_before.is_(None), outbox.c.not_before <= utc_now()),
    )


# As in the index of what is to be sent.
_UNSENT = (outbox.c.sent_at.is_(None), outbox.c.failed_at.is_(None))


def mark_sent(connection: Connection, ids: Sequence[int]) -> None:
    """These have arrived, whoever believed otherwise meanwhile."""
    if ids:
        connection.execute(
            update(outbox)
            .where(outbox.c.id.in_(ids))
            .values(sent_at=utc_now(), failed_at=None, not_before=None, error_text=None)
        )


def mark_failed(
    connection: Connection, event: Event, error_text: str, *, retry_in: float | None
) -> None:
    """This attempt failed: try again in so many seconds, or give up (``None``).

    Without effect where another relay has taken the event since, or has sent it.
    """
    connection.execute(
        update(outbox)
        .where(outbox.c.id == event.id, outbox.c.attempt <= event.attempt, *_UNSENT)
        .values(
            attempt=event.attempt,
            error_text=error_text,
            not_before=None if retry_in is None else utc_now(retry_in),
            failed_at=utc_now() if retry_in is None else None,
        )
    )


def give_back(connection: Connection, event: Event) -> None:
    """A webhook that was taken and not called to the end: due at once, its attempt counts not."""
    connection.execute(
        update(outbox)
        .where(outbox.c.id == event.id, outbox.c.attempt == event.attempt, *_UNSENT)
        .values(attempt=event.attempt - 1, not_before=None)
    )


def forget_sent(connection: Connection, *, older_than_days: float, limit: int = 1000) -> int:
    """Delete up to ``limit`` events that were sent so long ago; gives how many it were."""
    old = (
        select(outbox.c.id).where(outbox.c.sent_at < utc_now(-86400 * older_than_days)).limit(limit)
    )
    return connection.execute(delete(outbox).where(outbox.c.id.in_(old))).rowcount


def unsent(connection: Connection, *, only_failed: bool, limit: int) -> list[Row[Any]]:
    """Rows that are not sent, oldest first: id, topic, webhook, created_at, attempt, not_before,
    failed_at, error_text."""
    query = (
        select(
            outbox.c.id,
            outbox.c.topic,
            outbox.c.webhook,
            outbox.c.created_at,
            outbox.c.attempt,
            outbox.c.not_before,
            outbox.c.failed_at,
            outbox.c.error_text,
        )
        .where(outbox.c.sent_at.is_(None))
        .order_by(outbox.c.id)
        .limit(limit)
    )
    if only_failed:
        query = query.where(outbox.c.failed_at.is_not(None))
    return list(connection.execute(query))


def send_again(connection: Connection, ids: Sequence[int] | None) -> int:
    """Make these unsent events due at once, with all their attempts; ``None``: all that were given
    up. Gives how many it were."""
    chosen = outbox.c.failed_at.is_not(None) if ids is None else outbox.c.id.in_(ids)
    return connection.execute(
        update(outbox)
        .where(outbox.c.sent_at.is_(None), chosen)
        .values(attempt=0, not_before=None, failed_at=None)
    ).rowcount
