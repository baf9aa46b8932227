"""``mediaweave events``: what was not sent, and sending it again."""

import json
from typing import Annotated, Any

import typer
from sqlalchemy import Row

from pipeline.config import load_settings
from pipeline.db import outbox
from pipeline.db.engine import Database, open_database
from pipeline.db.migrate import ensure_schema
from pipeline.db.webhooks import shown_url
from pipeline.errors import ConfigurationError
from workers.cli.report import print_rows

events_app = typer.Typer(help="Look after events that were not sent.", no_args_is_help=True)

_DatabaseOption = Annotated[
    str | None, typer.Option("--database", metavar="URL", help="Else MEDIAWEAVE_DATABASE.")
]


@events_app.command("list")
def list_events(
    database: _DatabaseOption = None,
    failed: Annotated[
        bool, typer.Option("--failed", help="Only webhooks that were given up.")
    ] = False,
    limit: Annotated[int, typer.Option("--limit", min=1)] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """List events that wait to be sent, and webhooks that were given up with the reason."""
    opened = _open(database)
    with opened.reading() as connection:
        rows = [_shown(row) for row in outbox.unsent(connection, only_failed=failed, limit=limit)]
    opened.close()
    if as_json:
        print(json.dumps(rows, ensure_ascii=False, indent=2))
    else:
        print_rows(rows)


@events_app.command("retry")
def retry_events(
    events: Annotated[
        list[int] | None, typer.Argument(metavar="ID", min=1, max=2**62, help="As in the list.")
    ] = None,
    failed: Annotated[
        bool, typer.Option("--failed", help="All webhooks that were given up.")
    ] = False,
    database: _DatabaseOption = None,
) -> None:
    """Send unsent events at once, with all their attempts anew; a running worker does it."""
    if bool(events) == failed:
        raise ConfigurationError("say which: the ids of events, or --failed")
    opened = _open(database)
    with opened.transaction() as connection:
        count = outbox.send_again(connection, None if failed else events)
    opened.close()
    print(f"events to be sent again: {count}")


def _open(database: str | None) -> Database:
    opened = open_database(load_settings(database=database).database_url)
    ensure_schema(opened)
    return opened


def _shown(row: Row[Any]) -> dict[str, Any]:
    due = row.not_before and row.not_before.isoformat(timespec="seconds")
    return {
        "id": row.id,
        "topic": row.topic,
        "to": "exchange" if row.webhook is None else shown_url(row.webhook),
        "state": "waiting" if row.failed_at is None else "failed",
        "created_at": row.created_at.isoformat(timespec="seconds"),
        "attempt": row.attempt,
        "not_before": due,
        "error_text": row.error_text,
    }
