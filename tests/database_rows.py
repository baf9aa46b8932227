"""Rows that tests of the database start from, and questions they ask."""

from typing import Any
from uuid import uuid4

from sqlalchemy import insert, text

from pipeline.db.engine import Database
from schemas import tables


def add_asset(database: Database, sha256: str = "a" * 64, uri: str = "file:///a.mp4") -> int:
    with database.transaction() as connection:
        asset_id = connection.execute(
            insert(tables.asset)
            .values(
                sha256=sha256,
                kind="video",
                container="mp4",
                size_bytes=10,
                duration_ms=4000,
                has_audio=True,
            )
            .returning(tables.asset.c.id)
        ).scalar_one()
        connection.execute(
            insert(tables.location).values(uri=uri, etag="e1", asset_id=asset_id, is_current=True)
        )
    return int(asset_id)


def add_job(database: Database, *, priority: int = 0) -> int:
    with database.transaction() as connection:
        return int(
            connection.execute(
                insert(tables.job)
                .values(
                    name="test",
                    priority=priority,
                    profile="offline",
                    sources=[],
                    plan={"profile": "offline", "stages": {}},
                    state="running",
                )
                .returning(tables.job.c.id)
            ).scalar_one()
        )


def add_run(
    database: Database,
    asset_id: int,
    *,
    stage: str = "split",
    queue: str = "cpu",
    priority: int = 0,
    job_id: int | None = None,
) -> int:
    owner = job_id or add_job(database)
    with database.transaction() as connection:
        return int(
            connection.execute(
                insert(tables.stage_run)
                .values(
                    asset_id=asset_id,
                    job_id=owner,
                    stage=stage,
                    queue=queue,
                    fingerprint=f"{stage}-{queue}-{priority}-{asset_id}-{uuid4().hex}"[:64],
                    code_version=1,
                    params={"a": [1, None, "é"]},
                    inputs={"media": "x"},
                    dispatch_rank=-priority,
                    state="queued",
                )
                .returning(tables.stage_run.c.id)
            ).scalar_one()
        )


def flip(database: Database, asset_id: int, stage: str, run_id: int) -> None:
    with database.transaction() as connection:
        connection.execute(
            insert(tables.head).values(asset_id=asset_id, stage=stage, stage_run_id=run_id)
        )


def rows(database: Database, query: str) -> list[dict[str, Any]]:
    with database.reading() as connection:
        return [dict(row) for row in connection.execute(text(query)).mappings()]
