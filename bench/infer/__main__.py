"""Run the figures: ``python -m bench.infer``.

The worker against the same model in a plain loop, in turns, medians of the rounds; what the runtime
costs by itself, with a model that does nothing; and the memory of the process over many items.
"""

import argparse
import json
import statistics
import tempfile
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from bench.figures import Figure, show
from bench.infer.subjects import Subject, lookup, nothing, subjects
from bench.infer.timing import Took, device_name, in_a_loop, resident_mib, through_the_worker
from pipeline.models.pool import ModelPool
from pipeline.telemetry import configure_logging

ASKED_RATIO = 0.95
#: Bytes that a fragmented heap may come to beside the model's own.
ASKED_GROWTH = 1.05
MEMORY_ITEMS = 10_000


def throughput(pool: ModelPool, subject: Subject, rounds: int) -> list[Figure]:
    name = subject.entry.info.name
    size = pool.model(name).max_batch
    plain, single, worker = [], [], []
    in_a_loop(pool, subject, size)
    for _ in range(rounds):
        plain.append(in_a_loop(pool, subject, size))
        worker.append(through_the_worker(pool, subject, subject.count))
        single.append(in_a_loop(pool, subject, 1))
    ratio = statistics.median(
        mine.per_second / loop.per_second for mine, loop in zip(worker, plain, strict=True)
    )
    alone = statistics.median(
        mine.per_second / one.per_second for mine, one in zip(worker, single, strict=True)
    )
    return [
        Figure(
            name=f"{name}: items/s of the worker over a loop of full batches",
            asked=f">= {ASKED_RATIO}",
            seen=ratio,
            met=ratio >= ASKED_RATIO,
            notes=[
                f"{what}: loop of {size} {of(plain)}, worker {of(worker)}, one by one {of(single)}"
                for what, of in (("items/s", _per_second), ("CPU ms an item", _cpu_ms))
            ],
        ),
        Figure(
            name=f"{name}: items/s of the worker over one call per item",
            asked="",
            seen=alone,
            met=True,
        ),
    ]


def overhead(pool: ModelPool, subject: Subject, rounds: int) -> Figure:
    runs = [through_the_worker(pool, subject, subject.count) for _ in range(rounds)]
    seen = statistics.median(1e6 * run.cpu_seconds / run.items for run in runs)
    return Figure(
        name="CPU microseconds an item outside the model",
        asked="",
        seen=seen,
        met=True,
        notes=[f"a model that does nothing, batches of {pool.model('nothing').max_batch}"],
    )


def memory(pool: ModelPool, subject: Subject) -> Figure:
    name = subject.entry.info.name
    through_the_worker(pool, subject, MEMORY_ITEMS // 10)
    early = resident_mib()
    through_the_worker(pool, subject, MEMORY_ITEMS)
    late = resident_mib()
    return Figure(
        name=f"{name}: memory after {MEMORY_ITEMS:,} more items over that before",
        asked=f"<= {ASKED_GROWTH}",
        seen=late / early,
        met=late / early <= ASKED_GROWTH,
        notes=[f"resident MiB: {early:.0f}, then {late:.0f}"],
    )


def _per_second(runs: list[Took]) -> str:
    return f"{statistics.median(run.per_second for run in runs):,.0f}"


def _cpu_ms(runs: list[Took]) -> str:
    return f"{statistics.median(1e3 * run.cpu_seconds / run.items for run in runs):.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.infer", description=__doc__)
    parser.add_argument("--device", default="cpu", help="cpu, cuda:0, …")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    given = parser.parse_args()
    configure_logging(level="WARNING", as_json=False)
    console = Console()
    console.print(f"device: {device_name(given.device)}", markup=False)
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder:
        found = [*subjects(given.device, Path(folder)), nothing()]
        pool = ModelPool(given.device, lookup(found))
        for subject in found[:-1]:
            figures += throughput(pool, subject, given.rounds)
        figures.append(overhead(pool, found[-1], given.rounds))
        figures += [memory(pool, subject) for subject in found[:-1]]
        pool.close()
    show(figures, console)
    if given.json:
        given.json.write_text(json.dumps([asdict(figure) for figure in figures], indent=2) + "\n")


if __name__ == "__main__":
    main()
