"""Running a decoder, or the split stage, and what it took."""

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.media import (
    MediaLimits,
    SplitParams,
    SplitResult,
    find_ffmpeg,
    probe_media,
    split_media,
)
from schemas.records import MediaInfo

#: A device would decode in no CPU time at all.
LIMITS = MediaLimits(hardware_decoding=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Took:
    """Of a process and its children."""

    cpu_seconds: float
    wall_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitTook(Took):
    """CPU seconds: of ffmpeg, of the child's own work, of its start, of the calling process."""

    ffmpeg_seconds: float
    python_seconds: float
    startup_seconds: float
    parent_seconds: float


@contextmanager
def scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mediaweave-bench-") as folder:
        yield Path(folder)


def run(command: Sequence[str | Path], environment: dict[str, str] | None = None) -> Took:
    """Run a command to its end.

    Raises:
        CalledProcessError: it failed.
    """
    started = time.monotonic()
    process = subprocess.Popen(
        list(map(str, command)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env=os.environ | (environment or {}),
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    return Took(
        cpu_seconds=usage.ru_utime + usage.ru_stime, wall_seconds=time.monotonic() - started
    )


def ffmpeg(*arguments: str | Path) -> Took:
    return run([find_ffmpeg(), "-nostdin", "-v", "error", "-y", *arguments])


def decode(path: Path, *options: str) -> Took:
    """Decode the picture and do nothing with it."""
    return ffmpeg(*options, "-i", path, "-map", "0:v:0", "-f", "null", "-")


def probe(path: Path) -> MediaInfo:
    with scratch() as folder:
        return probe_media(path, work_dir=folder, limits=LIMITS).info


def split(
    path: Path, info: MediaInfo, folder: Path, params: SplitParams, scans: Sequence[Path] = ()
) -> tuple[SplitTook, SplitResult]:
    """The whole split stage; what it writes goes to ``folder``."""
    started, before = time.monotonic(), time.process_time()
    result = split_media(
        path,
        info=info,
        params=params,
        sidecars=(),
        work_dir=folder,
        limits=LIMITS,
        scans=scans,
    )
    parent = time.process_time() - before
    wall = time.monotonic() - started
    usage = result.usage
    own = usage.cpu_seconds - usage.decoder_cpu_seconds - usage.startup_cpu_seconds
    took = SplitTook(
        cpu_seconds=usage.cpu_seconds + parent,
        wall_seconds=wall,
        ffmpeg_seconds=usage.decoder_cpu_seconds,
        python_seconds=own,
        startup_seconds=usage.startup_cpu_seconds,
        parent_seconds=parent,
    )
    return took, result
