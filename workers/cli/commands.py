"""The commands: each parses its options, calls the code that does the work, and prints."""

from importlib import metadata
from typing import Annotated, Any

import typer

from pipeline.config import load_settings
from pipeline.db import queries
from pipeline.db.engine import open_database
from pipeline.db.migrate import ensure_schema, upgrade
from pipeline.telemetry import configure_logging
from workers.cli import EXIT_FAILED
from workers.cli.ask import ask
from workers.cli.clean import clean
from workers.cli.dead_letters import dead_letters_app
from workers.cli.events import events_app
from workers.cli.jobs import jobs_app, retry_failed
from workers.cli.match import match
from workers.cli.models import models
from workers.cli.options import (
    DatabaseOption,
    JsonOption,
    LabelSetOption,
    LabelsOption,
    NameOption,
    PriorityOption,
    ProfileOption,
    SetOption,
    Sources,
    message_of,
    open_existing,
    print_json,
)
from workers.cli.report import print_asset, print_rows
from workers.cli.schedules import schedules_app
from workers.cli.sweep import sweep
from workers.cli.train import evaluate, train
from workers.supervisor import HEARTBEAT_OPTION

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
database_app = typer.Typer(help="Look after the database.", no_args_is_help=True)
app.add_typer(database_app, name="database")
app.add_typer(jobs_app, name="jobs")
app.add_typer(schedules_app, name="schedule")
app.add_typer(events_app, name="events")
app.add_typer(dead_letters_app, name="dead-letters")


@app.callback(invoke_without_command=True)
def mediaweave(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Media in, SQL out: tags, captions, classes and transcripts of videos, images and sound."""
    if version:
        print(f"mediaweave {metadata.version('mediaweave')}")
        raise typer.Exit


@app.command()
def run(
    sources: Sources,
    database: DatabaseOption = None,
    profile: ProfileOption = None,
    labels: LabelsOption = None,
    label_set: LabelSetOption = None,
    overrides: SetOption = None,
    name: NameOption = None,
    as_json: JsonOption = False,
) -> None:
    """Analyse SOURCES here and now, and store the results.

    Exit code 0: every asset succeeded; 1: some failed and are listed; 2: wrong usage, or a store,
    database or broker cannot be reached; 130: interrupted (the next run goes on from there).
    """
    from workers.cli.run import run_job

    settings = load_settings(database=database)
    message = message_of(
        sources,
        profile=profile,
        labels=labels,
        label_set=label_set,
        overrides=overrides,
        name=name,
    )
    raise typer.Exit(run_job(settings, message, as_json=as_json))


@app.command()
def submit(
    sources: Sources,
    database: DatabaseOption = None,
    profile: ProfileOption = None,
    labels: LabelsOption = None,
    label_set: LabelSetOption = None,
    overrides: SetOption = None,
    name: NameOption = None,
    key: Annotated[
        str | None, typer.Option("--key", help="Submitting the same key twice is one job.")
    ] = None,
    priority: PriorityOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Write a job into the database; workers take it from there."""
    from pipeline.runner.intake import submit as submit_job
    from pipeline.runner.runtime import Runtime

    settings = load_settings(database=database)
    message = message_of(
        sources,
        profile=profile,
        labels=labels,
        label_set=label_set,
        overrides=overrides,
        name=name,
        job_key=key,
        priority=priority,
    )
    configure_logging(level="WARNING", as_json=False)
    runtime = Runtime(settings)
    try:
        ensure_schema(runtime.database)
        job_id = submit_job(runtime, message)
        with runtime.database.reading() as connection:
            row = queries.job_row(connection, job_id)
    finally:
        runtime.close()
    if as_json:
        print_json(row)
    else:
        print(f"job {job_id}: {row['assets_total']} assets, {row['state']}")


@app.command()
def worker(
    database: DatabaseOption = None,
    queues: Annotated[
        str, typer.Option("--queues", help="Which kinds of work to take, by comma.")
    ] = "io,cpu,device",
    concurrency: Annotated[
        int | None, typer.Option("--concurrency", min=1, help="Stage runs worked on at once.")
    ] = None,
) -> None:
    """Work off jobs until stopped. A process that dies, hangs or needs too much memory is replaced.

    SIGTERM or Ctrl-C lets what runs end, within a set time; a second one gives it back at once.
    """
    from workers.cli.run import run_worker

    settings = load_settings(database=database, concurrency=concurrency)
    raise typer.Exit(run_worker(settings, queues.split(",")))


@app.command("worker-process", hidden=True)
def worker_process(
    heartbeat_pipe: Annotated[int, typer.Option(HEARTBEAT_OPTION)],
    queues: Annotated[str, typer.Option("--queues")],
) -> None:
    """What `worker` starts, and replaces."""
    from workers.cli.run import run_worker_process

    raise typer.Exit(run_worker_process(load_settings(), queues.split(","), heartbeat_pipe))


@app.command()
def dispatcher(database: DatabaseOption = None) -> None:
    """Dispatch, send events and fire schedules without doing the work itself.

    Every worker does that too; this is for machines that keep a cluster going. Any number may run.
    """
    from workers.cli.run import run_dispatcher

    raise typer.Exit(run_dispatcher(load_settings(database=database)))


@app.command()
def intake(database: DatabaseOption = None) -> None:
    """Take in jobs and the events of buckets from queues, and over HTTP, as the settings say."""
    from workers.intake.process import run_intake

    raise typer.Exit(run_intake(load_settings(database=database)))


@app.command()
def retry(
    error_class: Annotated[
        str, typer.Option("--error-class", metavar="X", help="Such as StoreUnavailableError.")
    ],
    stage: Annotated[str | None, typer.Option("--stage", help="Only this stage.")] = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring back a class of failures, of all jobs: their stage runs are queued again."""
    retry_failed(load_settings(database=database), None, error_class, stage, as_json=as_json)


@app.command()
def show(
    assets: Annotated[
        list[str], typer.Argument(metavar="URI|ASSET", help="Paths, URIs or asset ids.")
    ],
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what was found in assets: shots, tags, classes, captions and text."""
    from pipeline.runner.named_assets import assets_named

    opened = open_existing(load_settings(database=database))
    found: list[dict[str, Any]] = []
    missing = []
    with opened.reading() as connection:
        for given in assets:
            ids, uri = assets_named(connection, given)
            if ids:
                found += [queries.asset_details(connection, asset_id) for asset_id in ids]
                continue
            tried = queries.failed_ingests(connection, uri)
            missing.append((given, tried))
    if as_json:
        print_json(found[0] if len(assets) == 1 and len(found) == 1 else found)
    else:
        for details in found:
            print_asset(details)
    for given, tried in missing:
        reason = "not in the database"
        if tried:
            reason = ": ".join(filter(None, (tried[-1]["state"], tried[-1]["error_text"])))
        typer.echo(f"{given}: {reason}", err=True)
    if missing:
        raise typer.Exit(EXIT_FAILED)


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help="A SELECT over the v_… views.")],
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask the database, read-only; for a machine without a SQL client."""
    opened = open_existing(load_settings(database=database))
    rows = queries.read_only(opened, query)
    print_json(rows) if as_json else print_rows(rows)


@app.command()
def search(
    query: Annotated[str, typer.Argument(help="Words, or what it is about.")],
    database: DatabaseOption = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000)] = 10,
    as_json: JsonOption = False,
) -> None:
    """Find shots by the words in them and by what they are about."""
    from pipeline.runner.runtime import Runtime
    from pipeline.runner.search import search as search_shots

    configure_logging(level="WARNING", as_json=False)
    runtime = Runtime(load_settings(database=database))
    try:
        ensure_schema(runtime.database)
        hits = search_shots(runtime, query, limit=limit)
    finally:
        runtime.close()
    print_json(hits) if as_json else print_rows(hits)


@app.command()
def doctor(
    sources: Annotated[
        list[str] | None, typer.Argument(metavar="SOURCE", help="Buckets or folders to try.")
    ] = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Check the database, the stores and the queues instead.")
    ] = False,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check what is installed and what can be reached; exit 1 if something is wrong."""
    from workers.cli.deep import examine_deeply
    from workers.cli.doctor import examine, print_findings

    settings = load_settings(database=database)
    findings = examine_deeply(settings) if deep else examine(settings, sources or [])
    if as_json:
        print_json([finding.as_dict() for finding in findings])
    else:
        print_findings(findings)
    if any(finding.level == "wrong" for finding in findings):
        raise typer.Exit(EXIT_FAILED)


@database_app.command("upgrade")
def database_upgrade(database: DatabaseOption = None) -> None:
    """Create the tables, or bring them to this version; while no worker is at work on them."""
    opened = open_database(load_settings(database=database).database_url)
    upgrade(opened)
    print(f"{opened.display_url} is up to date")


app.command()(ask)
app.command()(train)
app.command()(evaluate)
app.command()(match)
app.command()(sweep)
app.command()(clean)
app.command()(models)
