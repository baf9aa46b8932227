"""Schedules in a database whose clock the tests set, and processes that see it."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import database_clock
from database_clock import DatabaseClock
from sqlalchemy import text

from pipeline.config import Settings
from pipeline.db import schedules
from pipeline.runner import scheduling
from pipeline.runner.runtime import Runtime
from schemas.messages import JobMessage

MESSAGE = JobMessage(version=1, sources=("s3://films/in/",))
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


class Office:
    """A database with a clock, and processes that see it."""

    def __init__(self, url: str, folder: Path) -> None:
        self.clock = DatabaseClock(url)
        self.clock.install()
        self.url = database_clock.url_with_clock(url)
        self._folder = folder
        self._opened: list[Runtime] = []
        self.runtime = self.open()
        self.clock.set(NOON)

    def settings(self, **values: Any) -> Settings:
        return Settings(database=self.url, data_dir=self._folder / "data", **values)

    def open(self, **values: Any) -> Runtime:
        """One more process, with settings of its own."""
        runtime = Runtime(self.settings(**values))
        database_clock.show_clock(runtime.database)
        self._opened.append(runtime)
        return runtime

    def close(self) -> None:
        for runtime in self._opened:
            runtime.close()
        self.clock.close()

    def at(self, moment: datetime) -> int:
        """Set the clock, and fire what is due; gives how many were."""
        self.clock.set(moment)
        return scheduling.fire_due(self.runtime)

    def add(self, cron: str, *, name: str = "nightly", zone: str = "UTC", **message: Any) -> None:
        scheduling.add(
            self.runtime,
            name=name,
            cron=cron,
            time_zone=zone,
            message=MESSAGE.model_copy(update=message),
        )

    def rows(self, query: str) -> list[dict[str, Any]]:
        with self.runtime.database.reading() as connection:
            return [dict(row) for row in connection.execute(text(query)).mappings()]

    def jobs(self) -> list[str]:
        """The keys of all jobs, without what they have in common."""
        rows = self.rows("SELECT job_key FROM job ORDER BY id")
        return [row["job_key"].removeprefix("schedule:") for row in rows]

    def show(self, name: str = "nightly") -> dict[str, Any]:
        with self.runtime.database.reading() as connection:
            return schedules.details(connection, name, fires=100)
