"""Options that several commands have, and what they make of them."""

import json
import os
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.config import Settings
from pipeline.db.engine import Database, open_database
from pipeline.db.migrate import ensure_schema
from pipeline.errors import ConfigurationError
from pipeline.fusion.taxonomy import load_labels
from schemas.messages import JobMessage

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


def open_existing(settings: Settings) -> Database:
    """The database, which a command that only looks does not make."""
    _, is_file, path = settings.database_url.partition("sqlite:///")
    if is_file and not Path(path).exists():
        raise ConfigurationError(
            f"there is no database at {path} yet; `mediaweave run` makes it, or name another "
            "with --database"
        )
    opened = open_database(settings.database_url)
    ensure_schema(opened)
    return opened


def message_of(
    sources: list[str], *, labels: str | None, overrides: list[str] | None, **fields: Any
) -> JobMessage:
    """A job from what was given on the command line; raises ConfigurationError."""
    from pipeline.runner.intake import read_message

    return read_message(
        {
            "sources": [
                source if "://" in source else os.path.abspath(source) for source in sources
            ],
            "labels": _labels(labels) if labels is not None else None,
            "parameters": _parameters(overrides or []),
            **fields,
        }
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


def print_json(value: Any) -> None:
    """For programs: on standard output, and nothing else there."""
    print(json.dumps(value, ensure_ascii=False, indent=2, default=_as_json))


def _as_json(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return str(value)
