"""The child's side of the supervisor: shows that the process lives, and knows when it should not.

Two concerns, a thread each. :class:`Heartbeat` only writes beats: it falls silent exactly when no
Python code of this process can run, and the supervisor acts. :class:`Watchdog` looks at what Python
can still see, memory and stages without progress, and acts itself.
"""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, Protocol

import structlog

from pipeline.errors import ConfigurationError
from pipeline.media.confine import die_with_parent
from workers.supervisor import EXIT_REPLACE

log = structlog.get_logger()

#: Why a process is to be replaced.
Reason = Literal["memory", "stalled"]

_BEAT = b"."
_STATM = Path("/proc/self/statm")


class Heartbeat:
    """Writes a beat to the supervisor's pipe every second, from :meth:`ready` to the process's end.

    Make it first thing in the main thread: it ties the life of this process to the supervisor's.
    """

    def __init__(self, pipe: int, *, interval_seconds: float = 1.0) -> None:
        die_with_parent()
        # Programs started from here must not keep the pipe open, and a supervisor that does not
        # read (stopped by a debugger) must not hold us up.
        os.set_inheritable(pipe, False)
        os.set_blocking(pipe, False)
        self._pipe = pipe
        self._interval_seconds = interval_seconds
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def ready(self) -> None:
        """The first beat: from now on silence means that this process hangs."""
        # Here, not in the thread: it might hang before that ever runs.
        self._beat()
        self._thread.start()

    def _run(self) -> None:
        while True:
            time.sleep(self._interval_seconds)
            self._beat()

    def _beat(self) -> None:
        try:
            os.write(self._pipe, _BEAT)
        except BlockingIOError:
            pass
        except BrokenPipeError:
            # It died before die_with_parent took hold: nobody would ever replace us.
            log.warning("supervisor_gone")
            os._exit(EXIT_REPLACE)


class Stages(Protocol):
    """What the watchdog asks about the stage runs at work (the lease keeper answers)."""

    def stalled(self, limit_seconds: float) -> list[str]:
        """Lease tokens of the runs without progress for so long."""


class Watchdog:
    """Looks at this process every second, and ends it with ``EXIT_REPLACE`` when something is off.

    ``on_replace`` is called once before, in the watchdog's thread, with the reason and the tokens
    of the stalled runs: it counts and gives back what the process holds. It may block and raise;
    the process ends ``deadline_seconds`` after the call at the latest, and what it still held then
    is the lease's to recover.

    Raises:
        ConfigurationError: a memory limit where the kernel does not tell the memory in use.
    """

    def __init__(
        self,
        stages: Stages,
        *,
        stall_seconds: float,
        memory_bytes: int | None,
        on_replace: Callable[[Reason, list[str]], None],
        deadline_seconds: float,
        interval_seconds: float = 1.0,
    ) -> None:
        if memory_bytes is not None and not _STATM.exists():
            raise ConfigurationError(
                "worker_memory_bytes works on Linux only; leave it out on this machine"
            )
        self._stages = stages
        self._stall_seconds = stall_seconds
        self._memory_bytes = memory_bytes
        self._on_replace = on_replace
        self._deadline_seconds = deadline_seconds
        self._interval_seconds = interval_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Look no more. Where a replacement has begun this does not return: it ends the process."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._interval_seconds):
            tokens = self._stages.stalled(self._stall_seconds)
            if tokens:
                log.error("stages_stalled", runs=len(tokens), limit_seconds=self._stall_seconds)
                self._replace("stalled", tokens)
            if self._memory_bytes is not None and (used := resident_bytes()) > self._memory_bytes:
                log.error("memory_limit", resident_bytes=used, limit_bytes=self._memory_bytes)
                self._replace("memory", [])

    def _replace(self, reason: Reason, tokens: list[str]) -> None:
        deadline = threading.Timer(self._deadline_seconds, os._exit, args=[EXIT_REPLACE])
        deadline.daemon = True
        deadline.start()
        try:
            self._on_replace(reason, tokens)
        except Exception:
            # The end comes either way; the leases bring back what was not given back.
            log.exception("replacement_not_orderly", reason=reason)
        os._exit(EXIT_REPLACE)


def resident_bytes() -> int:
    """Memory of this process that is in RAM, mapped files included."""
    return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
