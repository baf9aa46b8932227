"""Column types and the database's clock, alike on SQLite and PostgreSQL."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ColumnElement, DateTime, Integer, Text, literal, or_
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator

#: Surrogate key: 64 bit; on SQLite the rowid.
Id = BigInteger().with_variant(Integer(), "sqlite")
Json = JSON().with_variant(JSONB(), "postgresql")


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC timestamp; SQLite keeps it as ISO text, PostgreSQL as ``timestamptz``."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None or value.tzinfo is not None:
            return value
        return value.replace(tzinfo=UTC)


class _Clock(FunctionElement[datetime]):
    name = "utc_clock"
    type = UtcDateTime()
    inherit_cache = True


def utc_now(plus_seconds: float | ColumnElement[float] = 0) -> FunctionElement[datetime]:
    """The database's wall clock now, plus some seconds: leases never trust a worker's clock."""
    if isinstance(plus_seconds, ColumnElement):
        return _Clock(plus_seconds)
    return _Clock(literal(float(plus_seconds)))


@compiles(_Clock, "postgresql")
def _postgresql_clock(element: _Clock, compiler: SQLCompiler, **kwargs: Any) -> str:
    seconds = compiler.process(element.clauses, **kwargs)
    # Of the statement: stable, so that a comparison with it can be looked up in an index.
    return f"(statement_timestamp() + make_interval(secs => {seconds}))"


@compiles(_Clock, "sqlite")
def _sqlite_clock(element: _Clock, compiler: SQLCompiler, **kwargs: Any) -> str:
    seconds = compiler.process(element.clauses, **kwargs)
    # Same text format as SQLAlchemy's own storage of timestamps, so that text order is time order.
    return f"strftime('%Y-%m-%d %H:%M:%f000', 'now', {seconds} || ' seconds')"


class UtcNowText(FunctionElement[str]):
    """The database's wall clock now as in JSON: ISO 8601, with milliseconds and ``Z``."""

    type = Text()
    inherit_cache = True


@compiles(UtcNowText, "postgresql")
def _postgresql_now_text(element: UtcNowText, compiler: SQLCompiler, **kwargs: Any) -> str:
    return """to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')"""


@compiles(UtcNowText, "sqlite")
def _sqlite_now_text(element: UtcNowText, compiler: SQLCompiler, **kwargs: Any) -> str:
    return "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"


def is_one_of(column: ColumnElement[str], names: Iterable[str]) -> ColumnElement[bool]:
    """``column IN names``, of names that are always the same: without the work that SQLAlchemy
    has with the parameters of an ``IN`` at every execution."""
    return or_(*(column == name for name in sorted(names)))


class _JsonFunction(FunctionElement[Any]):
    """A function that makes JSON, in the names of both databases."""

    type = Json
    inherit_cache = True
    postgresql_name: str
    sqlite_name: str


class JsonArray(_JsonFunction):
    """Its arguments as one array."""

    inherit_cache = True
    postgresql_name, sqlite_name = "json_build_array", "json_array"


class JsonObject(_JsonFunction):
    """Its arguments, a name and its value in turns, as one object."""

    inherit_cache = True
    postgresql_name, sqlite_name = "jsonb_build_object", "json_object"


class JsonList(_JsonFunction):
    """Aggregate: the rows' values as one array; NULL or empty without rows."""

    inherit_cache = True
    postgresql_name, sqlite_name = "json_agg", "json_group_array"


class JsonMap(_JsonFunction):
    """Aggregate: the rows' (key, value) as one object; NULL or empty without rows."""

    inherit_cache = True
    postgresql_name, sqlite_name = "json_object_agg", "json_group_object"


@compiles(_JsonFunction, "postgresql")
def _postgresql_json(element: _JsonFunction, compiler: SQLCompiler, **kwargs: Any) -> str:
    return f"{element.postgresql_name}({compiler.process(element.clauses, **kwargs)})"


@compiles(_JsonFunction, "sqlite")
def _sqlite_json(element: _JsonFunction, compiler: SQLCompiler, **kwargs: Any) -> str:
    return f"{element.sqlite_name}({compiler.process(element.clauses, **kwargs)})"
