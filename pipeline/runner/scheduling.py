"""Schedules become jobs: each time that comes is fired once, by whichever process sees it first.

1. One transaction decides on the time to fire for, by the database's clock, and writes it down.
2. The job is accepted under a key made of the schedule and that time.
3. One transaction writes down what came of it, and the schedule's next time.

A process that dies in between leaves the schedule due: the next one goes on with the time that was
decided on, and the key makes it the same job.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog

from pipeline.config import Settings
from pipeline.db import schedules
from pipeline.db.engine import Database
from pipeline.errors import ConfigurationError, TransientError
from pipeline.plan.profiles import resolve_plan
from pipeline.runner.cron import Cron
from pipeline.runner.intake import accept, read_message
from pipeline.runner.runtime import Runtime
from pipeline.runner.sweep import sweep_message
from pipeline.storage.local import normalise_uri
from schemas.messages import JobMessage

log = structlog.get_logger()

#: Names of the schedules that are made of the settings' rules begin so.
SWEEP_PREFIX = "sweep:"
#: Longest name, so that the key of a job has room for the time too.
MAX_NAME_CHARS = 150


@dataclass(frozen=True, slots=True, kw_only=True)
class Fire:
    """A time that was decided on."""

    schedule_id: int
    name: str
    fire_at: datetime
    cron: Cron
    message: dict[str, Any]


def fire_due(runtime: Runtime, *, still_wanted: Callable[[], bool] = lambda: True) -> int:
    """Fire every schedule that is due; gives how many were. Any number of processes may do so.

    A schedule whose time was missed, even many times, is fired once, for the latest.

    Raises:
        DatabaseUnavailableError: what was decided on stays due.
    """
    with runtime.database.reading() as connection:
        ids = schedules.due(connection)
    fired = 0
    for schedule_id in ids:
        if not still_wanted():
            break
        try:
            fire = decide(runtime, schedule_id)
        except ConfigurationError as error:
            # A row that somebody wrote by hand: it stays due, and the others go on.
            log.error("schedule_wrong", schedule_id=schedule_id, reason=str(error))  # noqa: TRY400
            continue
        if fire is not None:
            settle(runtime, fire, *carry_out(runtime, fire))
            fired += 1
    return fired


def decide(runtime: Runtime, schedule_id: int) -> Fire | None:
    """The time to fire a due schedule for; ``None`` where there is nothing to do any more.

    Raises:
        ConfigurationError: the row's cron expression or time zone is wrong.
    """
    with runtime.database.transaction() as connection:
        row = schedules.lock_due(connection, schedule_id)
        if row is None:
            return None
        cron = Cron.parse(row.cron, row.time_zone)
        fire_at = schedules.open_fire(connection, row)
        if fire_at is None:
            fire_at = cron.latest(since=row.next_fire_at, until=row.now)
            schedules.add_fire(connection, row.id, fire_at)
    return Fire(
        schedule_id=row.id,
        name=row.name,
        # PostgreSQL answers in the time zone of its session; the job's key must not depend on it.
        fire_at=fire_at.astimezone(UTC),
        cron=cron,
        message=row.message,
    )


def carry_out(runtime: Runtime, fire: Fire) -> tuple[int | None, str | None]:
    """Accept the job of a fire; gives its id, or why there is none. The same fire is the same job.

    Raises:
        TransientError: try again later.
    """
    key = f"schedule:{fire.name}:{fire.fire_at.isoformat()}"
    try:
        message = read_message({**fire.message, "job_key": key})
        accepted = accept(runtime, message, origin=_origin(fire.name))
    except TransientError:
        raise
    except ConfigurationError as error:
        # Such as a profile that is gone: the next time may find it right again.
        log.error("schedule_not_fired", schedule=fire.name, reason=str(error))  # noqa: TRY400
        return None, str(error)
    except Exception as error:
        # A bug must be loud, and must not keep this or other schedules from going on.
        log.exception("schedule_bug", schedule=fire.name)
        return None, f"{type(error).__name__}: {error}"
    if accepted.is_new:
        log.info("schedule_fired", job_key=key, job_id=accepted.job_id)
    return accepted.job_id, None


def settle(runtime: Runtime, fire: Fire, job_id: int | None, error_text: str | None) -> None:
    """Write what came of a fire, and wait for the next time."""
    with runtime.database.transaction() as connection:
        schedules.settle(
            connection,
            fire.schedule_id,
            fire.fire_at,
            next_fire_at=fire.cron.after(fire.fire_at),
            job_id=job_id,
            error_text=error_text,
        )


def add(
    runtime: Runtime, *, name: str, cron: str, time_zone: str, message: JobMessage
) -> list[datetime]:
    """Add a schedule; gives its next three times, in its time zone.

    Raises:
        ConfigurationError: the expression, zone, name or message is wrong, or the name is taken.
    """
    if name.startswith(SWEEP_PREFIX):
        raise ConfigurationError(
            f"names that begin with {SWEEP_PREFIX!r} are those of the settings' rules; take another"
        )
    parsed = Cron.parse(cron, time_zone)
    resolve_plan(message, runtime.settings)
    for source in message.sources:
        normalise_uri(source)
    with runtime.database.transaction() as connection:
        times = parsed.next_times(schedules.now(connection), 3)
        schedules.add(connection, _row(name, parsed, message), times[0])
    return times


def enable(database: Database, name: str) -> list[datetime]:
    """Fire again from the next time on; gives the next three. What is enabled stays as it is.

    Raises:
        ConfigurationError: there is no such schedule, or it is one of the settings.
    """
    with database.transaction() as connection:
        row = schedules.lock_named(connection, _of_people(name))
        times = Cron.parse(row.cron, row.time_zone).next_times(schedules.now(connection), 3)
        if not row.enabled:
            schedules.enable(connection, row.id, times[0])
    return times


def disable(database: Database, name: str) -> None:
    """Fire no more until :func:`enable`. Raises as that does."""
    with database.transaction() as connection:
        row = schedules.lock_named(connection, _of_people(name))
        schedules.disable(connection, row.id)


def remove(database: Database, name: str) -> None:
    """Forget a schedule; its jobs stay. Raises as :func:`enable`."""
    with database.transaction() as connection:
        row = schedules.lock_named(connection, _of_people(name))
        schedules.remove(connection, row.id)


def run_now(runtime: Runtime, name: str) -> int:
    """Submit the schedule's job once, now, beside its times; gives the job's id.

    Raises:
        ConfigurationError: there is no such schedule, or its message is wrong.
    """
    with runtime.database.reading() as connection:
        stored = schedules.details(connection, name, fires=0)["message"]
    accepted = accept(runtime, read_message(stored), origin=_origin(name))
    with runtime.database.transaction() as connection:
        schedules.record_run(connection, schedules.lock_named(connection, name).id, accepted.job_id)
    return accepted.job_id


def sweeps_of(settings: Settings) -> list[tuple[str, Cron, JobMessage]]:
    """The schedules that the settings' rules ask for, by name.

    Raises:
        ConfigurationError: a rule's sweep is no cron expression, its time zone is unknown, or its
            name is too long.
    """
    found = []
    for rule_name, rule in sorted(settings.rules.items()):
        if rule.sweep is None:
            continue
        name = SWEEP_PREFIX + rule_name
        if len(name) > MAX_NAME_CHARS:
            raise ConfigurationError(
                f"the name of the rule {rule_name!r} is longer than "
                f"{MAX_NAME_CHARS - len(SWEEP_PREFIX)} characters"
            )
        try:
            cron = Cron.parse(rule.sweep, rule.time_zone)
        except ConfigurationError as error:
            raise ConfigurationError(f"rules.{rule_name}.sweep: {error}") from error
        found.append((name, cron, sweep_message(rule_name, rule)))
    return found


def sync_sweeps(runtime: Runtime) -> None:
    """Bring the schedules of the settings' rules into the database; those of rules that are gone
    are disabled. Raises as :func:`sweeps_of`, and DatabaseUnavailableError."""
    wanted = sweeps_of(runtime.settings)
    names = {name for name, _, _ in wanted}
    with runtime.database.transaction() as connection:
        now = schedules.now(connection)
        for name, cron, message in wanted:
            schedules.put(connection, _row(name, cron, message), cron.after(now))
        for row in schedules.enabled_with_prefix(connection, SWEEP_PREFIX):
            if row.name not in names:
                schedules.disable(connection, row.id)
                log.info("sweep_disabled", schedule=row.name)


def _row(name: str, cron: Cron, message: JobMessage) -> schedules.NewSchedule:
    return schedules.NewSchedule(
        name=name,
        cron=cron.expression,
        time_zone=cron.zone.key,
        message={"version": message.version}
        | message.model_dump(mode="json", exclude_defaults=True),
    )


def _of_people(name: str) -> str:
    if name.startswith(SWEEP_PREFIX):
        raise ConfigurationError(
            f"{name!r} comes from the settings: change or remove `sweep` of the rule "
            f"{name.removeprefix(SWEEP_PREFIX)!r} there, and start the processes again"
        )
    return name


def _origin(name: str) -> str:
    return "sweep" if name.startswith(SWEEP_PREFIX) else "schedule"
