"""Writes what advancing an asset leads to: runs that are queued, heads that point elsewhere.

A worker that makes a run due may take it at once, in the same transaction: short stages of an asset
then follow each other without a message, a round of a dispatcher and a claim for each.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Float,
    Integer,
    Text,
    and_,
    bindparam,
    case,
    cast,
    column,
    func,
    insert,
    select,
    true,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from pipeline.db.runs import ClaimedRun
from schemas.tables import head, stage_run, stage_run_input, stage_run_model
from schemas.types import utc_now


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRun:
    """A run that is not there yet. ``input_runs``: stage → id of the runs it reads; ``models``:
    role → (name, revision), ``model_ids``: role → id; ``model_id``: the one that is credited with
    the rows. ``is_held``: its job is paused or being cancelled."""

    job_id: int
    stage: str
    queue: str
    fingerprint: str
    code_version: int
    params: Mapping[str, Any]
    inputs: Mapping[str, Any]
    model_id: int | None
    dispatch_rank: int
    input_runs: Mapping[str, int]
    models: Mapping[str, tuple[str, str]]
    model_ids: Mapping[str, int]
    is_held: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Taker:
    """Who takes a run of these queues, as :func:`pipeline.db.runs.claim` would."""

    queues: frozenset[str]
    #: But not of these stages.
    except_stages: frozenset[str]
    owner: str
    lease_seconds: float

    def wants(self, run: PlannedRun) -> bool:
        return run.queue in self.queues and run.stage not in self.except_stages and not run.is_held


def write_planned(
    connection: Connection,
    asset_id: int,
    runs: Sequence[PlannedRun],
    heads: Mapping[str, int],
    taker: Taker | None = None,
) -> ClaimedRun | None:
    """Queue ``runs`` and point the heads of stages at runs; gives the run that ``taker`` has now.

    The caller has locked the asset.
    """
    if not runs and not heads:
        return None
    taken = next((run for run in runs if taker is not None and taker.wants(run)), None)
    token = str(uuid.uuid4())
    rows = [
        {
            **{name: getattr(run, name) for name in _PLANNED},
            "state": "running" if run is taken else "queued",
            "attempt": 1 if run is taken else 0,
            "lease_token": token if run is taken else None,
            "lease_owner": taker.owner if taker and run is taken else None,
            "lease_seconds": taker.lease_seconds if taker and run is taken else None,
            "upstream": list(run.input_runs.values()),
            "model_ids": dict(run.model_ids),
        }
        for run in runs
    ]
    is_postgresql = connection.dialect.name == "postgresql"
    ids = (_write_at_once if is_postgresql else _write_each)(connection, asset_id, rows, heads)
    if taken is None:
        return None
    return ClaimedRun(
        stage_run_id=ids[taken.stage, taken.fingerprint],
        token=token,
        stage=taken.stage,
        fingerprint=taken.fingerprint,
        asset_id=asset_id,
        location_id=None,
        job_id=taken.job_id,
        attempt=1,
        code_version=taken.code_version,
        params=taken.params,
        inputs=taken.inputs,
        models=taken.models,
        input_runs=taken.input_runs,
        alone=False,
    )


def _write_at_once(
    connection: Connection, asset_id: int, rows: Sequence[Any], heads: Mapping[str, int]
) -> dict[tuple[str, str], int]:
    # In every transaction that finishes a run: one statement instead of four.
    values = {"asset": asset_id, "runs": rows, "heads": dict(heads)}
    found = connection.execute(_WRITE, values)
    return {(row.stage, row.fingerprint): row.id for row in found}


def _write_each(
    connection: Connection, asset_id: int, rows: Sequence[Any], heads: Mapping[str, int]
) -> dict[tuple[str, str], int]:
    ids = {}
    for row in rows:
        run_id = connection.execute(_NEW_RUN, {**row, "asset_id": asset_id}).scalar_one()
        ids[row["stage"], row["fingerprint"]] = run_id
        inputs = [{"stage_run_id": run_id, "input_run_id": found} for found in row["upstream"]]
        if inputs:
            connection.execute(insert(stage_run_input), inputs)
        models = [
            {"stage_run_id": run_id, "role": role, "model_id": found}
            for role, found in row["model_ids"].items()
        ]
        if models:
            connection.execute(insert(stage_run_model), models)
    flipped = [
        {"asset_id": asset_id, "stage": stage, "stage_run_id": run_id}
        for stage, run_id in heads.items()
    ]
    if flipped:
        connection.execute(_FLIP, flipped)
    return ids


#: Columns of stage_run whose values a planned run names, with their types.
_PLANNED = {
    "job_id": BigInteger,
    "stage": Text,
    "queue": Text,
    "fingerprint": Text,
    "code_version": Integer,
    "params": JSONB,
    "inputs": JSONB,
    "model_id": BigInteger,
    "dispatch_rank": Integer,
}
#: And those of a run that may be taken at once.
_STATE = {"state": Text, "attempt": Integer, "lease_token": Text, "lease_owner": Text}


def _since_taken(lease_seconds: ColumnElement[float]) -> dict[str, ColumnElement[Any]]:
    is_taken = lease_seconds.is_not(None)
    return {
        "created_at": utc_now(),
        "started_at": case((is_taken, utc_now())),
        "lease_expires_at": case((is_taken, utc_now(lease_seconds))),
    }


_NEW_RUN = (
    insert(stage_run)
    .values(
        asset_id=bindparam("asset_id"),
        **{name: bindparam(name) for name in (*_PLANNED, *_STATE)},
        **_since_taken(bindparam("lease_seconds", type_=Float)),
    )
    .returning(stage_run.c.id)
)


def _flip(kind: Any, given: Any = None) -> Any:
    statement = kind.insert(head)
    if given is not None:
        statement = statement.from_select(
            ["asset_id", "stage", "stage_run_id", "flipped_at"], given, include_defaults=False
        )
    return statement.on_conflict_do_update(
        index_elements=[head.c.asset_id, head.c.stage],
        set_={"stage_run_id": statement.excluded.stage_run_id, "flipped_at": utc_now()},
    )


_FLIP = _flip(sqlite)


def _write() -> Any:
    """PostgreSQL's statement: rows that are made from JSON."""
    given = (
        func.jsonb_to_recordset(bindparam("runs", type_=JSONB))
        .table_valued(
            *(column(name, kind) for name, kind in (_PLANNED | _STATE).items()),
            column("lease_seconds", Float),
            column("upstream", ARRAY(BigInteger)),
            column("model_ids", JSONB),
        )
        .render_derived(name="given", with_types=True)
    )
    asset_id = bindparam("asset", type_=BigInteger)
    times = _since_taken(given.c.lease_seconds)
    new = (
        insert(stage_run)
        .from_select(
            ["asset_id", *_PLANNED, *_STATE, *times],
            select(asset_id, *(given.c[name] for name in (*_PLANNED, *_STATE)), *times.values()),
            # SQLAlchemy gives no values to the defaults of an INSERT below another statement.
            include_defaults=False,
        )
        .returning(stage_run.c.id, stage_run.c.stage, stage_run.c.fingerprint)
        .cte("new")
    )
    of_given = and_(given.c.stage == new.c.stage, given.c.fingerprint == new.c.fingerprint)
    role = (
        func.jsonb_each_text(given.c.model_ids)
        .table_valued(column("role", Text), column("model_id", Text))
        .render_derived()
        .lateral("of_model")
    )
    flipped = (
        func.jsonb_each_text(bindparam("heads", type_=JSONB))
        .table_valued(column("stage", Text), column("run_id", Text))
        .render_derived(name="flipped")
    )
    inputs = insert(stage_run_input).from_select(
        ["stage_run_id", "input_run_id"],
        select(new.c.id, func.unnest(given.c.upstream)).join(given, of_given),
    )
    models = insert(stage_run_model).from_select(
        ["stage_run_id", "role", "model_id"],
        select(new.c.id, role.c.role, cast(role.c.model_id, BigInteger))
        .join(given, of_given)
        .join(role, true()),
    )
    heads = _flip(
        postgresql, select(asset_id, flipped.c.stage, cast(flipped.c.run_id, BigInteger), utc_now())
    )
    return select(new.c.id, new.c.stage, new.c.fingerprint).add_cte(
        inputs.cte("inputs"), models.cte("models"), heads.cte("heads")
    )


_WRITE = _write()
