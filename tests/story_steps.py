"""What clients, workers, dispatchers and files do, step by step; the stories are made of it."""

import math
import os
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select, text, update

from pipeline.db import dispatching, job_control, runs
from pipeline.db.engine import Database
from pipeline.db.jobs import PlanCache
from pipeline.errors import (
    ContractError,
    InvalidMediaError,
    PipelineError,
    ResourceExhaustedError,
    StoreUnavailableError,
)
from pipeline.runner import control
from pipeline.runner.attempt import Attempt, RunOn
from pipeline.runner.failing import close_failed, lock_asset_of
from pipeline.runner.leases import LeaseKeeper
from pipeline.runner.runtime import Runtime
from pipeline.stages.base import QUEUES
from schemas import operations
from schemas.tables import INGEST, stage_run
from schemas.types import utc_now

MAX_ATTEMPTS = 2

#: Two that are alike, a sidecar beside one of them, and a picture.
FILES = {
    "one/a.mp4": "video 1",
    "one/a.srt": "words",
    "one/b.mp4": "video 2",
    "two/c.mp4": "video 1",
    "two/d.png": "image 1",
}
#: How an attempt ends that does not succeed.
TROUBLE: dict[str, PipelineError] = {
    "bad media": InvalidMediaError("bad"),
    "our bug": ContractError("wrong"),
    "store away": StoreUnavailableError("away"),
    "out of memory": ResourceExhaustedError("full"),
    "told to stop": StoreUnavailableError("stopping"),
}
DUE = select(stage_run.c.id).where(stage_run.c.state == "queued").order_by(stage_run.c.id)
#: What a run works for, as one value.
PLACE = (
    "CASE stage WHEN 'expand' THEN 'job ' || job_id WHEN 'ingest' THEN 'place ' || location_id "
    "ELSE 'asset ' || asset_id END"
)


@dataclass(frozen=True, slots=True)
class Stage:
    """Where stories take place."""

    runtime: Runtime
    keeper: LeaseKeeper
    folder: Path
    #: How items ended, in all stories.
    ends: Counter[str] = field(default_factory=Counter)

    @property
    def database(self) -> Database:
        return self.runtime.database

    def clear(self) -> None:
        """As if nothing had ever happened here."""
        tables = [table.name for table in reversed(operations.metadata.sorted_tables)]
        if self.database.is_sqlite:
            statements = [f"DELETE FROM {name}" for name in tables]
        else:
            statements = [f"TRUNCATE {', '.join(tables)} RESTART IDENTITY"]
        with self.database.transaction() as connection:
            for statement in statements:
                connection.execute(text(statement))
        self.runtime.plans = PlanCache()
        for name, content in FILES.items():
            self.write(name, content, at=0)

    def write(self, name: str, content: str | None, *, at: int) -> None:
        """A file of another content, or none, that shows another time."""
        path = self.folder / name
        path.unlink(missing_ok=True)
        if content is not None:
            path.parent.mkdir(exist_ok=True)
            path.write_text(content)
            os.utime(path, (at, at))

    def rows(self, query: str, **values: Any) -> list[Any]:
        with self.database.reading() as connection:
            return list(connection.execute(text(query), values))

    def everything(self) -> dict[str, list[Any]]:
        with self.database.reading() as connection:
            return {
                table.name: sorted(map(repr, connection.execute(select(table))))
                for table in operations.metadata.sorted_tables
            }


class StorySteps:
    """The runs that workers have in their hands, and what becomes of them."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.runtime, self.database = stage, stage.runtime, stage.database
        self.stage.clear()
        self.job_of_key: dict[str, int] = {}
        #: Runs in the hands of workers, by token; what is no more here is fenced off.
        self.held: dict[str, runs.ClaimedRun] = {}
        #: What their workers know from the runs before, by token.
        self.run_ons: dict[str, RunOn] = {}
        #: How often each (place or asset, stage, fingerprint) was worked off.
        self.successes: Counter[tuple[Any, ...]] = Counter()
        self.touched = 0
        self.due: list[int] = []

    def _due(self) -> list[int]:
        with self.database.reading() as connection:
            return list(connection.execute(DUE).scalars())

    def _claim(self, run_id: int, *, alone: bool = True) -> runs.ClaimedRun | None:
        with self.database.transaction() as connection:
            run = runs.claim(
                connection,
                run_id,
                owner="test/1",
                lease_seconds=3600,
                max_attempts=MAX_ATTEMPTS,
                alone=alone,
            )
        if run is not None:
            self._take(run)
        return run

    def _take(self, run: runs.ClaimedRun) -> None:
        assert run.attempt <= MAX_ATTEMPTS
        (found,) = self.stage.rows(
            "SELECT j.paused_at, j.cancelled_at, l.etag, l.ingest_run_id FROM stage_run r "
            "JOIN job j ON j.id = r.job_id LEFT JOIN location l ON l.id = r.location_id "
            "WHERE r.id = :run",
            run=run.stage_run_id,
        )
        assert found.paused_at is None
        assert found.cancelled_at is None
        if self.successes[self._key(run.stage_run_id)]:
            assert run.stage == INGEST
            assert found.etag == "" or found.ingest_run_id != run.stage_run_id, "done already"
        self.held[run.token] = run

    def _end(
        self, run: runs.ClaimedRun, trouble: str | None = None, *, run_on: bool = False
    ) -> runs.ClaimedRun | None:
        """The worker ends its attempt; one whose lease was lost must not change anything.

        ``run_on``: gives the run that it goes on with.
        """
        stopping = threading.Event()
        if trouble == "told to stop":
            stopping.set()
        known = self.run_ons.pop(run.token, None)
        if run_on:
            known = known or RunOn(queues=frozenset(QUEUES), until=math.inf)
        attempt = Attempt(
            runtime=self.runtime,
            run=run,
            keeper=self.stage.keeper,
            stopping=stopping,
            run_on=known if run_on else None,
        )
        is_fenced = run.token not in self.held
        before = self.stage.everything() if is_fenced else {}
        if trouble is not None:
            attempt.record(TROUBLE[trouble])
        else:
            try:
                attempt.make()
            except runs.LeaseLostError:
                assert is_fenced
            except PipelineError as error:
                attempt.record(error)
            else:
                assert not is_fenced
                self._count(run)
        if is_fenced:
            assert self.stage.everything() == before
        self.held.pop(run.token, None)
        assert not self.stage.rows(
            "SELECT id FROM stage_run WHERE lease_token = :token", token=run.token
        )
        if attempt.following is not None and known is not None:
            self._take(attempt.following)
            self.run_ons[attempt.following.token] = known
        return attempt.following

    def _count(self, run: runs.ClaimedRun) -> None:
        self.held.pop(run.token, None)
        self.successes[self._key(run.stage_run_id)] += 1

    def _key(self, run_id: int) -> tuple[Any, ...]:
        (row,) = self.stage.rows(f"SELECT {PLACE}, stage, fingerprint FROM stage_run "
                                 "WHERE id = :run", run=run_id)  # fmt: skip
        return tuple(row)

    def _listed(self) -> set[tuple[Any, ...]]:
        return {tuple(row) for row in self.stage.rows(
            f"SELECT {PLACE}, stage, fingerprint FROM stage_run "
            "WHERE stage = 'expand' AND state = 'succeeded'")}  # fmt: skip

    def _lose(self, run: runs.ClaimedRun) -> None:
        with self.database.transaction() as connection:
            runs.expire(connection, [run.token])
        self._recover()
        self._drop(lambda each: each.token == run.token)

    def _drop(self, is_lost: Callable[[runs.ClaimedRun], bool]) -> None:
        self.held = {token: run for token, run in self.held.items() if not is_lost(run)}

    def _recover(self) -> None:
        lost = dispatching.Lost()
        with self.database.reading() as connection:
            for_good = dispatching.lost_for_good(connection, lost, max_attempts=MAX_ATTEMPTS)
        for run in for_good:
            with self.database.transaction() as connection:
                facts = lock_asset_of(connection, run)
                assert dispatching.fail_lost(connection, run.id, lost, max_attempts=MAX_ATTEMPTS)
                close_failed(connection, self.runtime, run.id, facts)
        with self.database.transaction() as connection:
            dispatching.requeue_lost(connection, lost, max_attempts=MAX_ATTEMPTS)

    def _look_after(self) -> None:
        """What a dispatcher does every few seconds; all pauses are over."""
        with self.database.transaction() as connection:
            self._age(connection, "not_before")
            dispatching.wake_waiting(connection)
        self._recover()
        with self.database.reading() as connection:
            cancelling = job_control.cancelling(connection)
            paused = job_control.paused(connection)
        for job in cancelling:
            control.finish_cancelling(self.database, job)
        for job in paused:
            with self.database.transaction() as connection:
                job_control.hand_over(connection, job)

    def _republish(self) -> None:
        with self.database.transaction() as connection:
            self._age(connection, "published_at")
            dispatching.republish(connection, seconds=1, empty_queues=QUEUES, empty_seconds=1)

    @staticmethod
    def _age(connection: Connection, column: str) -> None:
        past = {column: utc_now(-3600)}
        connection.execute(update(stage_run).where(stage_run.c[column].is_not(None)).values(**past))

    def _publish(self, depth: int) -> list[int]:
        published: list[int] = []
        for queue in QUEUES:
            with self.database.transaction() as connection:
                published += dispatching.take_due(connection, queue, depth=depth)[0]
        return published

    def _work_off(self) -> None:
        """All that dispatchers and a worker do by themselves, until they find nothing to do."""
        idle = 0
        while idle < 2:
            self._look_after()
            self._republish()
            done = 0
            for run_id in self._publish(100):
                run = self._claim(run_id)
                if run is not None:
                    self._end(run)
                    done += 1
            idle = 0 if done else idle + 1
