"""Run the figures, one after another: ``python -m bench.queue``."""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from bench.figures import Figure, show
from bench.queue import growth, latency, throughput, writing
from bench.queue.backlog import Backlogs
from bench.queue.site import TESTS, note, servers_running
from pipeline.telemetry import configure_logging

NAMES = ("throughput", "growth", "latency", "writing")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.queue", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="the largest backlog")
    parser.add_argument("--only", choices=NAMES)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    given = parser.parse_args()
    sys.path.append(str(TESTS))
    configure_logging(level="WARNING", as_json=False)
    figures: list[Figure] = []
    with (
        tempfile.TemporaryDirectory(prefix="mediaweave-bench-") as folder,
        servers_running(Path(folder)) as site,
        Backlogs(site) as backlogs,
    ):
        measures: dict[str, Callable[[], list[Figure]]] = {
            "throughput": lambda: throughput.measure(site),
            "growth": lambda: growth.measure(site, backlogs, given.rows),
            "latency": lambda: latency.measure(site, backlogs, given.rows),
            "writing": lambda: writing.measure(site),
        }
        for name, measure in measures.items():
            if given.only in (None, name):
                note(f"measuring {name}")
                figures += measure()
    show(figures, Console())
    if given.json:
        given.json.write_text(json.dumps([asdict(figure) for figure in figures], indent=2) + "\n")


if __name__ == "__main__":
    main()
