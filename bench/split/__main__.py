"""Run the figures, one after another: ``python -m bench.split demo-data``."""

import argparse
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from bench.figures import Figure, show
from bench.split import cost, fast, in_ranges, memory, peers
from bench.split.media import build_media
from pipeline.errors import PipelineError
from pipeline.media import find_ffmpeg
from pipeline.telemetry import configure_logging

NAMES = ("cost", "memory", "fast", "ranges", "peers")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.split", description=__doc__)
    parser.add_argument("folder", type=Path, help="where the demo's samples and the media are kept")
    parser.add_argument("--rounds", type=int, default=3, help="of the short files, in turns")
    parser.add_argument("--only", choices=NAMES)
    parser.add_argument("--peers", action="store_true", help="what others pay for the same, too")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    given = parser.parse_args()
    configure_logging(level="WARNING", as_json=False)
    console = Console()
    try:
        media = build_media(given.folder)
    except PipelineError as error:
        sys.exit(f"mediaweave bench: {error}")
    console.print(f"media: {media.made_from}; {find_ffmpeg().name}; {os.cpu_count()} cores")
    if media.hevc_1080p is None:
        console.print("HEVC is left out: this ffmpeg has no encoder for it")
    measures: dict[str, Callable[[], list[Figure]]] = {
        "cost": lambda: cost.measure(media, given.rounds),
        "memory": lambda: memory.measure(media),
        "fast": lambda: fast.measure(media, given.rounds),
        "ranges": lambda: in_ranges.measure(media),
        "peers": lambda: peers.measure(media),
    }
    figures: list[Figure] = []
    for name, measure in measures.items():
        if given.only == name or (given.only is None and (name != "peers" or given.peers)):
            print(f"measuring {name}", file=sys.stderr, flush=True)
            measured = measure()
            show(measured, console)
            figures += measured
    if given.json:
        given.json.write_text(json.dumps([asdict(figure) for figure in figures], indent=2) + "\n")


if __name__ == "__main__":
    main()
