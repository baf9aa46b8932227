"""Damage real files at random, split them, and see that nothing but clean errors comes of it.

``make fuzz-split`` runs 2,000 cases; ``CASES``, ``SEED``, ``START`` and ``JOBS`` change that. A
case is decided by its seed and number and by the source files, so ``START`` goes on where a run was
cut off. Bytes that lead to a fault are kept with their recipe; ``REPLAY=file`` runs them again.
"""

import argparse
import multiprocessing
import os
import statistics
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from bench.fuzz.cases import (
    LONGEST_SECONDS,
    NO_ANSWER,
    Case,
    Verdict,
    load,
    make_case,
    run_case,
    save,
)
from bench.fuzz.sources import Source, make_sources, real_sources, usual_folders

#: Waiting for a worker, so that memory stays bounded however many cases there are.
_AHEAD_PER_JOB = 4
#: Cases of a worker before its memory counts: libraries load, allocators fill.
_WARM_UP_SHARE = 0.1
_FEWEST_FOR_MEMORY = 40
#: The growth of a worker's resident memory, from its first quarter to its last, that is none.
_FLAT_SHARE = 0.1
_FLAT_BYTES = 8 * 1024**2


class Run:
    """What has been seen so far."""

    def __init__(self, failures: Path, console: Console) -> None:
        self.failures = failures
        self.console = console
        self.ends: Counter[str] = Counter()
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.resident: dict[int, list[int]] = defaultdict(list)
        self.faulty = 0

    def add(self, case: Case, verdict: Verdict) -> None:
        self.ends[verdict.ended] += 1
        self.seconds[verdict.ended].append(verdict.seconds)
        self.resident[verdict.worker_pid].append(verdict.resident_bytes)
        if verdict.faults:
            self.faulty += 1
            path = save(case, verdict, self.failures)
            self.console.print(f"{path}: {'; '.join(verdict.faults)}", markup=False)

    def memory(self) -> list[tuple[int, float, float, bool]]:
        """Of each worker: cases, median MiB of the first and last quarter, whether that is flat."""
        rows = []
        for sizes in self.resident.values():
            warm = sizes[round(len(sizes) * _WARM_UP_SHARE) :]
            quarter = max(1, len(warm) // 4)
            first, last = statistics.median(warm[:quarter]), statistics.median(warm[-quarter:])
            is_flat = last - first <= max(_FLAT_BYTES, _FLAT_SHARE * first)
            is_flat |= len(sizes) < _FEWEST_FOR_MEMORY
            rows.append((len(sizes), first / 1024**2, last / 1024**2, is_flat))
        return rows


def cases_of(seed: int, numbers: range, sources: list[Source]) -> Iterator[Case]:
    for number in numbers:
        yield make_case(seed, number, sources)


def run_all(run: Run, cases: Iterator[Case], count: int, jobs: int, carrier: Path) -> None:
    """Work through the cases in ``jobs`` processes."""
    context = multiprocessing.get_context("spawn")
    running: dict[Future[Verdict], Case] = {}
    with (
        ProcessPoolExecutor(jobs, mp_context=context) as pool,
        Progress(console=run.console, transient=True) as progress,
    ):
        task = progress.add_task("cases", total=count)
        is_over = False
        while running or not is_over:
            while not is_over and len(running) < jobs * _AHEAD_PER_JOB:
                case = next(cases, None)
                is_over = case is None
                if case is not None:
                    running[pool.submit(run_case, case, carrier)] = case
            done = wait(running, timeout=LONGEST_SECONDS, return_when=FIRST_COMPLETED).done
            if not done:
                for case in running.values():
                    run.add(case, NO_ANSWER)
                # Waiting for them would never end.
                os._exit(1)
            for each in done:
                run.add(running.pop(each), each.result())
                progress.advance(task)


def show(run: Run) -> bool:
    """The summary; whether all is well."""
    table = Table("ended with", "cases", "median s", "longest s")
    for ended, count in run.ends.most_common():
        times = run.seconds[ended]
        table.add_row(ended, str(count), f"{statistics.median(times):.2f}", f"{max(times):.2f}")
    run.console.print(table)
    memory = run.memory()
    for count, first, last, is_flat in memory:
        told = "flat" if is_flat else "GROWS"
        run.console.print(f"memory over {count} cases: {first:.1f} MiB, then {last:.1f}: {told}")
    run.console.print(f"faults: {run.faulty}")
    return run.faulty == 0 and all(is_flat for *_, is_flat in memory)


def replay(path: Path, carrier: Path, console: Console) -> bool:
    case = load(path)
    verdict = run_case(case, carrier)
    for line in (case.recipe, f"{verdict.ended}: {verdict.message}", *verdict.faults):
        console.print(line, markup=False)
    return not verdict.faults


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.fuzz_split", description=__doc__)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--start", type=int, default=0, help="number of the first case")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--failures", type=Path, default=Path("fuzz-failures"))
    parser.add_argument("--replay", type=Path, help="run this file only")
    given = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory(prefix="mediaweave-fuzz-") as folder:
        own = make_sources(Path(folder))
        carrier = own[0].path
        if given.replay is not None:
            sys.exit(0 if replay(given.replay, carrier, console) else 1)
        # Every form is as likely as all the real files together.
        real = real_sources(usual_folders())
        sources = own * max(1, len(real) // len(own)) + real
        console.print(f"{len(own)} files made here, {len(real)} real ones; seed {given.seed}")
        run = Run(given.failures, console)
        numbers = range(given.start, given.start + given.cases)
        cases = cases_of(given.seed, numbers, sources)
        run_all(run, cases, given.cases, given.jobs, carrier)
        sys.exit(0 if show(run) else 1)


if __name__ == "__main__":
    main()
