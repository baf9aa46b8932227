"""``mediaweave ask``: a question about an asset."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.console import Console

from pipeline.config import load_settings
from pipeline.telemetry import configure_logging
from pipeline.times import parse_time
from workers.cli.options import (
    DatabaseOption,
    JsonOption,
    ProfileOption,
    open_existing,
    print_json,
)
from workers.cli.report import clock, escape


def ask(
    asset: Annotated[str, typer.Argument(metavar="ASSET", help="Path, URI, asset id or sha256.")],
    question: Annotated[str, typer.Argument(help="What you want to know.")],
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="TIME", help="Only this shot: seconds, MM:SS or HH:MM:SS.mmm"),
    ] = None,
    database: DatabaseOption = None,
    profile: ProfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask a QUESTION about an analysed ASSET; the profile needs a model that answers questions.

    The model is shown keyframes and the words found there. It can be wrong, and what is said or
    written in the media can mislead it.
    """
    from pipeline.runner.asking import ask as ask_model
    from pipeline.runner.runtime import Runtime

    at_ms = None if at is None else parse_time(at, "--at")
    settings = load_settings(database=database, profile=profile)
    configure_logging(level="WARNING", as_json=False)
    open_existing(settings).close()
    runtime = Runtime(settings)
    try:
        found = ask_model(runtime, asset, question, at_ms=at_ms)
    finally:
        runtime.close()
    print_json(found) if as_json else print_answer(found)


def print_answer(found: Mapping[str, Any]) -> None:
    """The answer, what the model was shown, and who it is."""
    console = Console(highlight=False, soft_wrap=True)
    sure = "" if found["confidence"] is None else f" (confidence {found['confidence']:.2f})"
    console.print(f"{escape(found['answer']) or 'no answer'}{sure}")
    times = ", ".join(clock(keyframe["at_ms"]) for keyframe in found["keyframes"])
    words = [name for name in ("transcript", "screen_text") if found[name]]
    beside = f"; {' and '.join(words).replace('_', ' ')}" if words else ""
    console.print(f"[dim]shown: {escape(found['uri'])} at {times}{beside}[/]")
    console.print(f"[dim]model: {escape(found['model'])} {escape(found['model_revision'])}[/]")
