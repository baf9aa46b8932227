"""Connections and transactions, alike on SQLite and PostgreSQL."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import (
    URL,
    Connection,
    Engine,
    ExceptionContext,
    create_engine,
    event,
    make_url,
    text,
)
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    DisconnectionError,
    InterfaceError,
    NoSuchModuleError,
    OperationalError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from pipeline.errors import ConfigurationError, DatabaseUnavailableError

#: How long a writer waits for another; embedded, all writers share one file.
SQLITE_BUSY_SECONDS = 20
#: A connection that rested for so long is asked whether it still lives.
PING_IDLE_SECONDS = 2.0
READ_ONLY = "25006"
#: PostgreSQL's codes, or their beginnings, of what passes: no connection, no resources, shutting
#: down or starting, read-only, given up for another transaction (deadlock, conflict, lock).
AWAY = ("08", "53", "57P", "58030", READ_ONLY, "25P03", "40001", "40P01", "55P03")


class Database:
    """The one handle to a database: an engine, and transactions with translated errors."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        #: For looks: no round trips to begin and end a transaction that changes nothing.
        self._reader = engine
        self._light = engine
        if not self.is_sqlite:
            self._reader = engine.execution_options(isolation_level="AUTOCOMMIT")
            self._light = _light_engine(engine.url).execution_options(isolation_level="AUTOCOMMIT")

    @property
    def is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    @cached_property
    def display_url(self) -> str:
        """The URL without its password, and without what else may hold one."""
        url = self.engine.url.set(query={})
        return url.render_as_string(hide_password=True)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A write transaction: committed at the end of the block, rolled back on an exception.

        On SQLite it takes the write lock at once (``BEGIN IMMEDIATE``), so that it cannot fail
        half way for having read first.

        Raises:
            DatabaseUnavailableError: the database cannot be reached, or went away.
        """
        with _translated(self.display_url), self._connect() as connection:
            if self.is_sqlite:
                connection.execution_options(write=True)
            with connection.begin():
                yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A read-only look at the database. Raises like :meth:`transaction`."""
        with _translated(self.display_url), self._connect(self._reader) as connection:
            yield connection

    @contextmanager
    def streaming(self) -> Iterator[Connection]:
        """A look at more rows than fit in memory (``yield_per``): in a transaction, which a cursor
        on the server needs. Raises like :meth:`transaction`."""
        with _translated(self.display_url), self._connect() as connection:
            yield connection

    @contextmanager
    def light(self) -> Iterator[Connection]:
        """For one statement that may be lost with the server, and is then found to be undone.

        On PostgreSQL it is a transaction by itself, whose commit does not wait for the disk: a
        claim that is lost is fenced by its token, a mark that is lost is set again. On SQLite this
        is :meth:`transaction`.
        """
        if self.is_sqlite:
            with self.transaction() as connection:
                yield connection
            return
        with _translated(self.display_url), self._connect(self._light) as connection:
            yield connection

    def _connect(self, engine: Engine | None = None) -> Connection:
        try:
            return (engine or self.engine).connect()
        except DBAPIError as error:
            # Whatever goes wrong this early is the database's fault or the URL's.
            raise DatabaseUnavailableError(
                f"the database {self.display_url} cannot be opened: {_first_line(error.orig)}"
            ) from error

    def close(self) -> None:
        self.engine.dispose()
        self._light.dispose()


def open_database(url: str) -> Database:
    """An engine for ``url``; nothing is connected yet.

    Raises:
        ConfigurationError: the URL is not one of a database that mediaweave runs on.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise ConfigurationError(
            "the database setting is not a URL; write sqlite:///path/to/file.db or "
            "postgresql://user:password@host/name"
        ) from error
    if parsed.drivername in ("postgresql", "postgres"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise ConfigurationError(
            f"mediaweave runs on SQLite and PostgreSQL, not on {parsed.get_backend_name()}"
        )
    try:
        if parsed.get_backend_name() == "sqlite":
            return Database(_sqlite_engine(parsed.database, parsed))
        return Database(_postgresql_engine(parsed))
    except NoSuchModuleError as error:
        raise ConfigurationError(f"no driver for {parsed.drivername}: {error}") from error


def _postgresql_engine(url: URL) -> Engine:
    engine = create_engine(
        url,
        pool_size=10,
        max_overflow=100,
        hide_parameters=True,
        connect_args={"connect_timeout": 10},
    )

    # As pool_pre_ping, but a connection that was in use a moment ago is not asked.
    @event.listens_for(engine, "checkin")
    def used(_connection: Any, record: Any) -> None:
        record.info["used_at"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def check(connection: Any, record: Any, _proxy: Any) -> None:
        if time.monotonic() - record.info.get("used_at", math.inf) < PING_IDLE_SECONDS:
            return
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as error:
            # The pool takes another connection, which is new.
            raise DisconnectionError from error

    @event.listens_for(engine, "handle_error")
    def leave(context: ExceptionContext) -> None:
        # A session that began while the database took no writes would refuse them for ever.
        if getattr(context.original_exception, "sqlstate", None) == READ_ONLY:
            context.is_disconnect = True

    return engine


def _light_engine(url: URL) -> Engine:
    engine = _postgresql_engine(url)

    @event.listens_for(engine, "connect")
    def configure(dbapi_connection: Any, _record: Any) -> None:
        dbapi_connection.autocommit = True
        dbapi_connection.execute("SET synchronous_commit TO off")
        dbapi_connection.autocommit = False

    return engine


def _sqlite_engine(path: str | None, url: Any) -> Engine:
    if not path or path == ":memory:":
        raise ConfigurationError("SQLite needs a file: sqlite:///path/to/file.db")
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"the folder of the database {path} cannot be made: {error.strerror}"
        ) from error
    engine = create_engine(
        url,
        connect_args={"timeout": SQLITE_BUSY_SECONDS},
        pool_size=10,
        max_overflow=100,
        hide_parameters=True,
    )

    @event.listens_for(engine, "connect")
    def configure(dbapi_connection: Any, _record: Any) -> None:
        # SQLAlchemy, not the driver, begins transactions: see the "begin" hook.
        dbapi_connection.isolation_level = None
        cursor = dbapi_connection.cursor()
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = NORMAL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        write = connection.get_execution_options().get("write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


@contextmanager
def _translated(display_url: str) -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        if not _is_away(error):
            raise
        raise DatabaseUnavailableError(
            f"the database {display_url} cannot be used: {_first_line(error.orig)}"
        ) from error
    except psycopg.Error as error:
        # Of a COPY, which SQLAlchemy knows nothing of.
        if not _is_state_of_away(error.sqlstate, error):
            raise
        raise DatabaseUnavailableError(
            f"the database {display_url} cannot be used: {_first_line(error)}"
        ) from error
    except PoolTimeoutError as error:
        raise DatabaseUnavailableError(
            f"the database {display_url} has no connection to spare: {error}"
        ) from error


def _is_away(error: DBAPIError) -> bool:
    """Whether the database is at fault, for now, and not what was asked of it."""
    return error.connection_invalidated or _is_state_of_away(
        getattr(error.orig, "sqlstate", None), error
    )


def _is_state_of_away(state: str | None, error: Exception) -> bool:
    if state is not None:
        return state.startswith(AWAY)
    return isinstance(
        error,
        OperationalError | InterfaceError | psycopg.OperationalError | psycopg.InterfaceError,
    )


def _first_line(error: BaseException | None) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def check_connection(database: Database) -> None:
    """Raises DatabaseUnavailableError unless the database answers."""
    with database.reading() as connection:
        connection.execute(text("SELECT 1"))
