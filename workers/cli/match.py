"""``mediaweave match``: how well texts fit a picture."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from pipeline.config import load_settings
from pipeline.telemetry import configure_logging
from workers.cli.options import JsonOption, ProfileOption, print_json
from workers.cli.report import escape


def match(
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="A file, or s3://bucket/key.")],
    texts: Annotated[list[str], typer.Argument(metavar="TEXT", help="What it may show.")],
    profile: ProfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Score how well each TEXT fits a picture, by the profile's picture model. Stores nothing."""
    from pipeline.runner.matching import match as match_texts
    from pipeline.runner.runtime import Runtime

    settings = load_settings(profile=profile)
    configure_logging(level="WARNING", as_json=False)
    runtime = Runtime(settings)
    try:
        found = match_texts(runtime, image, texts)
    finally:
        runtime.close()
    print_json(found) if as_json else print_matches(found)


def print_matches(found: Mapping[str, Any]) -> None:
    """A line per text, the best first, and what the score means."""
    has_cosine = found["matches"][0]["cosine"] is not None
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("score", justify="right")
    if has_cosine:
        table.add_column("cosine", justify="right")
    table.add_column("text", overflow="fold")
    for row in found["matches"]:
        cosine = [f"{row['cosine']:.3f}"] if has_cosine else []
        table.add_row(f"{row['score']:.4f}", *cosine, escape(row["text"]))
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    console.print(f"[dim]score: {found['meaning']}[/]")
    console.print(f"[dim]model: {escape(found['model'])} {escape(found['model_revision'])}[/]")
