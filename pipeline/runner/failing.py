"""What follows when a stage run fails for good, whoever finds that out."""

from typing import Any

from sqlalchemy import Connection, select

from pipeline.db import job_ends, jobs
from pipeline.db.assets import lock_asset
from pipeline.plan.advance import advance_items
from pipeline.plan.standing import look_at
from pipeline.runner.runtime import Runtime
from schemas.tables import EXPAND, INGEST, stage_run


def lock_asset_of(connection: Connection, run: Any) -> Any:
    """As :func:`lock_asset`, before the run is failed; None where it is none of an asset's."""
    if run.asset_id is None or run.stage == INGEST:
        return None
    return lock_asset(connection, run.asset_id)


def close_failed(
    connection: Connection, runtime: Runtime, stage_run_id: int, facts: Any = None
) -> None:
    """Close the items, or the job, that a failed run leaves without a way on; ``facts``: what
    :func:`lock_asset_of` gave."""
    run = connection.execute(select(stage_run).where(stage_run.c.id == stage_run_id)).one()
    if run.stage == EXPAND:
        job_ends.abandon(
            connection,
            run.job_id,
            "failed",
            error_class=run.error_class,
            error_text=run.error_text,
        )
        return
    if run.stage != INGEST:
        advance_items(connection, look_at(connection, facts), runtime.plans)
        return
    items = jobs.open_items_of_ingest(connection, stage_run_id)
    for item in items:
        job_ends.set_item_state(
            connection, item.job_id, item.location_id, "failed", failed_run_id=stage_run_id
        )
    for job_id in sorted({item.job_id for item in items}):
        job_ends.close_if_complete(connection, job_id)
