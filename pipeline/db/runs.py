"""Stage runs as rows: claim, lease, fence.

A run is ``queued`` until a worker claims it with a conditional update that counts the attempt and
gives it a token. Every later write holds only while that token stands, so a worker that was
presumed dead cannot write after its successor.
"""

import os
import socket
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    exists,
    func,
    or_,
    select,
    update,
)

from pipeline.errors import AttemptLostError
from schemas.tables import artifact, location, model, stage_run, stage_run_input, stage_run_model
from schemas.types import utc_now


class LeaseLostError(AttemptLostError):
    """The run was given to another worker: nothing may be written for it any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedRun:
    """A stage run in our hands. ``models``: role → (name, revision)."""

    stage_run_id: int
    token: str
    stage: str
    asset_id: int | None
    location_id: int | None
    job_id: int | None
    attempt: int
    code_version: int
    params: Mapping[str, Any]
    inputs: Mapping[str, Any]
    models: Mapping[str, tuple[str, str]]
    input_runs: Mapping[str, int]


def process_owner() -> str:
    """Names this process in ``lease_owner``: :func:`process_space`, then the process id."""
    return f"{process_space()}/{os.getpid()}"


def process_space() -> str:
    """Where process ids mean the same as here: the host, and on Linux the pid namespace."""
    try:
        namespace = Path("/proc/self/ns/pid").readlink().name
    except OSError:
        namespace = ""
    return f"{socket.gethostname()}{namespace}"


def claim(
    connection: Connection, stage_run_id: int, *, owner: str, lease_seconds: float
) -> ClaimedRun | None:
    """Take a queued run that is due; ``None`` where there is nothing to take (a duplicate
    delivery, a cancelled run, one that waits for its pause to end)."""
    token = str(uuid.uuid4())
    taken = connection.execute(
        update(stage_run)
        .where(
            stage_run.c.id == stage_run_id,
            stage_run.c.state == "queued",
            or_(stage_run.c.not_before.is_(None), stage_run.c.not_before <= utc_now()),
        )
        .values(
            state="running",
            attempt=stage_run.c.attempt + 1,
            lease_token=token,
            lease_owner=owner,
            lease_expires_at=utc_now(lease_seconds),
            started_at=utc_now(),
            finished_at=None,
        )
        .returning(stage_run)
    ).one_or_none()
    if taken is None:
        return None
    input_query = (
        select(stage_run.c.stage, stage_run.c.id)
        .join(stage_run_input, stage_run_input.c.input_run_id == stage_run.c.id)
        .where(stage_run_input.c.stage_run_id == stage_run_id)
    )
    model_query = (
        select(stage_run_model.c.role, model.c.name, model.c.revision)
        .join(model, model.c.id == stage_run_model.c.model_id)
        .where(stage_run_model.c.stage_run_id == stage_run_id)
    )
    return ClaimedRun(
        stage_run_id=taken.id,
        token=token,
        stage=taken.stage,
        asset_id=taken.asset_id,
        location_id=taken.location_id,
        job_id=taken.job_id,
        attempt=taken.attempt,
        code_version=taken.code_version,
        params=taken.params,
        inputs=taken.inputs,
        models={row.role: (row.name, row.revision) for row in connection.execute(model_query)},
        input_runs={row.stage: row.id for row in connection.execute(input_query)},
    )


def renew(connection: Connection, tokens: Sequence[str], *, lease_seconds: float) -> None:
    """Push out the leases of those of ``tokens`` that still stand.

    A run that somebody else is writing at this moment is passed over: its turn comes again.
    """
    held = (stage_run.c.lease_token.in_(tokens), stage_run.c.state == "running")
    connection.execute(
        update(stage_run)
        .where(stage_run.c.id.in_(_unlocked(*held)))
        .values(lease_expires_at=utc_now(lease_seconds))
    )


def _unlocked(*conditions: ColumnElement[bool]) -> Select[tuple[int]]:
    """Ids of runs, locked, leaving out those that others have locked: many rows are never waited
    for while some are held."""
    return select(stage_run.c.id).where(*conditions).with_for_update(skip_locked=True)


def hold(connection: Connection, run: ClaimedRun) -> None:
    """Lock the run's row until the transaction ends: an intake that finds the run at work then
    waits for its outcome. Raises LeaseLostError where the fence has fallen."""
    query = (
        select(stage_run.c.id)
        .where(stage_run.c.id == run.stage_run_id, stage_run.c.lease_token == run.token)
        .with_for_update(key_share=True)
    )
    if connection.execute(query).first() is None:
        raise LeaseLostError(f"stage run {run.stage_run_id} was given to another worker")


def succeed(
    connection: Connection,
    run: ClaimedRun,
    *,
    asset_id: int,
    outputs: Mapping[str, str],
    seconds: float,
    device_seconds: float,
    cpu_seconds: Mapping[str, float],
    notes: Sequence[str],
) -> None:
    """Close the run as succeeded. Raises LeaseLostError where the fence has fallen."""
    _close(
        connection,
        run,
        state="succeeded",
        asset_id=asset_id,
        outputs=dict(outputs),
        seconds=seconds,
        device_seconds=device_seconds,
        cpu_seconds=dict(cpu_seconds),
        notes=list(notes),
        error_class=None,
        error_text=None,
        not_before=None,
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
) -> None:
    """Queue the run again, not before a pause. Raises LeaseLostError where the fence has fallen."""
    _close(
        connection,
        run,
        state="queued",
        error_class=error_class,
        error_text=error_text,
        not_before=utc_now(pause_seconds),
        published_at=None,
    )


def give_back(connection: Connection, token: str) -> None:
    """Queue a run that we hold and will not finish (we are stopping); its attempt counts not."""
    connection.execute(
        update(stage_run)
        .where(stage_run.c.lease_token == token, stage_run.c.state == "running")
        .values(
            state="queued",
            attempt=stage_run.c.attempt - 1,
            lease_token=None,
            lease_owner=None,
            lease_expires_at=None,
            published_at=None,
        )
    )


def _close(connection: Connection, run: ClaimedRun, **values: Any) -> None:
    closed = connection.execute(
        update(stage_run)
        .where(stage_run.c.id == run.stage_run_id, stage_run.c.lease_token == run.token)
        .values(
            lease_token=None,
            lease_owner=None,
            lease_expires_at=None,
            finished_at=utc_now(),
            **values,
        )
    )
    if closed.rowcount != 1:
        raise LeaseLostError(f"stage run {run.stage_run_id} was given to another worker")


def _lost(dead_owners: Sequence[str]) -> ColumnElement[bool]:
    return and_(
        stage_run.c.state == "running",
        or_(stage_run.c.lease_expires_at < utc_now(), stage_run.c.lease_owner.in_(dead_owners)),
    )


def any_lost(connection: Connection, dead_owners: Sequence[str]) -> bool:
    """Whether :func:`recover_expired` would find something; takes no lock."""
    query = select(stage_run.c.id).where(_lost(dead_owners)).limit(1)
    return connection.execute(query).first() is not None


def recover_expired(
    connection: Connection, *, max_attempts: int, dead_owners: Sequence[str] = ()
) -> list[int]:
    """Queue runs whose worker stopped renewing its lease; one that is out of attempts fails.

    ``dead_owners`` are known to be gone: their leases need not run out. Gives the id of the run
    that failed for good, if any: the caller closes what waits for it in the same transaction, and
    calls again until none is left.
    """
    lost = _lost(dead_owners)
    released = {
        "lease_token": None,
        "lease_owner": None,
        "lease_expires_at": None,
        "published_at": None,
        "error_class": AttemptLostError.__name__,
    }
    failed = connection.execute(
        update(stage_run)
        .where(stage_run.c.id.in_(_unlocked(lost, stage_run.c.attempt >= max_attempts).limit(1)))
        .values(
            state="failed",
            finished_at=utc_now(),
            error_text="the worker died or stalled in every attempt at this stage",
            **released,
        )
        .returning(stage_run.c.id)
    )
    failed_ids = list(failed.scalars())
    connection.execute(
        update(stage_run)
        .where(stage_run.c.id.in_(_unlocked(lost, stage_run.c.attempt < max_attempts)))
        .values(
            state="queued",
            error_text="the worker died or stalled; trying again",
            **released,
        )
    )
    return failed_ids


def running_owners(connection: Connection) -> set[str]:
    query = select(stage_run.c.lease_owner).where(stage_run.c.state == "running").distinct()
    return {owner for owner in connection.execute(query).scalars() if owner}


def _due(queue: str, republish_seconds: float) -> ColumnElement[bool]:
    return and_(
        stage_run.c.queue == queue,
        stage_run.c.state == "queued",
        or_(
            stage_run.c.published_at.is_(None),
            stage_run.c.published_at < utc_now(-republish_seconds),
        ),
        or_(stage_run.c.not_before.is_(None), stage_run.c.not_before <= utc_now()),
    )


def queues_with_due(
    connection: Connection, queues: Sequence[str], republish_seconds: float
) -> list[str]:
    """Those of ``queues`` in which :func:`take_due` would find something; takes no lock."""
    looks = [exists().where(_due(queue, republish_seconds)) for queue in queues]
    found = connection.execute(select(*looks)).one()
    return [queue for queue, is_due in zip(queues, found, strict=True) if is_due]


def take_due(
    connection: Connection, queue: str, *, depth: int, republish_seconds: float
) -> list[int]:
    """Ids of due runs to publish now, most urgent first, so that about ``depth`` are in the broker.

    They are marked as published; one that nobody claims in ``republish_seconds`` is due again.
    """
    in_broker = connection.execute(
        select(func.count())
        .select_from(stage_run)
        .where(
            stage_run.c.queue == queue,
            stage_run.c.state == "queued",
            stage_run.c.published_at >= utc_now(-republish_seconds),
        )
    ).scalar_one()
    room = depth - in_broker
    if room <= 0:
        return []
    due = (
        select(stage_run.c.id)
        .where(_due(queue, republish_seconds))
        .order_by(stage_run.c.dispatch_rank, stage_run.c.id)
        .limit(room)
        .with_for_update(skip_locked=True)
    )
    ids = list(connection.execute(due).scalars())
    if ids:
        connection.execute(
            update(stage_run).where(stage_run.c.id.in_(ids)).values(published_at=utc_now())
        )
    return ids


def unpublish(connection: Connection, ids: Sequence[int]) -> None:
    """The broker did not take these: they are due at once."""
    connection.execute(update(stage_run).where(stage_run.c.id.in_(ids)).values(published_at=None))


def forget_published(connection: Connection) -> None:
    """The broker starts empty: whatever was published to an earlier one is due at once."""
    connection.execute(
        update(stage_run)
        .where(stage_run.c.state == "queued", stage_run.c.published_at.is_not(None))
        .values(published_at=None)
    )


def artifacts_of(connection: Connection, stage_run_ids: Sequence[int]) -> dict[str, str]:
    """Named artifacts of these runs: name → sha256."""
    query = select(artifact.c.name, artifact.c.sha256).where(
        artifact.c.stage_run_id.in_(stage_run_ids)
    )
    return {row.name: row.sha256 for row in connection.execute(query)}


def locations_of(connection: Connection, asset_id: int) -> list[Any]:
    """Where the asset was seen, the places that still hold it first."""
    query = (
        select(location)
        .where(location.c.asset_id == asset_id)
        .order_by(location.c.is_current.desc(), location.c.id)
    )
    return list(connection.execute(query))
