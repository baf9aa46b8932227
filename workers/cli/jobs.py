"""``mediaweave jobs``: what was submitted, and what people do to it."""

from collections.abc import Callable
from typing import Annotated

import typer
from rich.console import Console

from pipeline.config import Settings, load_settings
from pipeline.db import queries
from pipeline.db.engine import Database
from pipeline.errors import ConfigurationError
from pipeline.runner.control import cancel, pause, resume, retry
from workers.cli import EXIT_FAILED, EXIT_INTERRUPTED
from workers.cli.options import DatabaseOption, JsonOption, open_existing, print_json
from workers.cli.report import print_failed, print_job_errors, print_jobs

jobs_app = typer.Typer(help="List, watch, cancel, pause and retry jobs.", no_args_is_help=True)

#: Ids beyond these no database has.
JobArgument = Annotated[int, typer.Argument(metavar="JOB", min=1, max=2**62)]
STATES = "expanding running paused cancelling done failed cancelled".split()


@jobs_app.command("list")
def list_jobs(
    state: Annotated[
        str | None, typer.Option("--state", help=f"One of: {', '.join(STATES)}.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1)] = 20,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the newest jobs."""
    if state is not None and state not in STATES:
        raise ConfigurationError(f"there is no job state {state!r}; known are: {', '.join(STATES)}")
    with open_existing(load_settings(database=database)).reading() as connection:
        rows = queries.jobs_table(connection, limit, state)
    print_json(rows) if as_json else print_jobs(rows)


@jobs_app.command("show")
def show_job(
    job: JobArgument, database: DatabaseOption = None, as_json: JsonOption = False
) -> None:
    """Show a job with its failures."""
    with open_existing(load_settings(database=database)).reading() as connection:
        row = queries.job_row(connection, job)
        failures = queries.failures(connection, job)
        stages = queries.job_stages(connection, job)
    if as_json:
        print_json({**row, "stages": stages, "failures": failures})
        return
    console = Console(highlight=False)
    print_jobs([row])
    print_job_errors(row, stages, console)
    print_failed(failures, console)


@jobs_app.command("watch")
def watch_job(job: JobArgument, database: DatabaseOption = None) -> None:
    """Show a job's progress until it ends; exit 1 if something of it failed, 130 on Ctrl-C."""
    from workers.cli.progress import JobDisplay
    from workers.cli.watch import watch

    opened = open_existing(load_settings(database=database))
    with opened.reading() as connection:
        queries.job_row(connection, job)
    try:
        with JobDisplay() as display:
            status = watch(opened, job, display, still_wanted=lambda: True)
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_INTERRUPTED) from None
    with opened.reading() as connection:
        row = queries.job_row(connection, job)
    print_jobs([row])
    if status.state != "done":
        raise typer.Exit(EXIT_FAILED)


@jobs_app.command("cancel")
def cancel_job(
    job: JobArgument, database: DatabaseOption = None, as_json: JsonOption = False
) -> None:
    """End a job: nothing more of it is started, and what runs at this moment ends."""
    _change(cancel, database, job, "is over already", as_json=as_json)


@jobs_app.command("pause")
def pause_job(
    job: JobArgument, database: DatabaseOption = None, as_json: JsonOption = False
) -> None:
    """Start nothing more of a job until it is resumed."""
    _change(pause, database, job, "is over, or paused already", as_json=as_json)


@jobs_app.command("resume")
def resume_job(
    job: JobArgument, database: DatabaseOption = None, as_json: JsonOption = False
) -> None:
    """Go on with a paused job."""
    _change(resume, database, job, "is not paused", as_json=as_json)


@jobs_app.command("retry")
def retry_job(
    job: JobArgument,
    error_class: Annotated[
        str | None,
        typer.Option("--error-class", metavar="X", help="Only these; else all but bad media."),
    ] = None,
    stage: Annotated[str | None, typer.Option("--stage", help="Only this stage.")] = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Queue what failed in a job again."""
    retry_failed(load_settings(database=database), job, error_class, stage, as_json=as_json)


def _change(
    change: Callable[[Database, int], bool],
    database: str | None,
    job: int,
    otherwise: str,
    *,
    as_json: bool,
) -> None:
    """Do something to a job and show it; exit 1 with ``otherwise`` if that changed nothing."""
    opened = open_existing(load_settings(database=database))
    changed = change(opened, job)
    with opened.reading() as connection:
        row = queries.job_row(connection, job)
    print_json({**row, "changed": changed}) if as_json else print_jobs([row])
    if not changed:
        typer.echo(f"mediaweave: job {job} {otherwise}", err=True)
        raise typer.Exit(EXIT_FAILED)


def retry_failed(
    settings: Settings,
    job: int | None,
    error_class: str | None,
    stage: str | None,
    *,
    as_json: bool,
) -> None:
    """Retry, and say how many stage runs that were; exit 1 if none."""
    retried = retry(open_existing(settings), job_id=job, error_class=error_class, stage=stage)
    if as_json:
        print_json({"retried": retried})
    elif retried:
        print(f"{retried} stage runs are queued again")
    else:
        print("nothing failed that matches")
    if not retried:
        raise typer.Exit(EXIT_FAILED)
