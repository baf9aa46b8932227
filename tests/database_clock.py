"""A database clock that tests set: SQL's now, while the clocks of the processes go on.

Kept outside of the processes that use it, so that several see the same time: in a file beside the
SQLite database, in a table of PostgreSQL.
"""

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import event, make_url, text

from pipeline.db.engine import Database, open_database
from pipeline.db.migrate import ensure_schema


class DatabaseClock:
    """Sets the time of the database at ``url``, which has the schema."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._owner = open_database(url)
        ensure_schema(self._owner)

    def install(self) -> None:
        """Once per database, before :func:`open_with_clock`."""
        if self._owner.is_sqlite:
            self.set(datetime.now(UTC))
            return
        with self._owner.transaction() as connection:
            connection.execute(text("CREATE TABLE public.test_clock AS SELECT now() AS shows"))
            connection.execute(
                text(
                    "CREATE FUNCTION public.statement_timestamp() RETURNS timestamptz LANGUAGE sql "
                    "AS 'SELECT shows FROM public.test_clock'"
                )
            )

    def set(self, moment: datetime) -> None:
        if self._owner.is_sqlite:
            target = _clock_file(self._url)
            fresh = target.with_suffix(".new")
            fresh.write_text(moment.astimezone(UTC).isoformat())
            fresh.replace(target)
            return
        with self._owner.transaction() as connection:
            connection.execute(text("UPDATE public.test_clock SET shows = :at"), {"at": moment})

    def close(self) -> None:
        self._owner.close()


def url_with_clock(url: str) -> str:
    """The URL under which PostgreSQL's sessions see the clock."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return url
    # Functions of `public` before the built-in ones; and answers in no zone that is expected.
    options = "-csearch_path=public,pg_catalog -ctimezone=Europe/Berlin"
    shown = parsed.update_query_dict({"options": options})
    return shown.render_as_string(hide_password=False)


def show_clock(database: Database) -> None:
    """Have the connections of an opened SQLite database see the clock."""
    if not database.is_sqlite:
        return
    clock = _clock_file(database.engine.url.render_as_string())

    def strftime(pattern: str, start: str, *shifts: str) -> str:
        assert start == "now"
        moment = datetime.fromisoformat(clock.read_text())
        for shift in shifts:
            number, unit = shift.split()
            assert unit == "seconds"
            moment += timedelta(seconds=float(number))
        # SQLite's %f is seconds with milliseconds.
        return moment.strftime(pattern.replace("%f", f"%S.{moment.microsecond // 1000:03}"))

    @event.listens_for(database.engine, "connect")
    def replace(driver: sqlite3.Connection, _record: Any) -> None:
        driver.create_function("strftime", -1, strftime)

    database.engine.dispose()


def _clock_file(url: str) -> Path:
    path = make_url(url).database
    assert path is not None
    return Path(f"{path}.clock")
