"""Looks at a job until it is over."""

import time
from collections import Counter
from collections.abc import Callable

from sqlalchemy import select

from pipeline.db import jobs
from pipeline.db.engine import Database
from pipeline.db.status import items_by_kind, steps_of_open_items
from pipeline.errors import DatabaseUnavailableError
from pipeline.plan.graph import STAGES, stages_for
from pipeline.stages import scan
from schemas.tables import job
from workers.cli.progress import SCAN, JobDisplay, JobStatus

POLL_SECONDS = 0.5


def job_status(database: Database, job_id: int) -> JobStatus:
    """One look at a job."""
    with database.reading() as connection:
        state = connection.execute(select(job.c.state).where(job.c.id == job_id)).scalar_one()
        kinds = items_by_kind(connection, job_id)
        stages = jobs.counts_by_stage(connection, job_id)
        steps_done = steps_of_open_items(connection, job_id)
    shown: Counter[tuple[str, str]] = Counter()
    for (stage, run_state), count in stages.items():
        shown[SCAN if stage in scan.SPECS else stage, run_state] += count
    items: Counter[str] = Counter()
    expected = 0
    for item_state, kind, has_audio, count in kinds:
        items[item_state] += count
        # The ingest, and the stages of the asset's kind; before the ingest: as if it had all.
        steps = 1 + (
            len(STAGES) if kind is None else len(stages_for(kind, has_audio=bool(has_audio)))  # type: ignore[arg-type]
        )
        expected += steps * count
        if item_state in ("done", "failed", "cancelled"):
            steps_done += steps * count
    return JobStatus(
        state=state,
        items=items,
        stages=shown,
        # Ranges of long videos are steps that nobody expected.
        steps_done=min(steps_done, expected),
        steps_expected=expected,
    )


def watch(
    database: Database, job_id: int, display: JobDisplay, still_wanted: Callable[[], bool]
) -> JobStatus:
    """Show the job's progress until it is over or no longer wanted; gives the last look."""
    while True:
        started = time.monotonic()
        try:
            status = job_status(database, job_id)
        except DatabaseUnavailableError:
            if not still_wanted():
                raise
        else:
            display.update(status)
            if status.state not in ("expanding", "running") or not still_wanted():
                return status
        # Counting millions of rows must not become the main work of the database.
        time.sleep(max(POLL_SECONDS, 10 * (time.monotonic() - started)))
