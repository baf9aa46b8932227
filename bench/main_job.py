"""The main job on the demo's media: seconds per minute of media, and what it costs beside the
decoder and the models.

``make bench`` runs it; ``JSON=path`` also writes the figures. Overhead is the CPU seconds of the
whole job (this process and its children) over those spent inside decoder and models, in the same
run. Starting child processes and loading models are measured and shown, but count for neither side.

One stage run at a time: only then is the CPU time of the process during an inference the model's.
"""

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from sqlalchemy import text

from pipeline.config import load_settings
from pipeline.db.migrate import ensure_schema
from pipeline.media import launcher
from pipeline.media.children import Children
from pipeline.plan.profiles import profile_named
from pipeline.runner.intake import submit
from pipeline.runner.runtime import Runtime
from pipeline.telemetry import configure_logging
from schemas.messages import JobMessage
from workers.cli.progress import JobDisplay
from workers.cli.watch import watch
from workers.host import WorkerHost

OVERHEAD_ASKED = 1.15

STAGE_SECONDS = """
    SELECT r.stage, COUNT(*) AS runs, SUM(r.seconds) AS seconds,
           SUM(CASE WHEN a.kind <> 'image' THEN r.seconds ELSE 0 END) AS timed_seconds
    FROM v_stage_runs r LEFT JOIN asset a ON a.id = r.asset_id
    WHERE r.state = 'succeeded' GROUP BY r.stage ORDER BY MIN(r.stage_run_id)
"""
MEDIA_MINUTES = "SELECT SUM(duration_ms) / 60000.0 FROM asset WHERE kind <> 'image'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What one run measured. CPU seconds unless the name says otherwise."""

    assets: int
    media_minutes: float
    wall_seconds: float
    job_cpu_seconds: float
    decoder_cpu_seconds: float
    model_cpu_seconds: float
    child_startup_cpu_seconds: float
    model_loading_cpu_seconds: float
    overhead: float
    overhead_with_child_startup: float
    stages: Mapping[str, Mapping[str, float]]


def cpu_seconds() -> float:
    """User and system time of this process and of the children it has waited for."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def fork_server_cpu_seconds(folder: Path) -> float:
    """Of starting the process that children are forked from, which a worker does once."""
    before = cpu_seconds()
    with closing(Children()) as children, Path(os.devnull).open("r+b") as nothing:
        children.start(folder, [nothing.fileno()] * 3).end()
    return cpu_seconds() - before


def measure(source: str, data_dir: Path) -> Figures:
    """Run the job once on an empty database."""
    settings = load_settings(
        data_dir=data_dir, database=f"sqlite:///{data_dir / 'bench.db'}", concurrency=1
    )
    runtime = Runtime(settings)
    ensure_schema(runtime.database)
    profile = profile_named(settings.profile, settings)
    for name in profile.models.values():
        with runtime.models.use(name):
            pass
    loading = sum(cost.cpu_seconds for cost in runtime.models.load_costs.values())

    with WorkerHost(runtime) as host, JobDisplay() as display:
        before, started = cpu_seconds(), time.monotonic()
        job_id = submit(runtime, JobMessage(sources=(source,)))
        status = watch(runtime.database, job_id, display, still_wanted=lambda: host.alive)
        wall = time.monotonic() - started
        # What its children needed counts for this process once it has ended.
        launcher.children.close()
        job = cpu_seconds() - before
    if status.state != "done":
        sys.exit(f"the job ended as {status.state}: its figures mean nothing")
    models = sum(stats.cpu_seconds for stats in runtime.models.stats.values())
    with runtime.database.reading() as connection:
        minutes = float(connection.execute(text(MEDIA_MINUTES)).scalar_one() or 0)
        rows = connection.execute(text(STAGE_SECONDS)).mappings().all()
        children = connection.execute(
            text("SELECT cpu_seconds FROM stage_run WHERE cpu_seconds IS NOT NULL")
        ).scalars()
        spent = [json.loads(row) if isinstance(row, str) else row for row in children]
    runtime.close()
    decoder = sum(row.get("decoder", 0.0) for row in spent)
    startup = fork_server_cpu_seconds(data_dir) + sum(row.get("startup", 0.0) for row in spent)
    return Figures(
        assets=status.total,
        media_minutes=minutes,
        wall_seconds=wall,
        job_cpu_seconds=job,
        decoder_cpu_seconds=decoder,
        model_cpu_seconds=models,
        child_startup_cpu_seconds=startup,
        model_loading_cpu_seconds=loading,
        overhead=(job - startup) / (decoder + models),
        overhead_with_child_startup=job / (decoder + models),
        stages={
            row["stage"]: {
                "runs": row["runs"],
                "seconds": row["seconds"],
                "seconds_per_media_minute": row["timed_seconds"] / minutes if minutes else 0.0,
            }
            for row in rows
        },
    )


def show(figures: Figures, console: Console) -> None:
    table = Table("stage", "runs", "wall s", "wall s per minute of video or sound")
    for stage, row in figures.stages.items():
        table.add_row(
            stage,
            str(row["runs"]),
            f"{row['seconds']:.2f}",
            f"{row['seconds_per_media_minute']:.2f}",
        )
    console.print(table)
    costs = Table("CPU seconds", "", "share of the job")
    for name, value in (
        ("whole job", figures.job_cpu_seconds),
        ("models", figures.model_cpu_seconds),
        ("decoder", figures.decoder_cpu_seconds),
        ("starting child processes (apart)", figures.child_startup_cpu_seconds),
        ("loading models (apart, before the job)", figures.model_loading_cpu_seconds),
    ):
        costs.add_row(name, f"{value:.2f}", f"{value / figures.job_cpu_seconds:.1%}")
    console.print(costs)
    console.print(
        f"{figures.assets} assets, {figures.media_minutes:.2f} minutes of video and sound, "
        f"{figures.wall_seconds:.1f} s with one stage at a time"
    )
    verdict = "met" if figures.overhead <= OVERHEAD_ASKED else "NOT met"
    console.print(
        f"overhead {figures.overhead:.3f} (asked for: at most {OVERHEAD_ASKED}; {verdict}); "
        f"with the start of child processes {figures.overhead_with_child_startup:.3f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("source", help="a folder or prefix of media")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    configure_logging(level="WARNING", as_json=False)
    with tempfile.TemporaryDirectory(prefix="mediaweave-bench-") as folder:
        figures = measure(arguments.source, Path(folder))
    show(figures, Console())
    if arguments.json:
        written: dict[str, Any] = {
            **asdict(figures),
            "overhead_asked": OVERHEAD_ASKED,
            "met": figures.overhead <= OVERHEAD_ASKED,
        }
        arguments.json.write_text(json.dumps(written, indent=2) + "\n")


if __name__ == "__main__":
    main()
