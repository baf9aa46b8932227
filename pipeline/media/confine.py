"""Limits that the child sets itself, and its ffmpeg, before it opens anything."""

import ctypes
import os
import resource
import signal
import struct
import sys

from pipeline.media.limits import MediaLimits

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION = 0x20080522
#: Root without either could not read media that another user owns; the first allows to write, too.
_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 1 << 1, 1 << 2


def set_rlimits(limits: MediaLimits, *, cpu_seconds: int, with_device: bool = False) -> None:
    """Bound this process and what it starts. Soft equals hard, so reaching one kills at once.

    ``with_device``: the address space of a program that uses a device may be unbounded later.

    The soft limit on CPU time is a second lower: its signal says what the matter was.
    """
    wanted = {
        resource.RLIMIT_CPU: cpu_seconds + 1,
        resource.RLIMIT_AS: limits.memory_bytes,
        resource.RLIMIT_FSIZE: limits.output_bytes,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: 256,
    }
    for which, value in wanted.items():
        _, hard = resource.getrlimit(which)
        bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
        is_open = with_device and which == resource.RLIMIT_AS
        resource.setrlimit(which, (bound, hard if is_open else bound))
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (min(cpu_seconds, hard), hard))


def prepare_program() -> None:
    """Between fork and exec of ffmpeg, which would take the CPU limit's signal for "finish"."""
    die_with_parent()
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (hard, hard))


def prepare_program_with_device() -> None:
    """Likewise, for an ffmpeg that decodes on a device."""
    prepare_program()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


def set_no_new_privileges() -> None:
    """No program started from here on gains rights by being started; filters require this."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "no_new_privs cannot be set")


def drop_capabilities() -> None:
    """Where root runs this: give up everything that root may but reading foreign files."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = struct.pack("=Ii", _CAPABILITY_VERSION, 0)
    # Effective, permitted, inheritable; low halves, then high ones.
    held = ctypes.create_string_buffer(24)
    if libc.capget(header, held) != 0:
        raise OSError(ctypes.get_errno(), "capabilities cannot be read")
    effective, permitted = struct.unpack_from("=II", held)
    # Containers often have the larger right only.
    reading = _CAP_DAC_READ_SEARCH if effective & _CAP_DAC_READ_SEARCH else _CAP_DAC_OVERRIDE
    kept = struct.pack("=6I", effective & reading, permitted & reading, 0, 0, 0, 0)
    if libc.capset(header, kept) != 0:
        raise OSError(ctypes.get_errno(), "capabilities cannot be dropped")


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
