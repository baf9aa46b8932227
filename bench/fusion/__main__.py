"""Train every fuser and every modality alone, some seeds each: ``python -m bench.fusion``."""

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from bench.figures import show
from bench.fusion.data import CLEAN, DEV, MODALITIES, load_set
from bench.fusion.promises import judge, mean_of, of, paired_tests
from bench.fusion.trainings import FUSERS, TEACHER, Outcome, Training, run, settings_digest
from pipeline.errors import PipelineError

PARTS = ("dev", "missing", "student", "clean")
_SOURCE = Path(__file__).resolve().parents[3] / "shared" / "media" / "fusion"


def wanted(parts: Sequence[str], seeds: int) -> Iterator[Training]:
    """All trainings of these parts, the long ones first; students need their teachers' part."""
    for seed in range(seeds):
        if "dev" in parts:
            for name in (*FUSERS, *MODALITIES):
                yield Training(data=DEV, name=name, seed=seed)
        elif "student" in parts:
            yield Training(data=DEV, name=TEACHER, seed=seed)
        if "missing" in parts:
            for name in ("concat", "attention"):
                if "dev" not in parts and not (name == TEACHER and "student" in parts):
                    yield Training(data=DEV, name=name, seed=seed)
                yield Training(data=DEV, name=f"{name} undropped", seed=seed)
    for seed in range(seeds if "clean" in parts else 0):
        for name in (*FUSERS, *MODALITIES):
            yield Training(data=CLEAN, name=name, seed=seed)


def train_all(
    trainings: Sequence[Training], folder: Path, source: Path, jobs: int, precision: str
) -> list[Outcome]:
    """One training per process and thread: two small ones side by side take less than one after
    the other on two threads."""
    outcomes = []
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        begun = [pool.submit(run, each, folder, source, precision) for each in trainings]
        for done in as_completed(begun):
            outcome = done.result()
            outcomes.append(outcome)
            each = outcome.training
            print(
                f"{len(outcomes)}/{len(trainings)} {each.data} {each.name} seed {each.seed}: "
                f"accuracy {outcome.accuracy:.4f}, {outcome.seconds:.0f} s",
                file=sys.stderr,
                flush=True,
            )
    return outcomes


def show_outcomes(outcomes: Sequence[Outcome], console: Console) -> None:
    for data in (DEV, CLEAN):
        own = [each for each in outcomes if each.training.data == data]
        if not own:
            continue
        table = Table(
            data, "accuracy", "ECE", "without\npicture", "without\nsound", "numbers", "ms",
            "all ms", "s", title="all ms: with every contribution; s: of a training",
        )  # fmt: skip
        for name in dict.fromkeys(each.training.name for each in own):
            rows = of(own, data, name)
            interval = mean_of(each.accuracy for each in rows)
            missing = [
                f"{mean_of(each.without[lost] for each in rows).value:.4f}"
                if rows[0].without
                else ""
                for lost in MODALITIES
            ]
            table.add_row(
                name,
                f"{interval.value:.4f} ±{interval.high - interval.value:.4f}",
                f"{mean_of(each.calibration_error for each in rows).value:.4f}",
                *missing,
                f"{rows[0].parameters // 1000}k",
                f"{mean_of(each.ms for each in rows).value:.2f}",
                f"{mean_of(each.ms_explained for each in rows).value:.2f}",
                f"{mean_of(each.seconds for each in rows).value:.0f}",
            )
        console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.fusion", description=__doc__)
    parser.add_argument("--data", type=Path, default=_SOURCE, help="folder of the two .npz files")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--jobs", type=int, default=2, help="trainings side by side")
    # Without AMX, bfloat16 is emulated, ten times slower than float32.
    precision = "bfloat16" if torch.cpu.get_capabilities().get("amx_bf16") else "float32"
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default=precision)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument(
        "--folder",
        type=Path,
        help="keep the trainings here; those of the same settings that are there are taken up",
    )
    given = parser.parse_args()
    console = Console()
    parts = (given.only,) if given.only else PARTS
    begin = time.monotonic()
    try:
        sets = {name: load_set(given.data, name) for name in (DEV, CLEAN)}
        with tempfile.TemporaryDirectory(prefix="mediaweave-bench-") as name:
            folder = (given.folder or Path(name)) / settings_digest(given.precision)
            share = (folder, given.data, given.jobs, given.precision)
            outcomes = train_all(list(wanted(parts, given.seeds)), *share)
            if "student" in parts:
                students = [
                    Training(data=DEV, name="student", seed=seed) for seed in range(given.seeds)
                ]
                outcomes += train_all(students, *share)
            tests = paired_tests(outcomes, sets, folder)
    except PipelineError as error:
        sys.exit(f"mediaweave bench: {error}")
    show_outcomes(outcomes, console)
    figures = judge(outcomes)
    show(figures, console)
    for line in tests:
        console.print(line, markup=False)
    minutes = (time.monotonic() - begin) / 60
    console.print(f"{len(outcomes)} trainings in {minutes:.0f} minutes, in {given.precision}")
    if given.json:
        found = {
            "figures": [asdict(figure) for figure in figures],
            "paired_tests": tests,
            "trainings": [asdict(outcome) for outcome in outcomes],
            "minutes": minutes,
            "precision": given.precision,
        }
        given.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
