"""How a claimed run ends: succeeded, failed, postponed or cancelled; each behind the fence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, bindparam, update

from pipeline.db.assets import LOCK, lock_asset
from pipeline.db.runs import ClaimedRun, LeaseLostError, job_is_held, unless_cancelled
from schemas.tables import stage_run, stage_run_model
from schemas.types import utc_now


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run that succeeded came to. ``outputs``: digests by name."""

    asset_id: int | None
    outputs: Mapping[str, str]
    seconds: float
    device_seconds: float = 0.0
    cpu_seconds: Mapping[str, float] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def values(self, run: ClaimedRun) -> dict[str, Any]:
        return {
            "run": run.stage_run_id,
            "token": run.token,
            "asset": self.asset_id,
            "asset_id": self.asset_id,
            "outputs": dict(self.outputs),
            "seconds": self.seconds,
            "device_seconds": self.device_seconds,
            "cpu_seconds": dict(self.cpu_seconds),
            "notes": list(self.notes),
        }


def succeed(connection: Connection, run: ClaimedRun, outcome: Outcome) -> bool:
    """Close the run as succeeded; gives whether its job is held by now.

    Raises LeaseLostError where the fence has fallen.
    """
    closed = connection.execute(_SUCCEED, outcome.values(run)).all()
    _fence(run, len(closed))
    return bool(closed[0].is_held)


def lock_asset_and_succeed(
    connection: Connection, run: ClaimedRun, outcome: Outcome
) -> tuple[Any, bool]:
    """:func:`lock_asset`, then :func:`succeed`: locks are taken in one order everywhere. Gives what
    both give."""
    if connection.dialect.name != "postgresql":
        facts = lock_asset(connection, outcome.asset_id or 0)
        return facts, succeed(connection, run, outcome)
    closed = connection.execute(_LOCK_AND_SUCCEED, outcome.values(run)).all()
    _fence(run, len(closed))
    return closed[0], closed[0].is_held


_RELEASED = {
    "lease_token": None,
    "lease_owner": None,
    "lease_expires_at": None,
    "finished_at": utc_now(),
}
_MADE = ("asset_id", "outputs", "seconds", "device_seconds", "cpu_seconds", "notes")
_SUCCEED = (
    update(stage_run)
    .where(stage_run.c.id == bindparam("run"), stage_run.c.lease_token == bindparam("token"))
    .values(
        state="succeeded",
        error_class=None,
        error_text=None,
        not_before=None,
        **_RELEASED,
        **{name: bindparam(name) for name in _MADE},
    )
    .returning(job_is_held().label("is_held"))
)
_LOCKED = LOCK.cte("locked")
#: In every transaction that finishes a run on PostgreSQL: one statement instead of two.
_LOCK_AND_SUCCEED = _SUCCEED.where(stage_run.c.asset_id == _LOCKED.c.id).returning(*_LOCKED.c)


def note_use(
    connection: Connection, run: ClaimedRun, uses: Mapping[str, tuple[int, float]]
) -> None:
    """What a run that succeeded had of its models: role → items and device seconds."""
    if uses:
        connection.execute(
            _NOTE_USE,
            [
                {"run": run.stage_run_id, "of": role, "count": items, "seconds": seconds}
                for role, (items, seconds) in sorted(uses.items())
            ],
        )


_NOTE_USE = (
    update(stage_run_model)
    .where(
        stage_run_model.c.stage_run_id == bindparam("run"),
        stage_run_model.c.role == bindparam("of"),
    )
    .values(items=bindparam("count"), device_seconds=bindparam("seconds"))
)


def fail(
    connection: Connection, run: ClaimedRun, *, error_class: str, error_text: str, seconds: float
) -> None:
    """Close the run as failed. Raises LeaseLostError where the fence has fallen."""
    _close(
        connection,
        run,
        state="failed",
        error_class=error_class,
        error_text=error_text,
        seconds=seconds,
    )


def postpone(
    connection: Connection,
    run: ClaimedRun,
    *,
    error_class: str,
    error_text: str,
    pause_seconds: float,
    counted: bool = True,
) -> None:
    """Let the run wait for its next attempt. ``counted``: this one was one.

    Raises LeaseLostError where the fence has fallen.
    """
    _close(
        connection,
        run,
        state=unless_cancelled("waiting" if pause_seconds else "queued"),
        attempt=stage_run.c.attempt if counted else stage_run.c.attempt - 1,
        error_class=error_class,
        error_text=error_text,
        not_before=utc_now(pause_seconds) if pause_seconds else None,
        published_at=None,
    )


def cancel(connection: Connection, run: ClaimedRun, *, reason: str) -> None:
    """Close the run as cancelled: another one takes its place. Raises LeaseLostError."""
    _close(connection, run, state="cancelled", error_class=None, error_text=reason)


def _close(connection: Connection, run: ClaimedRun, **values: Any) -> None:
    closed = connection.execute(
        update(stage_run)
        .where(stage_run.c.id == run.stage_run_id, stage_run.c.lease_token == run.token)
        .values(**_RELEASED, **values)
    )
    _fence(run, closed.rowcount)


def _fence(run: ClaimedRun, closed: int) -> None:
    if closed != 1:
        raise LeaseLostError(f"stage run {run.stage_run_id} was given to another worker")
