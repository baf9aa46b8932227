"""The commands: each parses its options, calls the code that does the work, and prints."""

import json
import os
from datetime import datetime
from decimal import Decimal
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from pipeline.config import Settings, load_settings
from pipeline.db import queries
from pipeline.db.engine import Database, open_database
from pipeline.db.migrate import ensure_schema, upgrade
from pipeline.errors import ConfigurationError
from pipeline.fusion.taxonomy import load_labels
from pipeline.telemetry import configure_logging
from schemas.messages import JobMessage
from workers.cli import EXIT_FAILED
from workers.cli.report import print_asset, print_failed, print_jobs, print_rows

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
database_app = typer.Typer(help="Look after the database.", no_args_is_help=True)
app.add_typer(database_app, name="database")

DatabaseOption = Annotated[
    str | None,
    typer.Option(
        "--database",
        metavar="URL",
        help="sqlite:///file.db or postgresql://…; else MEDIAWEAVE_DATABASE, else an embedded one.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Sources = Annotated[
    list[str], typer.Argument(metavar="SOURCE", help="Files, folders, s3://bucket/prefix.")
]
ProfileOption = Annotated[
    str | None, typer.Option("--profile", metavar="NAME", help="offline, hub, or your own.")
]
LabelsOption = Annotated[
    str | None,
    typer.Option(
        "--labels",
        metavar="LIST|FILE",
        help="Your own classes: a comma-separated list, or a file with one label per line.",
    ),
]
LabelSetOption = Annotated[
    str | None,
    typer.Option("--label-set", metavar="NAME", help="What your classes are stored under."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="STAGE.NAME=VALUE", help="Override a stage's parameter."),
]
PriorityOption = Annotated[
    int, typer.Option("--priority", min=-100, max=100, help="Higher goes first.")
]
NameOption = Annotated[str | None, typer.Option("--name", help="A name for people.")]


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
    message = _message(
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
    message = _message(
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
        _print_json(row)
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
    """Work off jobs until stopped (SIGTERM or Ctrl-C; a second one stops at once)."""
    from workers.cli.run import run_worker

    settings = load_settings(database=database, concurrency=concurrency)
    raise typer.Exit(run_worker(settings, queues.split(",")))


@app.command()
def jobs(
    job: Annotated[
        int | None, typer.Argument(min=1, max=2**62, help="One job, with its failures.")
    ] = None,
    database: DatabaseOption = None,
    limit: Annotated[int, typer.Option("--limit", min=1)] = 20,
    as_json: JsonOption = False,
) -> None:
    """List the newest jobs, or show one."""
    opened = _open(load_settings(database=database))
    with opened.reading() as connection:
        if job is None:
            rows = queries.jobs_table(connection, limit)
            _print_json(rows) if as_json else print_jobs(rows)
            return
        row = queries.job_row(connection, job)
        failures = queries.failures(connection, job)
    if as_json:
        _print_json({**row, "failures": failures})
    else:
        print_jobs([row])
        print_failed(failures, Console())


@app.command()
def show(
    assets: Annotated[
        list[str], typer.Argument(metavar="URI|ASSET", help="Paths, URIs or asset ids.")
    ],
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what was found in assets: shots, tags, classes, captions and text."""
    from pipeline.storage.local import normalise_uri

    opened = _open(load_settings(database=database))
    found: list[dict[str, Any]] = []
    missing = []
    with opened.reading() as connection:
        for given in assets:
            ids = queries.find_assets(connection, given)
            uri = given if ids else normalise_uri(given)
            ids = ids or queries.find_assets(connection, uri)
            if ids:
                found += [queries.asset_details(connection, asset_id) for asset_id in ids]
                continue
            tried = queries.failed_ingests(connection, uri)
            missing.append((given, tried))
    if as_json:
        _print_json(found[0] if len(assets) == 1 and len(found) == 1 else found)
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
    opened = _open(load_settings(database=database))
    rows = queries.read_only(opened, query)
    _print_json(rows) if as_json else print_rows(rows)


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
    _print_json(hits) if as_json else print_rows(hits)


@app.command()
def doctor(
    sources: Annotated[
        list[str] | None, typer.Argument(metavar="SOURCE", help="Buckets or folders to try.")
    ] = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check what is installed and what can be reached; exit 1 if something is wrong."""
    from workers.cli.doctor import examine, print_findings

    findings = examine(load_settings(database=database), sources or [])
    if as_json:
        _print_json([finding.as_dict() for finding in findings])
    else:
        print_findings(findings)
    if any(finding.level == "wrong" for finding in findings):
        raise typer.Exit(EXIT_FAILED)


@database_app.command("upgrade")
def database_upgrade(database: DatabaseOption = None) -> None:
    """Create the tables, or bring them to this version."""
    opened = open_database(load_settings(database=database).database_url)
    upgrade(opened)
    print(f"{opened.display_url} is up to date")


def _open(settings: Settings) -> Database:
    _, is_file, path = settings.database_url.partition("sqlite:///")
    if is_file and not Path(path).exists():
        raise ConfigurationError(
            f"there is no database at {path} yet; `mediaweave run` makes it, or name another "
            "with --database"
        )
    opened = open_database(settings.database_url)
    ensure_schema(opened)
    return opened


def _message(
    sources: list[str], *, labels: str | None, overrides: list[str] | None, **fields: Any
) -> JobMessage:
    from workers.cli.run import parse_message

    return parse_message(
        sources=[source if "://" in source else os.path.abspath(source) for source in sources],
        labels=_labels(labels) if labels is not None else None,
        parameters=_parameters(overrides or []),
        **fields,
    )


def _labels(given: str) -> tuple[str, ...]:
    # os.path answers "no" for a list too long to be a file name; pathlib would raise.
    found = load_labels(Path(given) if os.path.isfile(given) else given)  # noqa: PTH113
    for reason in found.dropped:
        typer.echo(f"mediaweave: {reason}: left out", err=True)
    return found.labels


def _parameters(overrides: list[str]) -> dict[str, dict[str, Any]]:
    parameters: dict[str, dict[str, Any]] = {}
    for given in overrides:
        target, equals, value = given.partition("=")
        stage, dot, name = target.partition(".")
        if not (equals and dot and stage and name):
            raise ConfigurationError(
                f"--set {given!r}: write STAGE.NAME=VALUE, such as split.min_shot_ms=500"
            )
        try:
            parsed = json.loads(value)
        except json.JSONDecodeError:
            parsed = value
        parameters.setdefault(stage, {})[name] = parsed
    return parameters


def _print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=2, default=_as_json))


def _as_json(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return str(value)
