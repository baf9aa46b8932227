"""What the fast mode saves, which decodes sync frames only."""

import statistics
from pathlib import Path

from bench.figures import Figure
from bench.split.media import BenchMedia
from bench.split.runs import SplitTook, probe, scratch, split
from pipeline.media import SplitParams

ASKED = 8


def measure(media: BenchMedia, rounds: int) -> list[Figure]:
    files = {"2": media.sync_2s, "9": media.sync_9s}
    return [_measure(seconds, path, rounds) for seconds, path in files.items()]


def _measure(seconds: str, path: Path, rounds: int) -> Figure:
    info = probe(path)
    full: list[SplitTook] = []
    fast: list[SplitTook] = []
    for _ in range(rounds):
        for params, runs in ((SplitParams(), full), (SplitParams(decode="sync"), fast)):
            with scratch() as folder:
                runs.append(split(path, info, folder, params)[0])
    ratios = [one.cpu_seconds / other.cpu_seconds for one, other in zip(full, fast, strict=True)]
    seen = statistics.median(ratios)
    last = fast[-1]
    parts = (
        f"ffmpeg {last.ffmpeg_seconds:.2f}, Python {last.python_seconds:.2f}, "
        f"the child's start {last.startup_seconds:.2f}"
    )
    return Figure(
        name=f"1080p, sync frames every {seconds} s: CPU of splitting / in the fast mode",
        asked=f"at least {ASKED}",
        seen=seen,
        met=seen >= ASKED,
        notes=[
            f"rounds: {', '.join(f'{ratio:.1f}' for ratio in ratios)}",
            f"{full[-1].cpu_seconds:.1f} and {last.cpu_seconds:.2f} CPU s; these are {parts}",
        ],
    )
