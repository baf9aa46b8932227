"""What a rule about the rows is made of."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, Self

from sqlalchemy import Connection, Table, func, select

from pipeline.config import Settings
from schemas.tables import stage_run
from schemas.types import utc_now

#: ``broken``: can never be, whatever happened. ``late``: somebody should have done something.
Severity = Literal["broken", "late"]

#: Rules that compare contents look at the newest stage runs only: what a bug writes, it writes now.
NEWEST_RUNS = 100_000

#: The advice where only a bug, or a hand, can have written what was found.
REPORT = "no command repairs this: report it with what `mediaweave sql` says of the rows"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The settings that rules are measured by; the defaults are those of the settings."""

    lease_seconds: float = 60
    max_attempts: int = 3
    republish_seconds: float = 300

    @classmethod
    def of(cls, settings: Settings) -> Self:
        return cls(
            lease_seconds=settings.lease_seconds,
            max_attempts=settings.max_attempts,
            republish_seconds=settings.republish_seconds,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Something that must not be found in the database."""

    name: str
    #: What is found then, as the beginning of a sentence that goes on with how many.
    wrong: str
    #: What to do; ``{id}`` and ``{ids}`` are the first, or the examples, of the first key.
    advice: str
    #: A SELECT of the keys of what is wrong, each column named for what it identifies; by dialect
    #: where one text does not do. With ``table``: a condition on its rows. The conditions on one
    #: table are looked at in one pass over it.
    sql: str | Mapping[str, str]
    table: Table | None = None
    severity: Severity = "broken"
    #: Holds only when nothing is under way any more.
    only_settled: bool = False


def rule_values(connection: Connection, limits: Limits) -> dict[str, Any]:
    """The values of the names in rules, by the database's clock."""
    now: datetime = connection.execute(select(utc_now())).scalar_one()

    def ago(seconds: float) -> datetime:
        return now - timedelta(seconds=seconds)

    newest = connection.execute(select(func.max(stage_run.c.id))).scalar_one()
    return {
        "max_attempts": limits.max_attempts,
        "minute_ago": ago(60),
        "minutes_ago": ago(300),
        "hour_ago": ago(3600),
        "day_ago": ago(86400),
        # Renewed three times in its life, and looked for every few seconds when it is over.
        "lease_lost": ago(5 * limits.lease_seconds),
        "message_lost": ago(3 * limits.republish_seconds),
        "newest": (newest or 0) - NEWEST_RUNS,
    }
