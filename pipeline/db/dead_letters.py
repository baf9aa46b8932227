"""Messages that could not be taken, with the reason: kept until a person decides."""

from typing import Any

from sqlalchemy import Connection, delete, insert, select

from schemas.operations import dead_letter

#: Ends the text of a message that was too long to be kept whole.
CUT_MARK = "… (cut)"


def record(
    connection: Connection, *, origin: str, reason: str, body: bytes, max_bytes: int | None = None
) -> int:
    """Keep a message; gives the id of its row.

    ``origin`` is ``queue``, ``http`` or ``event``. Of a body beyond ``max_bytes`` the beginning is
    kept; bytes that are no UTF-8 text are escaped.
    """
    kept = body if max_bytes is None else body[:max_bytes]
    statement = insert(dead_letter).values(
        origin=origin,
        reason=_storable(reason),
        body=_as_text(kept) + (CUT_MARK if len(kept) < len(body) else ""),
    )
    return int(connection.execute(statement.returning(dead_letter.c.id)).scalar_one())


def newest(connection: Connection, limit: int) -> list[dict[str, Any]]:
    """Rows without their bodies, the newest first."""
    columns = (dead_letter.c[name] for name in ("id", "received_at", "origin", "reason"))
    query = select(*columns).order_by(dead_letter.c.id.desc()).limit(limit)
    return [dict(row) for row in connection.execute(query).mappings()]


def get(connection: Connection, letter_id: int) -> dict[str, Any] | None:
    """One row with its body; ``None`` where there is none."""
    query = select(dead_letter).where(dead_letter.c.id == letter_id)
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else dict(row)


def remove(connection: Connection, letter_id: int) -> bool:
    """Forget a message; gives whether there was one."""
    done = connection.execute(delete(dead_letter).where(dead_letter.c.id == letter_id))
    return bool(done.rowcount)


def _as_text(body: bytes) -> str:
    return _storable(body.decode("utf-8", "backslashreplace"))


def _storable(text: str) -> str:
    # PostgreSQL's text holds neither NUL nor half of a surrogate pair.
    whole = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return whole.replace("\0", "\\x00")
