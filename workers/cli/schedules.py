"""``mediaweave schedule``: jobs that are submitted at set times."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any
from zoneinfo import ZoneInfo

import typer

from pipeline.config import load_settings
from pipeline.db import schedules
from pipeline.db.migrate import ensure_schema
from pipeline.errors import ConfigurationError
from pipeline.telemetry import configure_logging
from workers.cli.options import (
    DatabaseOption,
    JsonOption,
    LabelSetOption,
    LabelsOption,
    PriorityOption,
    ProfileOption,
    SetOption,
    Sources,
    message_of,
    open_existing,
    print_json,
)
from workers.cli.report import escape, print_rows

if TYPE_CHECKING:
    from pipeline.runner.runtime import Runtime

schedules_app = typer.Typer(help="Submit jobs at set times.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(metavar="NAME")]

_NAME = re.compile(r"\w[\w.-]{0,99}")
#: Fires that `show` shows.
_FIRES_SHOWN = 20


@schedules_app.command("add")
def add_schedule(
    name: NameArgument,
    cron: Annotated[
        str,
        typer.Argument(
            metavar="CRON",
            help='Minute, hour, day of month, month, day of week: "30 2 * * *" is daily at 2:30.',
        ),
    ],
    sources: Sources,
    database: DatabaseOption = None,
    time_zone: Annotated[
        str, typer.Option("--time-zone", metavar="ZONE", help="Such as Europe/Berlin.")
    ] = "UTC",
    profile: ProfileOption = None,
    labels: LabelsOption = None,
    label_set: LabelSetOption = None,
    overrides: SetOption = None,
    priority: PriorityOption = 0,
    only_new: Annotated[
        bool, typer.Option("--only-new", help="Leave out files that were submitted before.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Submit SOURCES as a job at the times of CRON."""
    from pipeline.runner import scheduling

    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"{name!r} is no name of a schedule: letters, digits, '.', '_' and '-', 100 at most"
        )
    message = message_of(
        sources,
        labels=labels,
        overrides=overrides,
        name=name,
        profile=profile,
        label_set=label_set,
        priority=priority,
        only_new=only_new,
    )
    with _runtime(database) as runtime:
        times = scheduling.add(runtime, name=name, cron=cron, time_zone=time_zone, message=message)
    _print_times(name, times, as_json)


@schedules_app.command("list")
def list_schedules(database: DatabaseOption = None, as_json: JsonOption = False) -> None:
    """List schedules with their next time and their last job."""
    with open_existing(load_settings(database=database)).reading() as connection:
        rows = schedules.table(connection)
    if as_json:
        print_json(rows)
        return
    print_rows(
        [
            {
                "name": row["name"],
                "cron": row["cron"],
                "time zone": row["time_zone"],
                "next": _local(row["next_fire_at"], row) if row["enabled"] else "disabled",
                "last": _local(row["last_fire_at"], row),
                "job": row["last_job_id"],
                "error": row["last_error"],
            }
            for row in rows
        ]
    )


@schedules_app.command("show")
def show_schedule(
    name: NameArgument, database: DatabaseOption = None, as_json: JsonOption = False
) -> None:
    """Show a schedule, its next times, and what came of the last ones."""
    from pipeline.runner.cron import Cron

    with open_existing(load_settings(database=database)).reading() as connection:
        row = schedules.details(connection, name, fires=_FIRES_SHOWN)
        now = schedules.now(connection)
    cron = Cron.parse(row["cron"], row["time_zone"])
    times = cron.next_times(now, 3) if row["enabled"] else []
    if as_json:
        print_json({**row, "next_times": times})
        return
    state = "next " + ", ".join(map(str, times)) if times else "disabled"
    print(f"{escape(row['name'])}: {row['cron']} ({row['time_zone']}), {state}")
    print(json.dumps(row["message"], ensure_ascii=False))
    print_rows(
        [
            {
                "for": _local(fire["fire_at"], row),
                "fired": _local(fire["fired_at"], row),
                "job": fire["job_id"],
                "error": fire["error_text"],
            }
            for fire in row["fires"]
        ]
    )


@schedules_app.command("enable")
def enable_schedule(
    name: NameArgument, database: DatabaseOption = None, as_json: JsonOption = False
) -> None:
    """Submit again, from the next time on."""
    from pipeline.runner import scheduling

    times = scheduling.enable(open_existing(load_settings(database=database)), name)
    _print_times(name, times, as_json)


@schedules_app.command("disable")
def disable_schedule(name: NameArgument, database: DatabaseOption = None) -> None:
    """Submit no more until it is enabled again."""
    from pipeline.runner import scheduling

    scheduling.disable(open_existing(load_settings(database=database)), name)
    print(f"{name}: disabled")


@schedules_app.command("remove")
def remove_schedule(name: NameArgument, database: DatabaseOption = None) -> None:
    """Forget a schedule; the jobs that it submitted stay."""
    from pipeline.runner import scheduling

    scheduling.remove(open_existing(load_settings(database=database)), name)
    print(f"{name}: removed")


@schedules_app.command("run")
def run_schedule(
    name: NameArgument, database: DatabaseOption = None, as_json: JsonOption = False
) -> None:
    """Submit a schedule's job now, beside its times."""
    from pipeline.runner import scheduling

    with _runtime(database) as runtime:
        job_id = scheduling.run_now(runtime, name)
    print_json({"name": name, "job_id": job_id}) if as_json else print(f"job {job_id}")


@contextmanager
def _runtime(database: str | None) -> "Iterator[Runtime]":
    from pipeline.runner.runtime import Runtime

    configure_logging(level="WARNING", as_json=False)
    runtime = Runtime(load_settings(database=database))
    try:
        ensure_schema(runtime.database)
        yield runtime
    finally:
        runtime.close()


def _local(moment: datetime | None, row: Mapping[str, Any]) -> str:
    """A time as the schedule's own clock shows it."""
    if moment is None:
        return ""
    return moment.astimezone(ZoneInfo(row["time_zone"])).isoformat(sep=" ", timespec="seconds")


def _print_times(name: str, times: Sequence[datetime], as_json: bool) -> None:
    if as_json:
        print_json({"name": name, "next_times": times})
        return
    print(f"{name}: next " + ", ".join(str(time) for time in times))
