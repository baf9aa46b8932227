"""Looks whether the rules about the rows hold: what a live database must never show.

Safe beside work: reads only, and what one transaction of the work changes is seen as a whole. Dear
as one pass over ``stage_run``, ``job``, ``job_item`` and ``head`` each, and looks into indexes.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Row, Table, TextClause, bindparam, func, select, text

from pipeline.db import job_rules, result_rules, run_rules
from pipeline.db.rule import Limits, Rule, Severity, rule_values
from schemas.types import UtcDateTime

__all__ = ["RULES", "Limits", "Rule", "Violation", "check_invariants"]

RULES = (*run_rules.RULES, *job_rules.RULES, *result_rules.RULES)

#: Ids that a violation names.
EXAMPLES = 5
#: How far a violation is counted where counting costs.
MOST_COUNTED = 1000

_NAME = re.compile(r":(\w+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """A rule that does not hold.

    ``count`` stops at 1,000 for rules over several tables. ``examples``: up to five, each saying
    what it is, such as ``job 3 location 7``. ``text`` and ``advice`` are for a person: what is
    wrong, and what to do.
    """

    name: str
    count: int
    examples: tuple[str, ...]
    text: str
    advice: str
    severity: Severity


def check_invariants(
    connection: Connection, *, settled: bool = False, limits: Limits | None = None
) -> list[Violation]:
    """Every rule that does not hold at this moment; reads only.

    ``settled``: nothing is under way any more, so nothing may be unfinished either.
    """
    rules = [rule for rule in RULES if settled or not rule.only_settled]
    values = rule_values(connection, limits or Limits())
    found = {violation.name: violation for violation in _in_one_pass(connection, rules, values)}
    for rule in rules:
        if rule.table is None:
            sql = f"{_of_dialect(connection, rule)} LIMIT {MOST_COUNTED}"
            rows = connection.execute(_statement(sql, values), values).fetchall()
            if rows:
                found[rule.name] = _violation(rule, rows, len(rows))
    return [found[rule.name] for rule in rules if rule.name in found]


def _in_one_pass(
    connection: Connection, rules: Iterable[Rule], values: dict[str, Any]
) -> Iterable[Violation]:
    """The rules about single rows: all those about one table are counted together."""
    by_table = sorted((rule for rule in rules if rule.table is not None), key=_table_name)
    for _, group in groupby(by_table, key=_table_name):
        same = list(group)
        table = _table(same[0])
        wrong = [_statement(_of_dialect(connection, rule), values) for rule in same]
        pass_over = select(*(func.count().filter(condition) for condition in wrong))
        counts = connection.execute(pass_over.select_from(table), values).one()
        for rule, condition, count in zip(same, wrong, counts, strict=True):
            if count:
                keys = (column.label(_label(table, column.name)) for column in table.primary_key)
                examples = select(*keys).where(condition).limit(EXAMPLES)
                rows = connection.execute(examples, values).fetchall()
                if rows:  # else it was mended since
                    yield _violation(rule, rows, count)


def _of_dialect(connection: Connection, rule: Rule) -> str:
    return rule.sql if isinstance(rule.sql, str) else rule.sql[connection.dialect.name]


def _statement(sql: str, values: dict[str, Any]) -> TextClause:
    """The text with its names bound; times as this database stores them."""
    times = {name for name in _NAME.findall(sql) if isinstance(values[name], datetime)}
    return text(sql).bindparams(*(bindparam(name, type_=UtcDateTime()) for name in times))


def _violation(rule: Rule, rows: Sequence[Row[Any]], count: int) -> Violation:
    first = [row[0] for row in rows[:EXAMPLES]]
    examples = tuple(
        " ".join(f"{name.replace('_', ' ')} {value}" for name, value in row._mapping.items())
        for row in rows[:EXAMPLES]
    )
    at_least = "at least " if rule.table is None and count >= MOST_COUNTED else ""
    more = ", …" if count > len(examples) else ""
    ids = ",".join(str(key) for key in dict.fromkeys(first))
    return Violation(
        name=rule.name,
        count=count,
        examples=examples,
        text=f"{rule.wrong}: {at_least}{count} ({', '.join(examples)}{more})",
        advice=rule.advice.format(id=first[0], ids=ids),
        severity=rule.severity,
    )


def _table(rule: Rule) -> Table:
    assert rule.table is not None  # noqa: S101  the caller has picked such rules
    return rule.table


def _table_name(rule: Rule) -> str:
    return _table(rule).name


def _label(table: Table, column: str) -> str:
    return table.name if column == "id" else column.removesuffix("_id")
