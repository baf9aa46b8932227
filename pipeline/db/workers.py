"""Which processes are at work, as rows: what the dispatcher fills and the operator sees."""

from collections.abc import Mapping, Sequence

from sqlalchemy import ColumnElement, Connection, delete, select, update

from pipeline.db.results import insert_or_ignore
from schemas.operations import worker
from schemas.types import utc_now

#: A process that said nothing for so long is not counted on.
SILENT_SECONDS = 60.0
#: And after so long is forgotten.
FORGOTTEN_SECONDS = 24 * 3600.0


def announce(
    connection: Connection, owner: str, *, queues: Sequence[str], slots: int, version: str
) -> None:
    """The process is here; to be repeated every few seconds."""
    values = {"queues": ",".join(queues), "slots": slots, "version": version}
    known = connection.execute(
        update(worker).where(worker.c.owner == owner).values(seen_at=utc_now(), **values)
    )
    if not known.rowcount:
        connection.execute(insert_or_ignore(connection, worker).values(owner=owner, **values))


def leave(connection: Connection, owner: str) -> None:
    connection.execute(delete(worker).where(worker.c.owner == owner))


def forget_silent(connection: Connection) -> None:
    connection.execute(delete(worker).where(worker.c.seen_at < utc_now(-FORGOTTEN_SECONDS)))


def _lives() -> ColumnElement[bool]:
    return worker.c.seen_at > utc_now(-SILENT_SECONDS)


def living(connection: Connection) -> list[str]:
    """Owners that said something not long ago."""
    return list(connection.execute(select(worker.c.owner).where(_lives())).scalars())


def slots_by_queue(connection: Connection) -> Mapping[str, int]:
    """How many stage runs of each queue can be worked on at once by the processes that live."""
    query = select(worker.c.queues, worker.c.slots).where(_lives())
    slots: dict[str, int] = {}
    for queues, number in connection.execute(query):
        for queue in filter(None, queues.split(",")):
            slots[queue] = slots.get(queue, 0) + number
    return slots
