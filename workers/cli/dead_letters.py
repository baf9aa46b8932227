"""``mediaweave dead-letters``: look through what could not be taken, and decide."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from pipeline.config import load_settings
from pipeline.db import dead_letters
from pipeline.db.engine import Database
from pipeline.errors import ConfigurationError
from pipeline.telemetry import configure_logging
from workers.cli import EXIT_FAILED
from workers.cli.options import DatabaseOption, JsonOption, open_existing, print_json
from workers.cli.report import print_rows

dead_letters_app = typer.Typer(
    help="Messages that could not be taken, with the reason.", no_args_is_help=True
)

Id = Annotated[int, typer.Argument(metavar="ID", min=1, max=2**62)]
Ids = Annotated[list[int], typer.Argument(metavar="ID…", min=1, max=2**62)]


@dead_letters_app.command("list")
def list_letters(
    database: DatabaseOption = None,
    limit: Annotated[int, typer.Option("--limit", min=1)] = 50,
    as_json: JsonOption = False,
) -> None:
    """List them, the newest first."""
    with _database(database) as opened, opened.reading() as connection:
        rows = dead_letters.newest(connection, limit)
    print_json(rows) if as_json else print_rows(rows)


@dead_letters_app.command("show")
def show_letter(letter: Id, database: DatabaseOption = None, as_json: JsonOption = False) -> None:
    """Show the message as it came."""
    with _database(database) as opened:
        row = _get(opened, letter)
    if as_json:
        print_json(row)
        return
    print(f"{row['received_at'].isoformat()}  {row['origin']}: {_printable(row['reason'])}\n")
    print(_printable(row["body"]))


@dead_letters_app.command("retry")
def retry_letters(letters: Ids, database: DatabaseOption = None) -> None:
    """Handle messages again; those that are taken now leave the list. Exit 1 if one is not."""
    from pipeline.runner.runtime import Runtime
    from workers.intake.handler import REFUSED_ERRORS, Incoming, bounded_key, handle

    configure_logging(level="WARNING", as_json=False)
    settings = load_settings(database=database)
    refused = False
    with _database(settings.database_url) as opened:
        runtime = Runtime(settings)
        try:
            for letter in letters:
                row = _get(opened, letter)
                incoming = Incoming(
                    kind="event" if row["origin"] == "event" else "queue",
                    body=row["body"].encode(),
                    # Died before the row was removed: the next time it is the same job.
                    key=bounded_key(f"dead-letter:{letter}:{row['received_at'].isoformat()}"),
                )
                try:
                    handle(runtime, incoming)
                except REFUSED_ERRORS as error:
                    refused = True
                    typer.echo(f"{letter}: {_printable(str(error))}", err=True)
                    continue
                with opened.transaction() as connection:
                    dead_letters.remove(connection, letter)
                print(f"{letter}: taken")
        finally:
            runtime.close()
    if refused:
        raise typer.Exit(EXIT_FAILED)


@dead_letters_app.command("discard")
def discard_letters(letters: Ids, database: DatabaseOption = None) -> None:
    """Forget messages."""
    with _database(database) as opened:
        for letter in letters:
            with opened.transaction() as connection:
                if not dead_letters.remove(connection, letter):
                    raise _missing(letter)
            print(f"{letter}: discarded")


@contextmanager
def _database(url: str | None) -> Iterator[Database]:
    opened = open_existing(load_settings(database=url))
    try:
        yield opened
    finally:
        opened.close()


def _get(database: Database, letter: int) -> dict[str, Any]:
    with database.reading() as connection:
        row = dead_letters.get(connection, letter)
    if row is None:
        raise _missing(letter)
    return row


def _missing(letter: int) -> ConfigurationError:
    return ConfigurationError(
        f"there is no dead letter {letter}; `mediaweave dead-letters list` lists them"
    )


def _printable(text: str) -> str:
    """Text of strangers for a terminal: its lines, but no control characters."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)
