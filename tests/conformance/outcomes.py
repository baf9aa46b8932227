"""What probing and splitting make of each file, two at a time."""

import resource
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from conformance.room import CARRIER, Entry, Room

from pipeline.media import (
    MediaLimits,
    SidecarFile,
    SplitParams,
    SplitResult,
    probe_media,
    split_media,
)
from schemas.records import MediaInfo

#: Several times what the largest file here needs.
LIMITS = MediaLimits(cpu_seconds=120, wall_seconds=240, probe_seconds=60)
#: Resident memory of one process of a child's tree. The address space that the limits allow is
#: twice that.
MAX_CHILD_BYTES = 1024**3


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """``left``: names in the work directory that no result names. ``child_bytes``: the largest
    resident child so far, where it grew meanwhile."""

    info: MediaInfo | None
    result: SplitResult | None
    error: Exception | None
    left: tuple[str, ...]
    seconds: float
    child_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """All that a check may look at."""

    entry: Entry
    outcome: Outcome
    room: Room
    outcomes: "Outcomes"

    @property
    def path(self) -> Path:
        return self.room.path_of(self.entry.file)


class Outcomes:
    """Results by file, each found once."""

    def __init__(self, room: Room, folder: Path) -> None:
        self._room = room
        self._folder = folder
        self._pool = ThreadPoolExecutor(2)
        self._futures: dict[str, Future[Outcome]] = {}
        self._lock = threading.Lock()

    def start(self, entries: Iterable[Entry]) -> None:
        """Begin with these, in this order."""
        for entry in entries:
            self._future(entry.file)

    def of(self, file: str) -> Outcome:
        """Of any file of the room; waits for it."""
        return self._future(file).result()

    def case(self, entry: Entry) -> Case:
        return Case(entry=entry, outcome=self.of(entry.file), room=self._room, outcomes=self)

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _future(self, file: str) -> Future[Outcome]:
        with self._lock:
            if file not in self._futures:
                work_dir = self._folder / str(len(self._futures))
                self._futures[file] = self._pool.submit(self._find, file, work_dir)
            return self._futures[file]

    def _find(self, file: str, work_dir: Path) -> Outcome:
        work_dir.mkdir(parents=True)
        before = _largest_child_bytes()
        began = time.monotonic()
        info, result, error = self._split(self._room.entries[file], work_dir)
        seconds = time.monotonic() - began
        named = set()
        if result is not None:
            named = {keyframe.path for keyframe in result.keyframes}
            named |= {result.audio_path, result.cue_pictures_path}
        after = _largest_child_bytes()
        return Outcome(
            info=info,
            result=result,
            error=error,
            left=tuple(path.name for path in work_dir.iterdir() if path not in named),
            seconds=seconds,
            child_bytes=after if after > before else 0,
        )

    def _split(
        self, entry: Entry, work_dir: Path
    ) -> tuple[MediaInfo | None, SplitResult | None, Exception | None]:
        path, sidecars = self._room.path_of(entry.file), []
        if entry.is_sidecar:
            sidecars = [SidecarFile(path=path, name=path.name)]
            path = self._room.path_of(entry.truth.get("for_video", CARRIER))
        info = None
        try:
            info = probe_media(path, work_dir=work_dir, limits=LIMITS).info
            result = split_media(
                path,
                info=info,
                params=SplitParams(),
                sidecars=sidecars,
                work_dir=work_dir,
                limits=LIMITS,
            )
        except Exception as error:  # noqa: BLE001 - the checks judge which it may be
            return info, None, error
        return info, result, None


def _largest_child_bytes() -> int:
    """Of all children this process has waited for. A child starts with its parent's pages, so
    what does not go beyond this process itself says nothing."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return children * 1024 if children > own else 0
