"""``mediaweave clean``: give back the space of what nobody needs any more."""

from collections import Counter
from typing import Annotated

import typer
from rich import filesize

from pipeline.config import load_settings
from pipeline.runner.leftovers import DAY_SECONDS
from pipeline.runner.leftovers import clean as delete_leftovers
from pipeline.runner.runtime import Runtime
from pipeline.telemetry import configure_logging
from workers.cli.options import DatabaseOption, JsonOption, open_existing, print_json
from workers.cli.report import escape


def clean(
    older_than: Annotated[
        float, typer.Option("--older-than", metavar="HOURS", min=0, help="Spare what is younger.")
    ] = DAY_SECONDS / 3600,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be deleted.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Even if that is most of the artifact store.")
    ] = False,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete artifacts that no row refers to, and what killed processes left behind.

    Media and results are never touched. Safe beside working processes, as long as each artifact
    store has one database.
    """
    settings = load_settings(database=database)
    configure_logging(level="WARNING", as_json=False)
    open_existing(settings).close()
    runtime = Runtime(settings)
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    verb = "would delete" if dry_run else "deleted"
    try:
        for leftover in delete_leftovers(
            runtime, older_than_seconds=older_than * 3600, dry_run=dry_run, force=force
        ):
            counts[leftover.kind] += 1
            sizes[leftover.kind] += leftover.size_bytes
            if not as_json:
                size = filesize.decimal(leftover.size_bytes)
                print(f"{verb} {leftover.kind} {escape(leftover.uri)} ({size})")
    finally:
        runtime.close()
    if as_json:
        kinds = {
            kind.replace(" ", "_"): {"count": counts[kind], "size_bytes": sizes[kind]}
            for kind in ("artifact", "partial file", "work folder")
        }
        print_json({"dry_run": dry_run, **kinds})
    elif not counts:
        print("nothing to delete")
    else:
        print(f"{verb} {counts.total()} in all ({filesize.decimal(sizes.total())})")
