"""Jobs whose assets are known: their ingest is done, the first stage of each is due."""

import json
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Self

from sqlalchemy import Connection, select, text

from bench.queue.site import Site, note
from bench.queue.stages import NAMES, chain, plan
from pipeline.db import job_ends, jobs
from pipeline.db.engine import Database
from pipeline.errors import ContractError
from pipeline.plan.fingerprint import canonical_json, fingerprint
from schemas.tables import stage_run

_MARK = "0" * 64
_SHA256 = "encode(sha256(n::text::bytea), 'hex')"
_ASSETS = "generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) n"

#: ``n``: the id of the asset, and of its location.
# Names of our own tables and expressions, never a value.
# ruff: noqa: S608
_ROWS = (
    f"""
    INSERT INTO asset (id, sha256, kind, container, size_bytes, has_audio, ingested_at)
    SELECT n, {_SHA256}, 'image', 'png', 1000, false, clock_timestamp() FROM {_ASSETS}
    """,
    f"""
    INSERT INTO location (id, uri, etag, size_bytes, is_current, asset_id, ingest_run_id,
        first_seen_at)
    SELECT n, 's3://archive/' || n || '.png', 'e', 1000, true, n, :ingest + n - :first,
        clock_timestamp()
    FROM {_ASSETS}
    """,
    f"""
    INSERT INTO stage_run (id, asset_id, location_id, job_id, stage, queue, fingerprint,
        code_version, params, inputs, dispatch_rank, state, attempt, outputs, seconds, created_at,
        started_at, finished_at)
    SELECT :ingest + n - :first, n, n, :job, 'ingest', 'io',
        encode(sha256(('ingest ' || n)::bytea), 'hex'), 1, '{{}}',
        jsonb_build_object('uri', 's3://archive/' || n || '.png'), :rank, 'succeeded', 1,
        jsonb_build_object('media', {_SHA256}), 0.01, clock_timestamp(), clock_timestamp(),
        clock_timestamp()
    FROM {_ASSETS}
    """,
    f"""
    INSERT INTO stage_run (id, asset_id, job_id, stage, queue, fingerprint, code_version, params,
        inputs, dispatch_rank, state, attempt, created_at)
    SELECT :run + n - :first, n, :job, :stage, 'cpu',
        encode(sha256(replace(:template, :mark, {_SHA256})::bytea), 'hex'), 1,
        CAST(:params AS jsonb), jsonb_build_object('media', {_SHA256}), :rank, 'queued', 0,
        clock_timestamp()
    FROM {_ASSETS}
    """,
    f"""
    INSERT INTO job_item (job_id, location_id, asset_id, ingest_run_id, state)
    SELECT :job, n, n, :ingest + n - :first, 'running' FROM {_ASSETS}
    """,
)


def add_job(database: Database, assets: int, *, is_live: bool = False) -> int:
    """A job over so many new assets, in one transaction; gives its id.

    Live jobs have priority 5, the others 0. No worker may be at work while there is more than one
    asset: ranges of ids are taken.
    """
    priority = 5 if is_live else 0
    with database.transaction() as connection:
        job_id, _ = jobs.create_job(
            connection,
            job_key=None,
            name="live" if is_live else "bulk",
            priority=priority,
            sources=["s3://archive/"],
            plan=plan(is_live=is_live),
            events="assets",
        )
        first_run = _add_rows(connection, job_id, assets, is_live=is_live, rank=-priority)
        _check_fingerprint(connection, first_run)
        job_ends.listing_complete(connection, job_id, 0)
    return job_id


def _add_rows(connection: Connection, job_id: int, assets: int, *, is_live: bool, rank: int) -> int:
    """Gives the id of the first asset's first stage run."""
    stage = chain()[NAMES[0]]
    params = plan(is_live=is_live).stages[stage.name].parameters
    first = _reserve(connection, "asset", assets)
    if _reserve(connection, "location", assets) != first:
        raise ContractError("assets and locations must have the same ids")
    run = _reserve(connection, "stage_run", assets)
    values: dict[str, Any] = {
        "first": first,
        "last": first + assets - 1,
        "ingest": _reserve(connection, "stage_run", assets),
        "run": run,
        "job": job_id,
        "rank": rank,
        "stage": stage.name,
        "params": json.dumps(params),
        "mark": _MARK,
        "template": canonical_json(
            {
                "stage": stage.name,
                "code_version": stage.code_version,
                "params": params,
                "models": {},
                "inputs": {"media": _MARK},
            }
        ).decode(),
    }
    # The rows are right by construction: a million checks of each foreign key are left out.
    connection.execute(text("SET LOCAL session_replication_role = replica"))
    for statement in _ROWS:
        used = {name: value for name, value in values.items() if f":{name}" in statement}
        connection.execute(text(statement), used)
    connection.execute(text("SET LOCAL session_replication_role = origin"))
    return run


def _reserve(connection: Connection, table: str, count: int) -> int:
    """So many ids in a row; gives the first."""
    query = text(
        "SELECT min(nextval(pg_get_serial_sequence(:table, 'id'))) FROM generate_series(1, :count)"
    )
    return int(connection.execute(query, {"table": table, "count": count}).scalar_one())


def _check_fingerprint(connection: Connection, stage_run_id: int) -> None:
    """What SQL worked out is what the planner will look for."""
    run = connection.execute(select(stage_run).where(stage_run.c.id == stage_run_id)).one()
    wanted = fingerprint(
        stage=run.stage,
        code_version=run.code_version,
        params=run.params,
        models={},
        inputs=run.inputs,
    )
    if run.fingerprint != wanted:
        raise ContractError(f"stage run {run.id} has fingerprint {run.fingerprint}, not {wanted}")


def settle(database: Database) -> None:
    """What a server does by itself after a bulk load, now and not during a measurement."""
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))
        connection.execute(text("CHECKPOINT"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """A database in which so many assets of one bulk job wait for their first stage."""

    size: int
    url: str
    database: Database
    job_id: int

    def restore(self) -> None:
        """Undo what workers did to the bulk job: as many wait as in the beginning."""
        with self.database.transaction() as connection:
            connection.execute(text("SET LOCAL session_replication_role = replica"))
            for statement in _UNDO:
                connection.execute(text(statement), {"job": self.job_id})
        settle(self.database)


_UNDO = (
    """
    DELETE FROM head h USING stage_run r WHERE r.id = h.stage_run_id AND r.job_id = :job
    """,
    """
    DELETE FROM stage_run_input i USING stage_run r
    WHERE r.id = i.stage_run_id AND r.job_id = :job AND r.stage LIKE 'nothing-%'
    """,
    """
    DELETE FROM stage_run
    WHERE job_id = :job AND stage LIKE 'nothing-%' AND stage <> 'nothing-1'
    """,
    """
    UPDATE stage_run SET state = 'queued', attempt = 0, published_at = NULL, republished = 0,
        lease_token = NULL, lease_owner = NULL, lease_expires_at = NULL, started_at = NULL,
        finished_at = NULL, outputs = NULL, notes = NULL, seconds = NULL, device_seconds = NULL,
        cpu_seconds = NULL
    WHERE job_id = :job AND stage = 'nothing-1' AND (state <> 'queued' OR published_at IS NOT NULL)
    """,
    "UPDATE job_item SET state = 'running' WHERE job_id = :job AND state <> 'running'",
)


class Backlogs:
    """Backlogs by size, made when they are first asked for; gone at the end of the block."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._stack = ExitStack()
        self._made: dict[int, Backlog] = {}

    def of(self, size: int) -> Backlog:
        if size not in self._made:
            note(f"making a backlog of {size:,}")
            url, database = self._stack.enter_context(self._site.database())
            job_id = add_job(database, size)
            settle(database)
            self._made[size] = Backlog(size=size, url=url, database=database, job_id=job_id)
        return self._made[size]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()
