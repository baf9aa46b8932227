"""What a database does with a query: whether it reads a table again for every row of another."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event

from pipeline.db.engine import Database


@contextmanager
def recorded(database: Database) -> Iterator[list[tuple[str, Any]]]:
    """The statements that are sent inside the block."""
    sent: list[tuple[str, Any]] = []

    def record(_c: Any, _u: Any, statement: str, values: Any, _x: Any, _m: bool) -> None:
        sent.append((statement, values))

    event.listen(database.engine, "before_cursor_execute", record)
    try:
        yield sent
    finally:
        event.remove(database.engine, "before_cursor_execute", record)


#: Tables of a handful of rows: looking through one is no cost.
SMALL = {"job", "worker", "schedule", "outbox", "j", "k", "w", "q"}


def _sqlite_scans(plan: list[Any]) -> list[str]:
    """Full scans inside a loop: the second in one level, or any in a correlated subquery."""
    details = {row.id: row for row in plan}
    nested = []
    seen: dict[int, int] = {}
    for row in plan:
        words = row.detail.split()
        if words[0] != "SCAN" or words[1] in SMALL or "VIRTUAL TABLE" in row.detail:
            continue
        parent, correlated = row.parent, False
        while parent:
            correlated |= details[parent].detail.startswith("CORRELATED")
            parent = details[parent].parent
        seen[row.parent] = seen.get(row.parent, 0) + 1
        if row.detail not in ("SCAN CONSTANT ROW", "SCAN 3 CONSTANT ROWS") and (
            correlated or seen[row.parent] > 1
        ):
            nested.append(row.detail)
    return [*nested, *(row.detail for row in plan if "AUTOMATIC" in row.detail)]


def _postgres_scans(node: dict[str, Any], *, repeated: bool = False) -> list[str]:
    """Sequential scans of what is not small, once per row of something else."""
    found = []
    if node["Node Type"] == "Seq Scan" and repeated and node["Relation Name"] not in SMALL:
        found.append(node["Relation Name"])
    for child in node.get("Plans", []):
        inner = node["Node Type"] == "Nested Loop" and child["Parent Relationship"] == "Inner"
        per_row = child["Parent Relationship"] == "SubPlan"
        # A hashed side is read once, whatever is above it.
        once = node["Node Type"] == "Hash"
        found += _postgres_scans(child, repeated=(repeated or inner or per_row) and not once)
    return found


def nested_scans(database: Database, sql: str, values: Any) -> list[str]:
    """What the plan of a query reads as a whole once per row of something else."""
    explain = "EXPLAIN QUERY PLAN " if database.is_sqlite else "EXPLAIN (FORMAT JSON) "
    with database.reading() as connection:
        plan = connection.exec_driver_sql(explain + sql, values).fetchall()
    return _sqlite_scans(plan) if database.is_sqlite else _postgres_scans(plan[0][0][0]["Plan"])
