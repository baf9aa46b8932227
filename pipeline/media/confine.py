"""What the child does to itself, and to its ffmpeg, before it opens anything."""

import ctypes
import os
import resource
import signal
import sys

from pipeline.media.limits import MediaLimits

_PR_SET_PDEATHSIG = 1


def set_rlimits(limits: MediaLimits, *, cpu_seconds: int) -> None:
    """Bound this process and what it starts. Soft equals hard, so reaching one kills at once."""
    wanted = {
        resource.RLIMIT_CPU: cpu_seconds,
        resource.RLIMIT_AS: limits.memory_bytes,
        resource.RLIMIT_FSIZE: limits.output_bytes,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: 256,
    }
    for which, value in wanted.items():
        _, hard = resource.getrlimit(which)
        bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (bound, bound))


def die_with_parent() -> None:
    """Have the kernel kill this process when the thread that started it ends (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def exit_if_orphaned(parent_pid: int) -> None:
    """Close the gap in which the parent died before :func:`die_with_parent`.

    Inside a PID namespace the parent is invisible (0); the namespace then dies with it.
    """
    if os.getppid() not in {parent_pid, 0}:
        raise SystemExit("the calling process is gone")
