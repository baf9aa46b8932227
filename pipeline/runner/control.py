"""What people do to jobs: cancel, pause, resume, retry."""

from collections.abc import Callable

from pipeline.db import job_control
from pipeline.db.engine import Database
from pipeline.errors import PipelineError

#: Items or runs per transaction.
BATCH = 500


def cancel(
    database: Database, job_id: int, *, on_progress: Callable[[int], None] = lambda closed: None
) -> bool:
    """End a job: nothing more of it is started, what others wait for too goes on for them, and what
    runs at this moment ends. Gives whether it was still open.

    If this process dies half way a dispatcher completes it.

    Raises:
        ConfigurationError: there is no such job.
    """
    with database.transaction() as connection:
        if not job_control.begin_cancelling(connection, job_id):
            return False
    finish_cancelling(database, job_id, on_progress=on_progress)
    return True


def finish_cancelling(
    database: Database, job_id: int, *, on_progress: Callable[[int], None] = lambda closed: None
) -> None:
    """Close the items of a job whose cancelling has begun. ``on_progress`` may raise to end it."""
    closed = after = 0
    while True:
        with database.transaction() as connection:
            batch = job_control.cancel_batch(connection, job_id, after=after, limit=BATCH)
        closed += len(batch)
        on_progress(closed)
        if len(batch) < BATCH:
            return
        after = batch[-1]


def pause(database: Database, job_id: int, *, error: PipelineError | None = None) -> bool:
    """Start nothing more of a job until :func:`resume`; gives whether that changed anything.

    ``error``: why, where nobody asked for it.

    Raises:
        ConfigurationError: there is no such job.
    """
    with database.transaction() as connection:
        job_control.lock_job(connection, job_id)
        paused = job_control.pause(connection, job_id, error=error)
    with database.transaction() as connection:
        job_control.hand_over(connection, job_id)
    return paused


def resume(database: Database, job_id: int) -> bool:
    """Go on with a paused job; gives whether that changed anything.

    Raises:
        ConfigurationError: there is no such job.
    """
    with database.transaction() as connection:
        job_control.lock_job(connection, job_id)
        return job_control.resume(connection, job_id)


def retry(
    database: Database,
    *,
    job_id: int | None = None,
    error_class: str | None = None,
    stage: str | None = None,
) -> int:
    """Queue failed stage runs again, with all their attempts, and open the items that failed with
    them; gives how many runs. Without ``error_class``: all but those of bad media.

    Raises:
        ConfigurationError: there is no such job.
    """
    if job_id is not None:
        with database.transaction() as connection:
            job_control.lock_job(connection, job_id)
    retried = after = 0
    while True:
        with database.reading() as connection:
            ids = job_control.failed_runs(
                connection,
                job_id=job_id,
                error_class=error_class,
                stage=stage,
                after=after,
                limit=BATCH,
            )
        for run_id in ids:
            # One by one: each locks its asset, and holds it no longer than needed.
            with database.transaction() as connection:
                retried += job_control.retry_run(connection, run_id, job_id=job_id)
        if len(ids) < BATCH:
            return retried
        after = ids[-1]
