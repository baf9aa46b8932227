"""CPU seconds of the whole split stage over those of decoding the picture to nothing.

The decoder is run as one would from a shell, with as many threads as ffmpeg likes, which costs a
little more CPU than one thread; beside one thread, which splitting uses, the notes tell it.
"""

import statistics
from pathlib import Path

from bench.figures import Figure
from bench.split.media import BenchMedia
from bench.split.runs import SplitTook, Took, decode, probe, scratch, split
from pipeline.media import SplitParams

ASKED = 1.25
AIMED_AT = 1.15


def measure(media: BenchMedia, rounds: int) -> list[Figure]:
    files: list[tuple[str, Path | None, int]] = [
        ("1080p H.264, 2 minutes", media.h264_1080p, rounds),
        ("1080p HEVC, 2 minutes", media.hevc_1080p, rounds),
        ("720p H.264, an hour", media.hour_720p, 1),
    ]
    return [_measure(name, path, times) for name, path, times in files if path is not None]


def _measure(name: str, path: Path, rounds: int) -> Figure:
    info = probe(path)
    minutes = (info.duration_ms or 0) / 60_000
    splits: list[SplitTook] = []
    plain: list[Took] = []
    single: list[Took] = []
    for _ in range(rounds):
        plain.append(decode(path))
        with scratch() as folder:
            splits.append(split(path, info, folder, SplitParams())[0])
        single.append(decode(path, "-threads", "1"))
    ratios = _ratios(splits, plain)
    seen = statistics.median(ratios)
    plain_seconds = statistics.median(one.cpu_seconds for one in plain)
    parts = ", ".join(
        f"{statistics.median(getattr(one, part) for one in splits) / length:.2f} {what}"
        for part, length, what in (
            ("ffmpeg_seconds", minutes, "ffmpeg"),
            ("python_seconds", minutes, "Python"),
            ("startup_seconds", 1, "the child's start (once)"),
            ("parent_seconds", 1, "the caller (once)"),
        )
    )
    return Figure(
        name=f"{name}: CPU of splitting / of decoding",
        asked=f"at most {ASKED}, aim {AIMED_AT}",
        seen=seen,
        met=seen <= ASKED,
        notes=[
            f"rounds: {', '.join(f'{ratio:.3f}' for ratio in ratios)}",
            f"over decoding in one thread: {statistics.median(_ratios(splits, single)):.3f}",
            f"CPU s per minute of video: {plain_seconds / minutes:.2f} for decoding",
            f"CPU s per minute of video, or once, for splitting: {parts}",
        ],
    )


def _ratios(splits: list[SplitTook], decodes: list[Took]) -> list[float]:
    return [a.cpu_seconds / b.cpu_seconds for a, b in zip(splits, decodes, strict=True)]
