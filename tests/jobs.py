"""A job that the command line has run, and a process in which jobs run without a broker."""

import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from command import Cli, Result
from sqlalchemy import select, text

from pipeline.config import Settings
from pipeline.db import runs
from pipeline.db.engine import Database
from pipeline.db.migrate import ensure_schema
from pipeline.models.pool import ModelPool
from pipeline.runner.execute import execute
from pipeline.runner.intake import accept, submit
from pipeline.runner.leases import LeaseKeeper
from pipeline.runner.runtime import Runtime
from schemas.messages import JobMessage
from schemas.tables import stage_run


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedJob:
    """The demo's bucket, analysed."""

    cli: Cli
    source: str
    first: Result

    def sql(self, query: str) -> list[dict[str, Any]]:
        result = self.cli("sql", "--json", query)
        assert result.code == 0, result.err
        rows: list[dict[str, Any]] = result.json
        return rows


class Process:
    """A runtime whose due work is executed in this thread, without a broker in between."""

    def __init__(self, settings: Settings, models: ModelPool) -> None:
        self.runtime = Runtime(settings)
        self.runtime.models = models
        ensure_schema(self.runtime.database)
        self.keeper = LeaseKeeper(self.runtime.database, settings.lease_seconds)

    def run(self, *sources: str, **message: Any) -> int:
        """Submit a job and work it off; gives its id."""
        job_id = submit(self.runtime, JobMessage(sources=sources, **message))
        self.drain()
        return job_id

    def submit(self, *sources: str | Path, **message: Any) -> int:
        """A job with its items; nothing is worked off. Gives its id."""
        names = tuple(str(source) for source in sources)
        return submit(self.runtime, JobMessage(sources=names, **message))

    def accept(self, *sources: str | Path, **message: Any) -> int:
        """A job whose sources are still to be listed; gives its id."""
        names = tuple(str(source) for source in sources)
        return accept(self.runtime, JobMessage(sources=names, **message), origin="queue").job_id

    def claim_next(self) -> str:
        """Take the next run that is queued; gives its token."""
        due = select(stage_run.c.id).where(stage_run.c.state == "queued").order_by(stage_run.c.id)
        with self.runtime.database.transaction() as connection:
            run = runs.claim(
                connection,
                connection.execute(due.limit(1)).scalar_one(),
                owner="test/1",
                lease_seconds=60,
                max_attempts=3,
            )
        assert run is not None
        return run.token

    def give_back(self, token: str) -> None:
        with self.runtime.database.transaction() as connection:
            runs.give_back(connection, token)

    def execute_next(
        self, stopping: threading.Event | None = None, run_on: Collection[str] = ()
    ) -> None:
        """Execute the next run that is queued, in a worker that may be told to stop, and what it
        goes on with."""
        due = select(stage_run.c.id).where(stage_run.c.state == "queued").order_by(stage_run.c.id)
        with self.runtime.database.reading() as connection:
            run_id = connection.execute(due.limit(1)).scalar_one()
        execute(self.runtime, run_id, self.keeper, stopping, run_on)

    def execute(self, run_id: int, run_on: Collection[str] = ()) -> None:
        """Execute a run that is queued, and what is gone on with."""
        assert execute(self.runtime, run_id, self.keeper, run_on=run_on)

    def drain(self, limit: int | None = None) -> int:
        """Execute what is due until nothing is, or ``limit`` stage runs; gives how many."""
        done = 0
        due = select(stage_run.c.id).where(stage_run.c.state == "queued").order_by(stage_run.c.id)
        while limit is None or done < limit:
            with self.runtime.database.reading() as connection:
                run_id = connection.execute(due.limit(1)).scalar_one_or_none()
            if run_id is None:
                break
            assert execute(self.runtime, run_id, self.keeper)
            done += 1
        return done

    def sql(self, query: str, **values: Any) -> list[dict[str, Any]]:
        with self.runtime.database.reading() as connection:
            return [dict(row) for row in connection.execute(text(query), values).mappings()]

    def done_by(self, job_id: int) -> list[str]:
        """Names of the stages that were really worked for a job, its listing apart, sorted."""
        query = (
            "SELECT stage FROM stage_run WHERE job_id = :job AND state = 'succeeded' "
            "AND stage <> 'expand'"
        )
        return sorted(row["stage"] for row in self.sql(query, job=job_id))

    def close(self) -> None:
        self.keeper.close()
        self.runtime.database.close()


class Rival:
    """Somebody else, who does something at the worst moment."""

    def __init__(self, does: Callable[[], object]) -> None:
        self.error: Exception | None = None
        self._does = does
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            self._does()
        except Exception as error:  # noqa: BLE001  asserted by the test
            self.error = error

    def start(self, database: Database) -> None:
        """It begins, and has every chance to overtake us."""
        self._thread.start()
        until_ended_or_blocked(self._thread, database)

    def join(self) -> None:
        self._thread.join()


def until_ended_or_blocked(worker: threading.Thread, database: Database) -> None:
    """Give a thread every chance to overtake us; where it waits for our lock, go on."""
    if database.is_sqlite:
        return  # we hold the only write lock
    url = database.engine.url.set(drivername="postgresql")
    with psycopg.connect(url.render_as_string(hide_password=False), autocommit=True) as observer:
        blocked = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        while worker.is_alive() and observer.execute(blocked).fetchone() is None:
            pass
