"""Keeps one worker process alive: a small parent that starts it, listens to it, and replaces it.

The parent does no work and loads no library that could crash. Its child, the real worker, writes
bytes to a pipe: the first when it is ready, then about one a second. A child that falls silent is
hung, in native code that never lets Python go on or stopped altogether; no lease can tell that from
long work, so it is killed. The runs it held are claimed again by others after their lease.

A start may take as long as it takes (tables may be migrated), so silence counts from ready on.
"""

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Self

import structlog

from workers.cli import EXIT_OK, EXIT_USAGE

log = structlog.get_logger()

#: The child's way to say: start me anew (a stage stalled, or memory reached its limit).
EXIT_REPLACE = 75
#: Appended to the child's command, with the number of the pipe to write beats to.
HEARTBEAT_OPTION = "--heartbeat-fd"

FORWARDED = (signal.SIGTERM, signal.SIGINT)
_TICK_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Bounds of patience, in seconds."""

    #: A ready child without a beat for so long is hung.
    silence: float = 60
    #: Pause before a child that died is replaced; doubles with each death in a row.
    first_pause: float = 1
    longest_pause: float = 30
    #: A child that was ready for so long ends the row of deaths.
    health: float = 60


def supervise(command: Sequence[str], *, times: Times | None = None) -> int:
    """Run ``command`` with ``--heartbeat-fd=N`` appended, again and again; gives the exit code.

    Blocks until the child ends with 0 (then 0), until it ends with 2 before any child was ready
    (wrong settings: then 2), or until a SIGTERM or SIGINT, each forwarded to the child once, has
    ended it. Call it from the main thread, which the kernel ties the child's life to.
    """
    with _Signals() as signals:
        return _Supervisor(command, times or Times(), signals).run()


class _Signals:
    """Signals as bytes on a pipe, so that they are dealt with between two steps, not within one."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)

    def __enter__(self) -> Self:
        numbers = (*FORWARDED, signal.SIGCHLD)
        self._handlers = {number: signal.signal(number, _noted) for number in numbers}
        self._wakeup = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        os.close(self._reader)
        os.close(self._writer)

    def fileno(self) -> int:
        return self._reader

    def stops(self) -> list[int]:
        """The SIGTERM and SIGINT that came since the last call."""
        try:
            came = os.read(self._reader, 4096)
        except BlockingIOError:
            return []
        return [number for number in came if number in FORWARDED]


def _noted(number: int, frame: FrameType | None) -> None:
    """Python writes the number to the wakeup pipe only for signals that have a handler."""


class _Child:
    """One life of the worker process."""

    def __init__(self, command: Sequence[str]) -> None:
        self.beats, writer = os.pipe()
        os.set_blocking(self.beats, False)
        try:
            self.process = subprocess.Popen(
                [*command, f"{HEARTBEAT_OPTION}={writer}"],
                pass_fds=[writer],
                # A terminal's Ctrl-C reaches the child through its parent only.
                start_new_session=True,
            )
        except OSError:
            os.close(self.beats)
            raise
        finally:
            os.close(writer)
        self.ready_at: float | None = None

    def has_beaten(self) -> bool:
        """Take the beats out of the pipe; raises EOFError when the child has closed it."""
        try:
            beats = os.read(self.beats, 4096)
        except BlockingIOError:
            return False
        if not beats:
            raise EOFError
        if self.ready_at is None:
            self.ready_at = time.monotonic()
            log.info("worker_ready", pid=self.process.pid)
        return True

    def ready_seconds(self) -> float:
        return 0.0 if self.ready_at is None else time.monotonic() - self.ready_at

    def kill(self) -> None:
        """The child and what it has in its process group; it is not waited for here."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)


class _Supervisor:
    def __init__(self, command: Sequence[str], times: Times, signals: _Signals) -> None:
        self._command = list(command)
        self._times = times
        self._signals = signals
        self._stopping = False
        self._was_ready = False
        self._deaths_in_a_row = 0

    def run(self) -> int:
        while not self._stopping:
            try:
                child = _Child(self._command)
            except OSError:
                # Out of processes or memory: that may pass.
                log.exception("worker_not_started")
                self._pause()
                continue
            try:
                code = self._attend(child)
            finally:
                os.close(child.beats)
            _reap_strays()
            if self._stopping:
                return _stopped(code)
            if code == EXIT_OK or (code == EXIT_USAGE and not self._was_ready):
                return code
            if child.ready_seconds() >= self._times.health:
                self._deaths_in_a_row = 0
            _tell(code, child)
            self._pause(is_asked_for=code == EXIT_REPLACE)
        return EXIT_OK

    def _attend(self, child: _Child) -> int:
        """Listen to the child until it ends; gives its exit code, negative for a signal."""
        silence = 0.0
        is_killed = False
        tick = min(_TICK_SECONDS, self._times.silence / 4)
        with selectors.DefaultSelector() as selector:
            selector.register(self._signals, selectors.EVENT_READ)
            selector.register(child.beats, selectors.EVENT_READ)
            while (code := child.process.poll()) is None:
                looked_at = time.monotonic()
                selector.select(tick)
                for number in self._signals.stops():
                    self._stopping = True
                    child.process.send_signal(number)
                # Time in which this process was frozen itself is no silence of its child.
                silence += min(time.monotonic() - looked_at, tick)
                try:
                    if child.has_beaten():
                        silence = 0.0
                        self._was_ready = True
                except EOFError:
                    if child.beats in selector.get_map():
                        selector.unregister(child.beats)
                if child.ready_at is not None and silence >= self._times.silence and not is_killed:
                    log.error("worker_hung", pid=child.process.pid, silent_seconds=round(silence))
                    child.kill()
                    is_killed = True
        return code

    def _pause(self, *, is_asked_for: bool = False) -> None:
        """Wait before the next start; a replacement that was asked for is due at once, unless it
        is one of a row (such as a memory limit below what a worker needs to start)."""
        doublings = self._deaths_in_a_row - (1 if is_asked_for else 0)
        self._deaths_in_a_row += 1
        if doublings < 0:
            return
        # Bounded, lest a long row of deaths makes a number too large for a float.
        pause = min(self._times.longest_pause, self._times.first_pause * 2 ** min(doublings, 30))
        until = time.monotonic() + pause
        with selectors.DefaultSelector() as selector:
            selector.register(self._signals, selectors.EVENT_READ)
            while not self._stopping and (left := until - time.monotonic()) > 0:
                selector.select(left)
                self._stopping = bool(self._signals.stops())


def _tell(code: int, child: _Child) -> None:
    fields = {"pid": child.process.pid, "ready_seconds": round(child.ready_seconds())}
    if code == EXIT_REPLACE:
        log.warning("worker_replaced", **fields)
    elif code < 0:
        log.error("worker_killed", signal=_signal_name(-code), **fields)
    else:
        log.error("worker_died", exit_code=code, **fields)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        # Real-time signals have numbers only.
        return str(number)


def _stopped(code: int) -> int:
    """Our exit code when we were asked to stop, as a shell would give it."""
    if code in {EXIT_REPLACE, *(-number for number in FORWARDED)}:
        # It ended because it was to end, if not by its own handler.
        return EXIT_OK
    return code if code >= 0 else 128 - code


def _reap_strays() -> None:
    """As the first process of a container, we inherit what the child has left behind."""
    if os.getpid() != 1:
        return
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
