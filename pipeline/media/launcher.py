"""Starting the child that opens media, watching it, and saying what became of it."""

import json
import os
import select
import signal
import site
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, Any

from pipeline import errors
from pipeline.errors import ContractError, InvalidMediaError, PipelineError, ResourceExhaustedError
from pipeline.media.limits import MediaLimits

_MAX_REPLY_BYTES = 256 * 1024**2
_MAX_STDERR_BYTES = 4096
#: What a child may report; anything else is a :class:`ContractError`.
_REPORTABLE = (
    errors.InvalidMediaError,
    errors.UnsupportedMediaError,
    errors.MediaLimitError,
    errors.ResourceExhaustedError,
    errors.ConfigurationError,
)
_CRASHES = {signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE}


def child_command() -> list[str]:
    """The child's command line; a sandbox is a prefix put here.

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
    request: dict[str, Any], *, work_dir: Path, limits: MediaLimits, wall_seconds: float
) -> tuple[bytes, float]:
    """Run one request in a child; blocks. Returns its reply (JSON) and the CPU seconds of its tree.

    The child is the leader of its own process group in ``work_dir``; the whole group is killed
    before this returns or raises, whatever happened.

    Raises:
        InvalidMediaError: and its kin, as the child reported them, or because it crashed.
        ResourceExhaustedError: it went beyond time, memory or disk.
        ContractError: it failed in a way that is no fault of the media.
    """
    with (
        tempfile.TemporaryFile() as question,
        tempfile.TemporaryFile() as answer,
        tempfile.TemporaryFile() as complaint,
    ):
        question.write(json.dumps(request | {"parent_pid": os.getpid()}).encode())
        question.seek(0)
        process = subprocess.Popen(
            child_command(),
            stdin=question,
            stdout=answer,
            stderr=complaint,
            cwd=work_dir,
            env=child_environment(work_dir),
            start_new_session=True,
        )
        try:
            in_time = _wait(process.pid, wall_seconds)
        finally:
            # Before reaping: until then the group's number cannot be given to another.
            os.killpg(process.pid, signal.SIGKILL)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        cpu_seconds = usage.ru_utime + usage.ru_stime
        if not in_time:
            raise ResourceExhaustedError(
                f"opening the media took longer than {wall_seconds:g} s and was stopped; "
                "raise the time limit if the media is that long"
            )
        reply = _read(answer, _MAX_REPLY_BYTES)
        if process.returncode == 0 and reply:
            return _unwrap(reply), cpu_seconds
        raise _failure(process.returncode, _read(complaint, _MAX_STDERR_BYTES), limits)


def _wait(pid: int, seconds: float) -> bool:
    """Whether the process ended within the time. Does not reap it."""
    descriptor = os.pidfd_open(pid)
    try:
        poller = select.poll()
        poller.register(descriptor, select.POLLIN)
        return bool(poller.poll(seconds * 1000))
    finally:
        os.close(descriptor)


def _read(file: IO[bytes], at_most: int) -> bytes:
    """The end of the file. The child shares the offset, so it is always set first."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - at_most))
    return file.read(at_most)


def _unwrap(reply: bytes) -> bytes:
    """The reply itself, or the error that the child reports in its place."""
    if not reply.startswith(b'{"error"'):
        return reply
    try:
        error = json.loads(reply)["error"]
        name, message = str(error["class"]), str(error["message"])
    except (ValueError, KeyError, TypeError) as broken:
        raise ContractError(f"the media child replied with {reply[:200]!r}") from broken
    for kind in _REPORTABLE:
        if kind.__name__ == name:
            raise kind(message)
    raise ContractError(f"the media child reported {name}: {message}")


def _failure(code: int, stderr: bytes, limits: MediaLimits) -> PipelineError:
    lines = stderr.decode("utf-8", "replace").strip().splitlines()
    last = lines[-1][:300] if lines else "it wrote nothing"
    if code >= 0:
        return ContractError(f"the media child ended with exit code {code}: {last}")
    killer = signal.Signals(-code)
    if killer in _CRASHES:
        return InvalidMediaError(
            f"the media crashed the decoder ({killer.name}); the file is damaged or hostile: {last}"
        )
    return ResourceExhaustedError(
        f"opening the media was stopped ({killer.name}): it needed more CPU time or memory than "
        f"its limits allow (memory limit {limits.memory_bytes // 1024**2} MiB)"
    )
