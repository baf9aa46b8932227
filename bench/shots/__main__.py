"""Shots: precision, recall and cost beside PySceneDetect, in one run: ``python -m bench.shots``."""

import argparse
import json
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path

import cv2
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench.shots.clips import Clip, make_clips
from bench.shots.detectors import PEER, Detector, by_model, ours, peers, spent
from bench.shots.footage import Footage, decode
from bench.shots.matching import Counts, known, match
from bench.shots.sources import HALVES, SHARED, Half, annotated_clips, load_sources
from pipeline.errors import ModelUnavailableError

#: Of the CPU of each of PySceneDetect's detectors at its default size.
SHARE_ASKED = 0.1
_ROUNDS = 3
_TIMED_SHAPE = (36, 64, 3)
_TIMED_PER_CLIP = 600
REAL = "annotated files"

Scores = dict[str, dict[str, Counts]]
Costs = dict[str, dict[str, float]]


def measure(
    clips: Sequence[Clip], detectors: Sequence[Detector]
) -> tuple[Scores, Costs, list[Footage]]:
    """Counts by detector and class of clip, and CPU milliseconds per 1,000 frames with decoding."""
    scores: Scores = {one.name: defaultdict(Counts) for one in detectors}
    seconds = dict.fromkeys(scores, 0.0)
    footage = []
    for clip in track(clips, description="finding shots", transient=True):
        seen, decoding = spent(lambda path=clip.path: decode(path))
        footage.append(seen)
        for detector in detectors:
            found, own = spent(lambda one=detector, of=seen, at=clip.path: one.find(at, of))
            scores[detector.name][clip.kind] += match(clip.truths, found)
            seconds[detector.name] += own + (0 if detector.decodes else decoding)
    frames = sum(len(seen.frames) for seen in footage)
    costs = {name: {"decoding": total / frames * 1e6} for name, total in seconds.items()}
    return scores, costs, footage


def add_cost_alone(costs: Costs, timed: Footage, detectors: Sequence[Detector]) -> None:
    """CPU milliseconds per 1,000 frames that are there already, the best of some rounds."""
    for _ in range(_ROUNDS):
        for detector in detectors:
            mine = costs[detector.name]
            for name, width in detector.widths.items():
                cost = detector.cpu_seconds(timed, width=width) / len(timed.frames) * 1e6
                mine[name] = min(cost, mine.get(name, cost))


def to_time(clips: Sequence[Clip], footage: Sequence[Footage]) -> Footage:
    """A few thousand frames of one shape, one clip after the other: real ones, if there are."""
    real = [seen for clip, seen in zip(clips, footage, strict=True) if clip.kind == REAL]
    frames = []
    for seen in real or footage:
        if seen.frames[0].shape == _TIMED_SHAPE:
            frames += seen.frames[:_TIMED_PER_CLIP]
    return Footage(frames=frames, pts=list(range(len(frames))), time_base=Fraction(1, 25))


def total(by_class: dict[str, Counts], *, real: bool) -> Counts:
    wanted = [counts for kind, counts in by_class.items() if (kind == REAL) is real]
    return sum(wanted, Counts())


def show(scores: Scores, costs: Costs, console: Console) -> None:
    classes = list(dict.fromkeys(kind for rows in scores.values() for kind in rows))
    table = Table("F1", *(name.replace(" ", "\n", 1) for name in scores))
    for kind in classes:
        table.add_row(kind, *(f"{rows[kind].f1:.2f}" for rows in scores.values()))
    console.print(table)
    table = Table(
        "detector", "made clips: precision", "recall", "F1", "annotated: precision", "recall",
        "F1", "CPU ms per 1,000 frames: 64 px", "256 px", "with decoding",
    )  # fmt: skip
    for name, rows in scores.items():
        both = [total(rows, real=real) for real in (False, True)]
        cells = [f"{v:.3f}" for one in both for v in (one.precision, one.recall, one.f1)]
        mine = costs[name]
        sizes = [f"{mine[size]:.1f}" if size in mine else "" for size in ("small", "default")]
        table.add_row(name, *cells, *sizes, f"{mine['decoding']:.0f}")
    console.print(table)


def compare(scores: Scores, costs: Costs) -> dict[str, dict[str, float | bool]]:
    """Ours beside each of PySceneDetect's detectors."""
    mine = next(iter(scores))
    own = [total(scores[mine], real=real).f1 for real in (False, True)]
    found: dict[str, dict[str, float | bool]] = {}
    for name in scores:
        if name.startswith(PEER):
            theirs = [total(scores[name], real=real).f1 for real in (False, True)]
            share = costs[mine]["small"] / costs[name]["default"]
            found[name] = {
                "at_least_as_good": all(a >= b for a, b in zip(own, theirs, strict=True)),
                "cpu_share": share,
                "cpu_share_on_the_same_frames": costs[mine]["small"] / costs[name]["small"],
                "met": own[0] >= theirs[0] and own[1] >= theirs[1] and share <= SHARE_ASKED,
            }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.shots", description=__doc__)
    parser.add_argument("samples", type=Path, help="the demo's samples, where no other media are")
    parser.add_argument("--half", choices=HALVES, default="report")
    parser.add_argument("--per-class", type=int, default=4, help="made clips of each class")
    parser.add_argument("--without-model", action="store_true", help="leave TransNetV2 out")
    parser.add_argument("--device", default="cpu", help="of TransNetV2")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    given = parser.parse_args()
    # As in the processes that split: they scale by processes.
    cv2.setNumThreads(1)
    console = Console()
    half: Half = given.half
    if not SHARED.is_dir():
        console.print(f"{SHARED} is not there: clips are made of the demo's few samples")
    with tempfile.TemporaryDirectory(prefix="mediaweave-bench-") as folder:
        sources = load_sources(half, given.samples)
        clips = list(make_clips(Path(folder), sources, per_class=given.per_class, seed=half))
        clips += [
            Clip(path=path, kind=REAL, truths=known(shots)) for path, shots in annotated_clips()
        ]
        detectors: list[Detector] = [ours()]
        if not given.without_model:
            try:
                detectors.append(by_model(given.device, threads=1))
            except ModelUnavailableError as error:
                console.print(f"without TransNetV2: {error}")
        detectors += peers()
        scores, costs, footage = measure(clips, detectors)
        add_cost_alone(costs, to_time(clips, footage), detectors)
    show(scores, costs, console)
    compared = compare(scores, costs)
    for name, row in compared.items():
        better = "at least as good" if row["at_least_as_good"] else "NOT as good"
        console.print(
            f"ours beside {name}: {better}, {row['cpu_share']:.3f} of its CPU at its own size "
            f"(asked for: {SHARE_ASKED}), {row['cpu_share_on_the_same_frames']:.2f} on the same "
            "small frames"
        )
    if given.json:
        given.json.write_text(
            json.dumps(
                {
                    "half": half,
                    "frames": sum(len(seen.frames) for seen in footage),
                    "counts": {
                        name: {kind: asdict(counts) for kind, counts in rows.items()}
                        for name, rows in scores.items()
                    },
                    "cpu_ms_per_1000_frames": costs,
                    "compared": compared,
                },
                indent=2,
            )
            + "\n"
        )


if __name__ == "__main__":
    main()
