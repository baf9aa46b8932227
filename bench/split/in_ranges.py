"""A long video in one piece, and in ranges on two workers: seconds, CPU, and the same result."""

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.figures import Figure
from bench.split.media import BenchMedia
from bench.split.runs import LIMITS, Took, probe, scratch, split
from pipeline.media import ScanResult, SplitParams, SplitResult, scan_media
from pipeline.media.ranges import count_ranges
from schemas.records import MediaInfo

WORKERS = 2
PARAMS = SplitParams(range_ms=600_000)


def measure(media: BenchMedia) -> list[Figure]:
    path = media.hour_720p
    info = probe(path)
    count = count_ranges(
        kind=info.kind,
        container=info.container,
        duration_ms=info.duration_ms,
        params=asdict(PARAMS),
    )
    with scratch() as folder:
        one, result = split(path, info, folder, PARAMS)
        whole = _content(result)
    with scratch() as folder:
        took, sequential, result = _in_ranges(path, info, count, folder)
        is_same = _content(result) == whole
    equal = "equal" if is_same else "NOT equal"
    what = f"{len(result.shots)} shots, {len(result.keyframes)} keyframes"
    seconds = f"{one.wall_seconds:.0f} / {took.wall_seconds:.0f} s"
    cpu = f"{took.cpu_seconds:.0f} / {one.cpu_seconds:.0f} s"
    return [
        Figure(
            name=f"720p, an hour: seconds in one piece / in {count} ranges on {WORKERS} workers",
            asked="more than 1, the same result",
            seen=one.wall_seconds / took.wall_seconds,
            met=one.wall_seconds > took.wall_seconds and is_same,
            notes=[
                f"the results are {equal}: {what}",
                f"{seconds}, {sequential:.0f} of them after the scans, for sound and joining",
                f"CPU of ranges / of one piece: {took.cpu_seconds / one.cpu_seconds:.3f} ({cpu})",
            ],
        )
    ]


def _in_ranges(
    path: Path, info: MediaInfo, count: int, folder: Path
) -> tuple[Took, float, SplitResult]:
    """Also the seconds of what follows the scans."""
    started, before = time.monotonic(), time.process_time()

    def scan(index: int) -> ScanResult:
        own = folder / str(index)
        own.mkdir()
        return scan_media(
            path,
            info=info,
            params=PARAMS,
            index=index,
            count=count,
            work_dir=own,
            limits=LIMITS,
        )

    with ThreadPoolExecutor(WORKERS) as pool:
        scans = list(pool.map(scan, range(count)))
    cpu = sum(scan.usage.cpu_seconds for scan in scans) + time.process_time() - before
    joining, result = split(path, info, folder, PARAMS, [scan.path for scan in scans])
    took = Took(cpu_seconds=cpu + joining.cpu_seconds, wall_seconds=time.monotonic() - started)
    return took, joining.wall_seconds, result


def _content(result: SplitResult) -> dict[str, Any]:
    """All of a result but what it cost; files by what is in them."""
    content = asdict(result)
    del content["usage"]
    content["audio_path"] = result.audio_path and _digest(result.audio_path)
    for keyframe in content["keyframes"]:
        keyframe["path"] = _digest(keyframe["path"])
    return content


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
