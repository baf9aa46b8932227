"""Starting the child that opens media, watching it, and saying what became of it."""

import compileall
import functools
import json
import os
import re
import resource
import signal
import site
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pipeline import errors
from pipeline.errors import ContractError, InvalidMediaError, PipelineError, ResourceExhaustedError
from pipeline.media.limits import MediaLimits
from pipeline.media.messages import one_line, signal_name, useful_line
from pipeline.media.watch import Watch
from pipeline.media.windows import WindowServer

#: What a child may report; anything else is a :class:`ContractError`.
_REPORTABLE = (
    errors.InvalidMediaError,
    errors.UnsupportedMediaError,
    errors.MediaLimitError,
    errors.ResourceExhaustedError,
    errors.ConfigurationError,
)
_CRASHES: set[int] = {
    signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE, signal.SIGTRAP,
    signal.SIGSYS,
}  # fmt: skip
_ENDINGS: dict[int, str] = {
    signal.SIGXCPU: "it needed more CPU time than its limit allows",
    signal.SIGXFSZ: "it wrote a larger file than its limit allows",
    signal.SIGKILL: "most likely the machine ran out of memory; run fewer at a time",
}
_MAX_MESSAGE_CHARS = 1000
#: What libraries say of RLIMIT_AS before they give up in their own ways.
_NO_MEMORY = re.compile(
    r"MemoryError|bad_alloc|[Cc]annot allocate memory|failed to map segment|"
    r"can't start new thread|[Ii]nsufficient memory"
)


def child_command() -> list[str]:
    """The child's command line; it puts itself into the sandbox.

    ``-P`` keeps the working directory, which holds untrusted files, off the import path.
    """
    return [sys.executable, "-P", "-s", "-m", "pipeline.media.child"]


def child_environment(work_dir: Path) -> dict[str, str]:
    """Nothing of the caller's environment: it holds secrets."""
    environment = {
        "PATH": os.defpath,
        "HOME": str(work_dir),
        "TMPDIR": str(work_dir),
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


def run_child(
    request: dict[str, Any],
    *,
    work_dir: Path,
    limits: MediaLimits,
    wall_seconds: float,
    server: WindowServer | None = None,
) -> tuple[bytes, float]:
    """Run one request in a child; blocks. Returns its reply (JSON) and the CPU seconds of its tree.

    The child is the leader of its own process group in ``work_dir``; the whole group is killed
    before this returns or raises, whatever happened. ``server`` answers it meanwhile.

    Raises:
        InvalidMediaError: and its kin, as the child reported them, or because it crashed.
        ResourceExhaustedError: it went beyond time, memory or disk, or made no progress.
        ContractError: it failed in a way that is no fault of the media.
    """
    _compile_own_modules()
    with ExitStack() as stack:
        progress, ticks = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        stack.callback(os.close, progress)
        given = () if server is None else server.child_fds
        with os.fdopen(ticks, "wb"), os.fdopen(os.memfd_create("request"), "w+b") as question:
            whose = {
                "parent_pid": os.getpid(),
                "progress_descriptor": ticks,
                "scorer": given or None,
            }
            question.write(json.dumps(request | whose).encode())
            question.seek(0)
            process = subprocess.Popen(
                child_command(),
                stdin=question,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=(ticks, *given),
                cwd=work_dir,
                env=child_environment(work_dir),
                start_new_session=True,
            )
        if server is not None:
            server.start()
        try:
            reply, messages = _pipes(process, stack)
            watch = Watch(
                reply=reply,
                messages=messages,
                progress=progress,
                folder=work_dir,
                limits=limits,
                is_waited_for=(lambda: False) if server is None else server.is_scoring,
            )
            ending = os.pidfd_open(process.pid)
            stack.callback(os.close, ending)
            watch.until_end(ending, wall_seconds)
        finally:
            usage = _end(process)
            if server is not None:
                server.join()
        watch.finish()
    if server is not None:
        server.check()
    written = watch.written
    if process.returncode == 0 and written.reply:
        return _unwrap(bytes(written.reply)), usage.ru_utime + usage.ru_stime
    raise _failure(process.returncode, written.last_messages, limits)


def _pipes(process: subprocess.Popen[bytes], stack: ExitStack) -> tuple[int, int]:
    if process.stdout is None or process.stderr is None:
        raise ContractError("the media child was started without pipes")
    reply, messages = stack.enter_context(process.stdout), stack.enter_context(process.stderr)
    return reply.fileno(), messages.fileno()


def _end(process: subprocess.Popen[bytes]) -> resource.struct_rusage:
    """Kill the child's whole group and reap what is ours of it."""
    # Before reaping: until then the group's number cannot be given to another.
    os.killpg(process.pid, signal.SIGKILL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    try:
        # Where this is process 1, what the child had started is now ours.
        while True:
            os.waitpid(-process.pid, 0)
    except ChildProcessError:
        return usage


@functools.cache
def _compile_own_modules() -> None:
    """Once per process: the child may write nothing beside its sources, so would never do it."""
    compileall.compile_dir(Path(__file__).parent, maxlevels=1, quiet=2)


def _unwrap(reply: bytes) -> bytes:
    """The reply itself, or the error that the child reports in its place."""
    if not reply.startswith(b'{"error"'):
        return reply
    try:
        error = json.loads(reply)["error"]
        name, message = str(error["class"]), str(error["message"])
    except (ValueError, KeyError, TypeError, RecursionError) as broken:
        raise ContractError(f"the media child replied with {reply[:200]!r}") from broken
    # A child that met hostile media may say anything, to a terminal too.
    message = one_line(message, max_chars=_MAX_MESSAGE_CHARS)
    for kind in _REPORTABLE:
        if kind.__name__ == name:
            raise kind(message)
    raise ContractError(f"the media child reported {one_line(name)}: {message}")


def _failure(code: int, messages: bytes, limits: MediaLimits) -> PipelineError:
    """What became of a child that did not reply."""
    lines = messages.decode("utf-8", "replace").splitlines()
    last = useful_line(lines) or "it wrote nothing"
    mebibytes = limits.memory_bytes // 1024**2
    if any(_NO_MEMORY.search(line) for line in lines):
        return ResourceExhaustedError(
            f"the media needed more memory than the limit of {mebibytes} MiB: {last}"
        )
    if code >= 0:
        return ContractError(f"the media child ended with exit code {code}: {last}")
    killer = -code
    if killer in _CRASHES:
        return InvalidMediaError(
            f"the media crashed the decoder ({signal_name(killer)}); the file is damaged or "
            f"hostile: {last}"
        )
    return ResourceExhaustedError(
        f"opening the media was stopped ({signal_name(killer)}): {_ENDINGS.get(killer, last)}"
    )
