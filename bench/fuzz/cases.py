"""One damaged file: how it is made, how it is run, and what is wrong with how it ended."""

import functools
import json
import os
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.fuzz.mutations import mutate
from bench.fuzz.sources import Source
from pipeline.errors import InvalidMediaError, ResourceExhaustedError
from pipeline.media import (
    MediaLimits,
    SidecarFile,
    SplitParams,
    SplitResult,
    check_sandbox,
    probe_media,
    split_media,
)

#: Generous for the sources, which are small; little enough that a bomb costs seconds.
LIMITS = MediaLimits(
    cpu_seconds=20,
    wall_seconds=60,
    probe_seconds=30,
    memory_bytes=1536 * 1024**2,
    output_bytes=256 * 1024**2,
    max_pixels=30_000_000,
    max_duration_seconds=1800,
)
#: The limits, and what starting and reading the reply may take.
LONGEST_SECONDS = LIMITS.probe_seconds + LIMITS.wall_seconds + 10
_CLEAN_ENDS = (InvalidMediaError, ResourceExhaustedError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """``recipe`` says for a person how ``data`` came to be."""

    name: str
    is_sidecar: bool
    recipe: str
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """``ended``: ``result`` or the class of the error. ``faults``: what must not be."""

    ended: str
    message: str
    faults: tuple[str, ...]
    seconds: float
    worker_pid: int
    #: Of the process that called splitting and of the fork server, afterwards.
    resident_bytes: int


NO_ANSWER = Verdict(
    ended="no answer",
    message="",
    faults=("one of those under way does not end",),
    seconds=LONGEST_SECONDS,
    worker_pid=0,
    resident_bytes=0,
)


def make_case(seed: int, number: int, sources: Sequence[Source]) -> Case:
    """The same for the same seed, number and sources."""
    rng = random.Random(f"{seed}:{number}")  # noqa: S311 - to be repeated, not to be secret
    source = rng.choice(sources)
    other = rng.choice(sources)
    data, recipe = mutate(
        source.path.read_bytes(), rng, other.path.read_bytes(), is_text=source.is_sidecar
    )
    return Case(
        name=f"{seed}-{number}{source.path.suffix}",
        is_sidecar=source.is_sidecar,
        recipe=f"{source.name}, {other.name}: {recipe}",
        data=data,
    )


def run_case(case: Case, carrier: Path) -> Verdict:
    """Probe and split. ``carrier`` is the sound video that a sidecar is split with."""
    with tempfile.TemporaryDirectory(prefix="mediaweave-fuzz-") as name:
        folder = Path(name)
        path, work_dir = folder / f"case{Path(case.name).suffix}", folder / "work"
        path.write_bytes(case.data)
        work_dir.mkdir()
        _start_fork_server()
        descriptors, others = psutil.Process().num_fds(), set(psutil.Process().children())
        began = time.monotonic()
        result, error = _split(path, case, carrier, work_dir)
        seconds = time.monotonic() - began
        faults = [*_wrong_end(result, error), *_left_behind(result, work_dir, others)]
        if seconds > LONGEST_SECONDS:
            faults.append(f"took {seconds:.0f} s")
        if (now := psutil.Process().num_fds()) > descriptors:
            faults.append(f"{now - descriptors} descriptors left open")
        return Verdict(
            ended="result" if error is None else type(error).__name__,
            message=str(error or ""),
            faults=tuple(faults),
            seconds=seconds,
            worker_pid=os.getpid(),
            resident_bytes=sum(
                each.memory_info().rss for each in (psutil.Process(), *psutil.Process().children())
            ),
        )


@functools.cache
def _start_fork_server() -> None:
    """It stays from case to case."""
    check_sandbox()


def _split(
    path: Path, case: Case, carrier: Path, work_dir: Path
) -> tuple[SplitResult | None, Exception | None]:
    sidecars = [SidecarFile(path=path, name=f"film.en{path.suffix}")] if case.is_sidecar else []
    media = carrier if case.is_sidecar else path
    try:
        info = probe_media(media, work_dir=work_dir, limits=LIMITS).info
        return split_media(
            media,
            info=info,
            params=SplitParams(),
            sidecars=sidecars,
            work_dir=work_dir,
            limits=LIMITS,
        ), None
    except Exception as error:  # noqa: BLE001 - which it is gets judged
        return None, error


def _wrong_end(result: SplitResult | None, error: Exception | None) -> list[str]:
    if error is not None:
        clean = isinstance(error, _CLEAN_ENDS) and str(error).isprintable() and str(error)
        return [] if clean else [f"{type(error).__name__}: {error}"]
    if result is None:
        return []
    faults = []
    missing = [keyframe.path.name for keyframe in result.keyframes if not keyframe.path.is_file()]
    if missing or (result.audio_path is not None and not result.audio_path.is_file()):
        faults.append(f"named, but not written: {missing or 'the sound'}")
    if any(not 0 <= cue.start_ms < cue.end_ms for cue in result.cues):
        faults.append("a cue without length")
    if len(result.cues) > LIMITS.max_cues or not all(note.isprintable() for note in result.notes):
        faults.append("too many cues, or a note that cannot be printed")
    return faults


def _left_behind(
    result: SplitResult | None, work_dir: Path, others: set[psutil.Process]
) -> list[str]:
    """``others``: children of this process that were there before."""
    named = set()
    if result is not None:
        named = {keyframe.path for keyframe in result.keyframes}
        named |= {result.audio_path, result.cue_pictures_path}
    faults = [f"left: {path.name}" for path in work_dir.iterdir() if path not in named]
    strays = [child for child in set(psutil.Process().children()) - others if _works(child)]
    strays += [other for other in psutil.process_iter() if _is_in(other, work_dir)]
    return [*faults, *(f"still running: {stray}" for stray in strays)]


def _works(process: psutil.Process) -> bool:
    # Not Python's own helper of its process pools, nor a fork server that took another's place.
    line = " ".join(process.cmdline())
    return "resource_tracker" not in line and "pipeline.media.forkserver" not in line


def _is_in(process: psutil.Process, folder: Path) -> bool:
    try:
        return Path(process.cwd()).is_relative_to(folder)
    except psutil.Error:
        # It is gone, or another user's.
        return False


def save(case: Case, verdict: Verdict, folder: Path) -> Path:
    """The bytes and, beside them, how they came to be and what happened."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / case.name
    path.write_bytes(case.data)
    told = {
        "is_sidecar": case.is_sidecar,
        "recipe": case.recipe,
        "ended": verdict.ended,
        "message": verdict.message,
        "faults": verdict.faults,
    }
    path.with_suffix(path.suffix + ".json").write_text(json.dumps(told, indent=1), "utf-8")
    return path


def load(path: Path) -> Case:
    """A case that was saved, or any file."""
    beside = path.with_suffix(path.suffix + ".json")
    told = json.loads(beside.read_text("utf-8")) if beside.is_file() else {}
    is_sidecar = told.get("is_sidecar", path.suffix in {".srt", ".vtt", ".ass"})
    return Case(
        name=path.name,
        is_sidecar=is_sidecar,
        recipe=told.get("recipe", "as it is"),
        data=path.read_bytes(),
    )
