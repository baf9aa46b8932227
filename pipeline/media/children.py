"""The worker's end of the fork server: starting children that open media, and ending them."""

import atexit
import os
import re
import select
import signal
import site
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import ContractError, PipelineError, ResourceExhaustedError
from pipeline.media.forkserver import ENDED, STARTED, kill_group
from pipeline.media.messages import NO_MEMORY, signal_name, useful_line

#: How programs end that were led astray.
CRASHES: frozenset[int] = frozenset({
    signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE, signal.SIGTRAP,
    signal.SIGSYS,
})  # fmt: skip
_EXHAUSTED = re.compile(rf"{NO_MEMORY.pattern}|Too many open files")
#: For importing libraries, on a machine that does much else.
_START_SECONDS = 120
#: For reaping, once nothing is asked of it any more.
_END_SECONDS = 10
_KEPT_MESSAGE_BYTES = 4096


def server_command() -> list[str]:
    """``-P`` and ``-s`` keep the working directory and the user's packages off the import path."""
    return [sys.executable, "-P", "-s", "-m", "pipeline.media.forkserver"]


def server_environment() -> dict[str, str]:
    """Nothing of the caller's environment: it holds secrets."""
    environment = {
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        # Threads of numerical libraries and glibc's arenas reserve address space, which is bounded.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "2",
        # By itself glibc comes to keep what is freed while the index of a long MP4 grows. Buffers
        # of candidates are smaller than the first, and used again.
        "MALLOC_MMAP_THRESHOLD_": str(2 * 1024**2),
        "MALLOC_TRIM_THRESHOLD_": str(4 * 1024**2),
    }
    root = str(Path(__file__).resolve().parents[2])
    if root not in site.getsitepackages():
        environment["PYTHONPATH"] = root
    return environment


@dataclass(frozen=True, slots=True)
class Ended:
    """``code``: negative for a signal. ``cpu_seconds``: with all that the child waited for."""

    code: int
    cpu_seconds: float


class Child:
    """A process that was started. ``ending``: a pidfd, readable when it has ended."""

    def __init__(self, pid: int, channel: socket.socket, server: "_Server") -> None:
        self.ending = os.pidfd_open(pid)
        self._pid = pid
        self._channel = channel
        self._server = server

    def end(self) -> Ended:
        """Kill what is left of its process group, and reap it; to be called once.

        Raises:
            ResourceExhaustedError, ContractError: the fork server is gone, and the child with it.
        """
        # The fork server does not reap it before it is asked to: the number is still its own.
        kill_group(self._pid)
        code = 0
        try:
            ended = self._told()
            if ended is None:
                failure = self._server.why_gone()
                self._has_ended(_END_SECONDS)
                raise failure
            code = ended.code
            return ended
        finally:
            os.close(self.ending)
            # Where this is process 1, what the child had started is now ours.
            with suppress(ChildProcessError):
                while True:
                    os.waitpid(-self._pid, 0)
            self._server.leave(has_crashed=-code in CRASHES)

    def _told(self) -> Ended | None:
        """``None``: the fork server does not answer."""
        with self._channel, suppress(ConnectionError):
            self._channel.settimeout(_START_SECONDS)
            try:
                self._channel.send(b"end")
                told = self._channel.recv(ENDED.size)
            except TimeoutError as error:
                if self._has_ended(0):
                    return None
                raise ResourceExhaustedError(
                    "a media child was killed and does not end: the disk of its file does not "
                    "answer"
                ) from error
            if told:
                status, cpu_seconds = ENDED.unpack(told)
                return Ended(os.waitstatus_to_exitcode(status), cpu_seconds)
        return None

    def _has_ended(self, seconds: float) -> bool:
        """Whether it does so within this time."""
        poller = select.poll()
        poller.register(self.ending, select.POLLIN)
        return bool(poller.poll(seconds * 1000))


class _Server:
    """A fork server that was started, and how many children it has."""

    def __init__(self, process: subprocess.Popen[bytes], requests: socket.socket) -> None:
        self.requests = requests
        self._process = process
        self._burial = threading.Lock()
        self._last_words: str | None = None
        self._count = threading.Lock()
        self._children = 0
        self._is_retired = False

    def enter(self) -> bool:
        """Count one more child; whether it still forks any."""
        with self._count:
            if not self._is_retired:
                self._children += 1
            return not self._is_retired

    def leave(self, *, has_crashed: bool = False) -> None:
        """One child less. A crash may have been a guess at addresses that all children share: the
        server is retired then, and ends after its last child."""
        with self._count:
            self._children -= 1
            self._is_retired |= has_crashed
            is_over = self._is_retired and not self._children
        if is_over:
            self.requests.close()
            self.bury()

    def bury(self) -> None:
        """Wait for its end, and keep what it wrote last; any number of times."""
        with self._burial:
            if self._last_words is None:
                try:
                    _, messages = self._process.communicate(timeout=_END_SECONDS)
                except subprocess.TimeoutExpired:
                    self._process.kill()
                    _, messages = self._process.communicate()
                lines = messages[-_KEPT_MESSAGE_BYTES:].decode("utf-8", "replace").splitlines()
                self._last_words = useful_line(lines) or "it wrote nothing"

    def why_gone(self) -> PipelineError:
        """The error of those whose child went with it."""
        self.bury()
        code, last_words = self._process.returncode, self._last_words or ""
        if code < 0:
            return ResourceExhaustedError(
                f"the process that starts media children was stopped ({signal_name(-code)}); most "
                "likely the machine ran out of memory; run fewer at a time"
            )
        kind = ResourceExhaustedError if _EXHAUSTED.search(last_words) else ContractError
        return kind(
            f"the process that starts media children ended with exit code {code}: {last_words}"
        )


class Children:
    """Starts children; safe to use from many threads. The fork server is started when it is needed,
    anew where it was killed or a child crashed, and ends with this process."""

    def __init__(self, command: Sequence[str] | None = None) -> None:
        self._command = list(command or server_command())
        self._lock = threading.Lock()
        self._server: _Server | None = None

    def start(self, folder: Path, descriptors: Sequence[int]) -> Child:
        """A child in this folder, with these descriptors as its 0, 1, 2, … and no other.

        Raises:
            ResourceExhaustedError: the machine has no memory, process or descriptor left for it.
            ContractError: the fork server does not work at all.
        """
        try:
            return self._start(folder, descriptors)
        except OSError as error:
            raise ResourceExhaustedError(
                f"a media child cannot be started: {error.strerror or error}; run fewer at a time"
            ) from error

    def _start(self, folder: Path, descriptors: Sequence[int]) -> Child:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ExitStack() as stack:
            stack.enter_context(ours)
            with theirs:
                server = self._ask(folder.absolute(), [theirs.fileno(), *descriptors])
            stack.callback(server.leave)
            ours.settimeout(_START_SECONDS)
            try:
                told = ours.recv(STARTED.size)
            except ConnectionError:
                told = b""
            except TimeoutError:
                server.bury()
                raise
            if not told:
                raise server.why_gone()
            (pid,) = STARTED.unpack(told)
            if pid < 0:
                raise OSError(-pid, os.strerror(-pid))
            try:
                child = Child(pid, ours, server)
            except ProcessLookupError as error:
                raise server.why_gone() from error
            stack.pop_all()
            return child

    def close(self) -> None:
        """End the fork server and all its children; waits for it."""
        with self._lock:
            if self._server is not None:
                self._forget(self._server)

    def _ask(self, folder: Path, descriptors: Sequence[int]) -> _Server:
        with self._lock:
            server = self._server
            if server is not None and server.enter():
                try:
                    socket.send_fds(server.requests, [os.fsencode(folder)], descriptors)
                except ConnectionError:
                    server.leave()
                    self._forget(server)
                else:
                    return server
            server = self._server = self._started()
            server.enter()
            # Where it has ended already, the child's own socket says so.
            with suppress(ConnectionError):
                socket.send_fds(server.requests, [os.fsencode(folder)], descriptors)
            return server

    def _started(self) -> _Server:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            process = subprocess.Popen(
                self._command,
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                cwd="/",
                env=server_environment(),
                start_new_session=True,
            )
        if self._server is None:
            atexit.register(self.close)
        return _Server(process, ours)

    def _forget(self, server: _Server) -> None:
        atexit.unregister(self.close)
        server.requests.close()
        server.bury()
        self._server = None
