"""The process that all media children of a worker are forked from.

Importing a child's libraries costs 0.2 to 0.5 CPU seconds, many times what a picture needs: here it
is done once. Run as ``python -m pipeline.media.forkserver`` by :mod:`pipeline.media.children`,
never by hand. This process has one thread, nothing of the worker's environment, and opens no media.

Standard input is a Unix socket of datagrams. Each asks for one child: its folder, and with it
descriptors, the first a socket for what concerns this child alone, the others to be the child's 0,
1, 2, … On that socket the child's number is told. Any message on it, or its end, has the child's
whole process group killed and the child reaped; how it ended is told. When standard input ends,
everything does.
"""

import errno
import fcntl
import gc
import os
import selectors
import signal
import socket
import struct
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Never

from pipeline.media.confine import die_with_parent, exit_if_orphaned

#: The child's number, or a negative errno: it could not be forked.
STARTED = struct.Struct("=i")
#: Status as of ``waitpid``, CPU seconds of the child and of all it has waited for.
ENDED = struct.Struct("=id")
#: The socket, three standard ones, progress, and two to a model.
MAX_DESCRIPTORS = 7
_MAX_FOLDER_BYTES = 4096
#: Above all that a child is given.
_ASIDE = 64


class ForkServer:
    """``work`` is what a child does."""

    def __init__(self, requests: socket.socket, work: Callable[[], object]) -> None:
        self._requests = requests
        self._work = work
        self._selector = selectors.DefaultSelector()
        self._pids: set[int] = set()
        self._is_wanted = True

    def serve(self) -> None:
        """Until there can be no more requests; then all children are killed."""
        self._selector.register(self._requests, selectors.EVENT_READ, self._start)
        while self._is_wanted:
            for key, _ in self._selector.select():
                key.data()
        for pid in self._pids:
            kill_group(pid)

    def _start(self) -> None:
        folder, descriptors, flags, _ = socket.recv_fds(
            self._requests, _MAX_FOLDER_BYTES, MAX_DESCRIPTORS
        )
        if flags & socket.MSG_CTRUNC:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        if not folder:
            self._is_wanted = False
            return
        channel = socket.socket(fileno=descriptors[0])
        try:
            pid = _fork(self._work, os.fsdecode(folder), descriptors[1:])
        except OSError as error:
            _tell(channel, STARTED.pack(-(error.errno or 1)))
            channel.close()
            return
        finally:
            for descriptor in descriptors[1:]:
                os.close(descriptor)
        self._pids.add(pid)
        _tell(channel, STARTED.pack(pid))
        self._selector.register(channel, selectors.EVENT_READ, partial(self._end, pid, channel))

    def _end(self, pid: int, channel: socket.socket) -> None:
        self._selector.unregister(channel)
        with suppress(ConnectionError):
            channel.recv(1)  # what is never read would make an error of the answer
        # Before reaping: until then the group's number cannot be given to another. The worker does
        # the same, unless it is gone.
        kill_group(pid)
        ending = os.pidfd_open(pid)
        reap = partial(self._reap, pid, channel, ending)
        self._selector.register(ending, selectors.EVENT_READ, reap)

    def _reap(self, pid: int, channel: socket.socket, ending: int) -> None:
        self._selector.unregister(ending)
        os.close(ending)
        _, status, usage = os.wait4(pid, 0)
        self._pids.discard(pid)
        _tell(channel, ENDED.pack(status, usage.ru_utime + usage.ru_stime))
        channel.close()


def _tell(channel: socket.socket, message: bytes) -> None:
    # Nobody may want to know any more.
    with suppress(OSError):
        channel.send(message)


def kill_group(pid: int) -> None:
    """Kill the child and all that it has started. It must not have been reaped."""
    # Killed before it leads a group, it has started nothing.
    for kill in (os.killpg, os.kill):
        with suppress(ProcessLookupError):
            kill(pid, signal.SIGKILL)


def _fork(work: Callable[[], object], folder: str, descriptors: Sequence[int]) -> int:
    parent_pid = os.getpid()
    pid = os.fork()
    if pid == 0:
        _be_child(work, folder, descriptors, parent_pid)
    return pid


def _be_child(
    work: Callable[[], object], folder: str, descriptors: Sequence[int], parent_pid: int
) -> Never:
    """The leader of a session and a process group of its own, with these descriptors and no
    other; it ends without tearing down the interpreter, which takes as long as a small picture."""
    code = 1
    try:
        os.setsid()
        aside = [fcntl.fcntl(each, fcntl.F_DUPFD, _ASIDE) for each in descriptors]
        for number, descriptor in enumerate(aside):
            os.dup2(descriptor, number)
        _close_from(len(aside))
        die_with_parent()
        exit_if_orphaned(parent_pid)
        os.chdir(folder)
        os.environ["HOME"] = os.environ["TMPDIR"] = folder
        work()
        code = 0
    except MemoryError:
        os.write(2, b"MemoryError\n")
    except BaseException:  # noqa: BLE001 - whoever started it reads what is printed
        traceback.print_exc()
    finally:
        os._exit(code)


def _close_from(first: int) -> None:
    for number in [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]:
        if number >= first:
            # One of them listed the others.
            with suppress(OSError):
                os.close(number)


def serve(work: Callable[[], object]) -> None:
    """Serve on standard input. What was imported before is there in every child."""
    # What all children share is not looked through, and so not copied, in any of them.
    gc.collect()
    gc.freeze()
    with socket.socket(fileno=0) as requests:
        ForkServer(requests, work).serve()


if __name__ == "__main__":
    from pipeline.media import child

    serve(child.main)
