"""The worker's end of the fork server: starting children that open media, and ending them."""

import atexit
import os
import signal
import site
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import ContractError, PipelineError, ResourceExhaustedError
from pipeline.media.forkserver import ENDED, STARTED
from pipeline.media.messages import signal_name, useful_line

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
        try:
            with self._channel, suppress(ConnectionError):
                self._channel.send(b"end")
                told = self._channel.recv(ENDED.size)
                if told:
                    status, cpu_seconds = ENDED.unpack(told)
                    return Ended(os.waitstatus_to_exitcode(status), cpu_seconds)
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.ending, signal.SIGKILL)
            raise self._server.why_gone()
        finally:
            os.close(self.ending)
            # Where this is process 1, what the child had started is now ours.
            with suppress(ChildProcessError):
                while True:
                    os.waitpid(-self._pid, 0)


class _Server:
    def __init__(self, process: subprocess.Popen[bytes], requests: socket.socket) -> None:
        self.requests = requests
        self._process = process
        self._lock = threading.Lock()
        self._last_words: str | None = None

    def bury(self) -> None:
        """Wait for its end, and keep what it wrote last; any number of times."""
        with self._lock:
            if self._last_words is None:
                try:
                    _, messages = self._process.communicate(timeout=_END_SECONDS)
                except subprocess.TimeoutExpired:
                    self._process.kill()
                    _, messages = self._process.communicate()
                lines = messages[-_KEPT_MESSAGE_BYTES:].decode("utf-8", "replace").splitlines()
                self._last_words = useful_line(lines) or "it wrote nothing"

    def why_gone(self) -> PipelineError:
        self.bury()
        code = self._process.returncode
        if code >= 0:
            return ContractError(
                f"the process that starts media children ended with exit code {code}: "
                f"{self._last_words}"
            )
        return ResourceExhaustedError(
            f"the process that starts media children was stopped ({signal_name(-code)}); most "
            "likely the machine ran out of memory; run fewer at a time"
        )


class Children:
    """Starts children; safe to use from many threads. The fork server is started when it is needed
    and whenever it was killed, and ends with this process."""

    def __init__(self, command: Sequence[str] | None = None) -> None:
        self._command = list(command or server_command())
        self._lock = threading.Lock()
        self._server: _Server | None = None

    def start(self, folder: Path, descriptors: Sequence[int]) -> Child:
        """A child in this folder, with these descriptors as its 0, 1, 2, … and no other.

        Raises:
            ResourceExhaustedError: the machine has no memory or process left for it.
            ContractError: the fork server does not work at all.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                server = self._ask(folder.absolute(), [theirs.fileno(), *descriptors])
            ours.settimeout(_START_SECONDS)
            try:
                told = ours.recv(STARTED.size)
            except ConnectionError:
                told = b""
            except TimeoutError as error:
                raise ResourceExhaustedError(
                    f"a media child was not started within {_START_SECONDS} s: the machine does "
                    "too much at a time"
                ) from error
            if not told:
                raise server.why_gone()
            (pid,) = STARTED.unpack(told)
            if pid < 0:
                raise ResourceExhaustedError(
                    f"a media child cannot be started: {os.strerror(-pid)}; run fewer at a time"
                )
            ours.settimeout(None)
            try:
                return Child(pid, ours, server)
            except ProcessLookupError as error:
                raise server.why_gone() from error
        except BaseException:
            ours.close()
            raise

    def close(self) -> None:
        """End the fork server and all its children; waits for it."""
        with self._lock:
            if self._server is not None:
                self._forget(self._server)

    def _ask(self, folder: Path, descriptors: Sequence[int]) -> _Server:
        with self._lock:
            if self._server is not None:
                try:
                    socket.send_fds(self._server.requests, [os.fsencode(folder)], descriptors)
                except ConnectionError:
                    self._forget(self._server)
                else:
                    return self._server
            self._server = self._started()
            # Where it has ended already, the child's own socket says so.
            with suppress(ConnectionError):
                socket.send_fds(self._server.requests, [os.fsencode(folder)], descriptors)
            return self._server

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
        atexit.register(self.close)
        return _Server(process, ours)

    def _forget(self, server: _Server) -> None:
        atexit.unregister(self.close)
        server.requests.close()
        server.bury()
        self._server = None
