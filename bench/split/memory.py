"""Peak memory of the child and its ffmpeg.

Proportional set sizes, sampled: the greatest resident size that the kernel keeps for a process
begins with that of the process it was forked from.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.figures import Figure
from bench.split.media import BenchMedia
from bench.split.runs import ffmpeg, probe, scratch, split
from pipeline.media import SplitParams

ASKED_MIB = 400
ASKED_GROWTH = 1.1
_EVERY_SECONDS = 0.05


@dataclass(slots=True)
class Peak:
    mib: float = 0.0


def measure(media: BenchMedia) -> list[Figure]:
    files: list[tuple[str, Path | None]] = [
        ("1080p H.264, 2 minutes", media.h264_1080p),
        ("1080p HEVC, 2 minutes", media.hevc_1080p),
    ]
    peaks = {name: _peak_mib(path) for name, path in files if path is not None}
    growth = []
    for height, short, long in (
        ("720p", media.short_720p, media.long_720p),
        ("360p", media.short_360p, media.long_360p),
    ):
        before, after = _peak_mib(short), _peak_mib(long)
        peaks |= {f"{height} H.264, 2 minutes": before, f"{height} H.264, 2 hours": after}
        alone = " / ".join(f"{_decoder_mib(path):.0f} MiB" for path in (long, short))
        growth.append(
            Figure(
                name=f"peak memory of 2 hours / of 2 minutes of the same, {height}",
                asked=f"at most {ASKED_GROWTH}",
                seen=after / before,
                met=after / before <= ASKED_GROWTH,
                notes=[
                    f"{after:.0f} / {before:.0f} MiB",
                    f"ffmpeg that decodes a minute of each to nothing: {alone}",
                ],
            )
        )
    highest = max(peaks.values())
    return [
        Figure(
            name="peak memory of splitting, MiB",
            asked=f"under {ASKED_MIB}",
            seen=highest,
            met=highest < ASKED_MIB,
            notes=[", ".join(f"{name}: {mib:.0f} MiB" for name, mib in peaks.items())],
        ),
        *growth,
    ]


def _peak_mib(path: Path) -> float:
    info = probe(path)
    with scratch() as folder, watched() as peak:
        split(path, info, folder, SplitParams())
    return peak.mib


def _decoder_mib(path: Path) -> float:
    """That of the decoder alone: it holds the index of the whole file from its start."""
    with watched() as peak:
        ffmpeg("-threads", "1", "-t", "60", "-i", path, "-map", "0:v:0", "-f", "null", "-")
    return peak.mib


@contextmanager
def watched() -> Iterator[Peak]:
    """The peak of all descendants of this process together while in the block."""
    peak = Peak()
    is_over = threading.Event()

    def sample() -> None:
        while not is_over.wait(_EVERY_SECONDS):
            peak.mib = max(peak.mib, sum(map(_proportional_mib, _descendants(os.getpid()))))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield peak
    finally:
        is_over.set()
        thread.join()


def _descendants(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, _read(task).split()):
            yield child
            yield from _descendants(child)


def _proportional_mib(pid: int) -> float:
    for line in _read(Path(f"/proc/{pid}/smaps_rollup")).splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        # It has ended.
        return ""
