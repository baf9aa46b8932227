"""Stage runs as rows: claim, lease, fence.

A run is ``queued`` until a worker claims it with a conditional update that counts the attempt and
gives it a token. Every later write holds only while that token stands, so a worker that was
presumed dead cannot write after its successor. What is due, and what was lost on the way, is
:mod:`pipeline.db.dispatching`.
"""

import os
import socket
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Boolean,
    Case,
    ColumnElement,
    Connection,
    Float,
    Integer,
    Select,
    and_,
    bindparam,
    case,
    exists,
    false,
    func,
    not_,
    or_,
    select,
    update,
)

from pipeline.db.jobs import OPEN_ITEM_STATES
from pipeline.errors import AttemptLostError, ResourceExhaustedError, names_of
from schemas.tables import (
    INGEST,
    job,
    job_item,
    model,
    stage_run,
    stage_run_input,
    stage_run_model,
)
from schemas.types import JsonArray, JsonMap, is_one_of, utc_now


class LeaseLostError(AttemptLostError):
    """The run was given to another worker: nothing may be written for it any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRun:
    """A stage run. ``models``: role → (name, revision). ``input_runs``: stage → id of the run."""

    stage_run_id: int
    stage: str
    asset_id: int | None
    params: Mapping[str, Any]
    inputs: Mapping[str, Any]
    models: Mapping[str, tuple[str, str]]
    input_runs: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedRun(StageRun):
    """A stage run in our hands."""

    token: str
    fingerprint: str
    location_id: int | None
    job_id: int | None
    attempt: int
    code_version: int
    #: It must be the only run of its process: it ran out of resources, or its processes died.
    alone: bool


def process_owner() -> str:
    """Names this process in ``lease_owner``: :func:`process_space`, then the process id."""
    return f"{process_space()}/{os.getpid()}"


def is_gone(owner: str) -> bool:
    """Whether the owner was a process of this host, as it is booted now, and lives no more."""
    space, _, pid = owner.rpartition("/")
    if space != process_space():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False


@cache
def process_space() -> str:
    """Where process ids mean the same as here: the host as it was booted, and the namespace."""
    try:
        namespace = Path("/proc/self/ns/pid").readlink().name
        # Machines made of one image may have one name.
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        namespace = boot = ""
    return f"{socket.gethostname()}{namespace}:{boot}"


def _needs_solitude() -> ColumnElement[bool]:
    """What ran out of memory runs alone from then on; what lost its worker, in its last attempt.

    So a run that kills its process each time is alone in the end, and its neighbours, who lost
    attempts to it, succeed in theirs.
    """
    exhausted = is_one_of(
        stage_run.c.error_class, names_of(ResourceExhaustedError) - names_of(AttemptLostError)
    )
    suspect = and_(
        is_one_of(stage_run.c.error_class, names_of(AttemptLostError)),
        stage_run.c.attempt >= bindparam("max_attempts", type_=Integer) - 1,
    )
    return and_(stage_run.c.attempt > 0, func.coalesce(or_(exhausted, suspect), false()))


def job_is_held() -> ColumnElement[bool]:
    """Whether the run's job is paused or being cancelled."""
    return exists().where(
        job.c.id == stage_run.c.job_id,
        or_(job.c.paused_at.is_not(None), job.c.cancelled_at.is_not(None)),
    )


_IS_QUEUED = and_(stage_run.c.id == bindparam("run"), stage_run.c.state == "queued")
_SOLITUDE = select(stage_run.c.id).where(_IS_QUEUED, _needs_solitude())


def needs_solitude(connection: Connection, stage_run_id: int, *, max_attempts: int) -> bool:
    """Whether the run is queued and can be claimed only with ``alone``."""
    values = {"run": stage_run_id, "max_attempts": max_attempts}
    return connection.execute(_SOLITUDE, values).first() is not None


_MODELS = (
    select(JsonMap(stage_run_model.c.role, JsonArray(model.c.name, model.c.revision)))
    .join(model, model.c.id == stage_run_model.c.model_id)
    .where(stage_run_model.c.stage_run_id == bindparam("run"))
    .scalar_subquery()
)
_INPUT_RUN = stage_run.alias("input_run")
_INPUT_RUNS = (
    select(JsonMap(_INPUT_RUN.c.stage, _INPUT_RUN.c.id))
    .join(stage_run_input, stage_run_input.c.input_run_id == _INPUT_RUN.c.id)
    .where(stage_run_input.c.stage_run_id == bindparam("run"))
    .scalar_subquery()
)
_CLAIM = (
    update(stage_run)
    .where(
        _IS_QUEUED,
        ~job_is_held(),
        or_(bindparam("alone", type_=Boolean), not_(_needs_solitude())),
    )
    .values(
        state="running",
        attempt=stage_run.c.attempt + 1,
        lease_token=bindparam("token"),
        lease_owner=bindparam("owner"),
        lease_expires_at=utc_now(bindparam("lease_seconds", type_=Float)),
        published_at=None,
        republished=0,
        started_at=utc_now(),
        finished_at=None,
    )
    .returning(
        stage_run.c.id,
        stage_run.c.stage,
        stage_run.c.fingerprint,
        stage_run.c.asset_id,
        stage_run.c.location_id,
        stage_run.c.job_id,
        stage_run.c.attempt,
        stage_run.c.code_version,
        stage_run.c.params,
        stage_run.c.inputs,
        _MODELS.label("models"),
        _INPUT_RUNS.label("input_runs"),
    )
)


def read_run(connection: Connection, stage_run_id: int) -> StageRun:
    """A run that exists."""
    found = connection.execute(_READ, {"run": stage_run_id}).one()
    return StageRun(
        stage_run_id=found.id,
        stage=found.stage,
        asset_id=found.asset_id,
        params=found.params,
        inputs=found.inputs,
        models=_by_role(found.models),
        input_runs=found.input_runs or {},
    )


_READ = select(
    stage_run.c.id,
    stage_run.c.stage,
    stage_run.c.asset_id,
    stage_run.c.params,
    stage_run.c.inputs,
    _MODELS.label("models"),
    _INPUT_RUNS.label("input_runs"),
).where(stage_run.c.id == bindparam("run"))


def _by_role(models: Mapping[str, Sequence[str]] | None) -> dict[str, tuple[str, str]]:
    return {role: (name, revision) for role, (name, revision) in (models or {}).items()}


def claim(
    connection: Connection,
    stage_run_id: int,
    *,
    owner: str,
    lease_seconds: float,
    max_attempts: int,
    alone: bool = False,
) -> ClaimedRun | None:
    """Take a queued run; ``None`` where there is nothing to take (a duplicate delivery, a cancelled
    run, a paused job), or where it :func:`needs_solitude` and the caller is not ``alone``.

    One statement, to be called in :meth:`~pipeline.db.engine.Database.light`.
    """
    token = str(uuid.uuid4())
    taken = connection.execute(
        _CLAIM,
        {
            "run": stage_run_id,
            "token": token,
            "owner": owner,
            "lease_seconds": lease_seconds,
            "max_attempts": max_attempts,
            "alone": alone,
        },
    ).one_or_none()
    if taken is None:
        return None
    return ClaimedRun(
        stage_run_id=taken.id,
        token=token,
        stage=taken.stage,
        fingerprint=taken.fingerprint,
        asset_id=taken.asset_id,
        location_id=taken.location_id,
        job_id=taken.job_id,
        attempt=taken.attempt,
        code_version=taken.code_version,
        params=taken.params,
        inputs=taken.inputs,
        models=_by_role(taken.models),
        input_runs=taken.input_runs or {},
        alone=alone,
    )


def renew(connection: Connection, tokens: Sequence[str], *, lease_seconds: float) -> None:
    """Push out the leases of those of ``tokens`` that still stand.

    A run that somebody else is writing at this moment is passed over: its turn comes again.
    """
    held = (stage_run.c.lease_token.in_(tokens), stage_run.c.state == "running")
    connection.execute(
        update(stage_run)
        .where(stage_run.c.id.in_(unlocked(*held)))
        .values(lease_expires_at=utc_now(lease_seconds))
    )


def locked(*conditions: ColumnElement[bool]) -> Select[tuple[int]]:
    """Ids of runs, locked one after the other; for those that others have locked it waits."""
    query = select(stage_run.c.id).where(*conditions).order_by(stage_run.c.id)
    return query.with_for_update(key_share=True)


def unlocked(*conditions: ColumnElement[bool]) -> Select[tuple[int]]:
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


def give_back(connection: Connection, token: str) -> None:
    """Queue a run that we hold and will not finish (we are stopping); its attempt counts not."""
    connection.execute(
        update(stage_run)
        .where(stage_run.c.lease_token == token, stage_run.c.state == "running")
        .values(
            state=unless_cancelled("queued"),
            attempt=stage_run.c.attempt - 1,
            lease_token=None,
            lease_owner=None,
            lease_expires_at=None,
            published_at=None,
        )
    )


def expire(connection: Connection, tokens: Sequence[str]) -> None:
    """Let the leases run out now: these attempts are lost, and counted as such."""
    connection.execute(
        update(stage_run)
        .where(stage_run.c.lease_token.in_(tokens), stage_run.c.state == "running")
        .values(lease_expires_at=utc_now(-1))
    )


def unless_cancelled(state: str) -> Case[str]:
    """A run that goes back into its queue ends there if nobody wants it any more."""
    others_wait = exists().where(
        or_(
            and_(job_item.c.asset_id == stage_run.c.asset_id, stage_run.c.stage != INGEST),
            job_item.c.ingest_run_id == stage_run.c.id,
        ),
        job_item.c.job_id != stage_run.c.job_id,
        is_one_of(job_item.c.state, OPEN_ITEM_STATES),
    )
    is_cancelled = exists().where(
        job.c.id == stage_run.c.job_id,
        job.c.cancelled_at.is_not(None),
        # Before it is cancelled to the end, its runs are handed over to others.
        not_(and_(job.c.state != "cancelled", others_wait)),
    )
    return case((is_cancelled, "cancelled"), else_=state)
