"""``mediaweave sweep``: list a rule's prefix now."""

from typing import Annotated

import typer

from pipeline.config import load_settings
from pipeline.db import queries
from pipeline.db.migrate import ensure_schema
from pipeline.errors import ConfigurationError
from pipeline.telemetry import configure_logging
from workers.cli.options import DatabaseOption, JsonOption, print_json


def sweep(
    rule: Annotated[str, typer.Argument(metavar="RULE", help="A rule's name in the settings.")],
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Submit what is new below a RULE's prefix, and mark as gone what is not there any more.

    Workers do the listing; the same happens by itself at the times of the rule's `sweep`.
    """
    from pipeline.runner.intake import accept
    from pipeline.runner.runtime import Runtime
    from pipeline.runner.sweep import sweep_message

    settings = load_settings(database=database)
    if rule not in settings.rules:
        known = ", ".join(sorted(settings.rules)) or "none"
        raise ConfigurationError(f"there is no rule {rule!r} in the settings (there are: {known})")
    message = sweep_message(rule, settings.rules[rule])
    configure_logging(level="WARNING", as_json=False)
    runtime = Runtime(settings)
    try:
        ensure_schema(runtime.database)
        job_id = accept(runtime, message, origin="sweep").job_id
        with runtime.database.reading() as connection:
            row = queries.job_row(connection, job_id)
    finally:
        runtime.close()
    if as_json:
        print_json(row)
    else:
        print(f"job {job_id}: {message.name}, {message.sources[0]}, {row['state']}")
