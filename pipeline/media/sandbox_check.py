"""What of the sandbox is in force on this machine, found out by trying in a child."""

import resource
import socket
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from pipeline.errors import ConfigurationError, ContractError
from pipeline.media.ffmpeg_binary import find_ffmpeg
from pipeline.media.launcher import run_child
from pipeline.media.limits import MediaLimits
from pipeline.media.messages import one_line, useful_line
from pipeline.media.sandbox import Sandbox


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxState:
    """What was tried and refused."""

    #: Network connections, and system calls that decoding never needs.
    seccomp: bool
    #: Files that are none of the child's business; 0: nothing is refused.
    landlock_abi: int
    #: CPU time, memory and sizes of files.
    limits: bool


_STATE = TypeAdapter(SandboxState)


def check_sandbox() -> SandboxState:
    """Start a child that tries what it must not do, and what it needs. Blocks for a second.

    Raises:
        ConfigurationError: ffmpeg does not work inside the sandbox.
        ContractError: the child, or a library that it needs, does not work at all.
    """
    limits = MediaLimits()
    with tempfile.TemporaryDirectory(prefix="mediaweave-check-") as folder:
        work_dir = Path(folder, "work")
        work_dir.mkdir()
        foreign = Path(folder, "foreign")
        foreign.touch()
        request = {
            "task": "check",
            "input": "/dev/null",
            "foreign": str(foreign),
            "ffmpeg": str(find_ffmpeg()),
            "limits": asdict(limits),
            "cpu_seconds": limits.probe_seconds,
        }
        reply, _ = run_child(
            request, work_dir=work_dir, limits=limits, wall_seconds=limits.probe_seconds
        )
    return _STATE.validate_json(reply)


def try_everything(
    request: dict[str, Any], limits: MediaLimits, in_force: Sandbox
) -> dict[str, Any]:
    """The child's part: the fields of a :class:`SandboxState`."""
    foreign = Path(request["foreign"])
    refused = [_is_refused(foreign.read_bytes), _is_refused(lambda: foreign.write_bytes(b"x"))]
    if in_force.landlock_abi and not all(refused):
        raise ContractError("Landlock is in force, but a foreign file can be opened")
    families = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
    if in_force.seccomp and not all(_is_refused(partial(socket.socket, f)) for f in families):
        raise ContractError("the system call filter is in force, but a socket can be opened")
    _need_ffmpeg(request["ffmpeg"])
    return {
        "seccomp": in_force.seccomp,
        "landlock_abi": in_force.landlock_abi,
        "limits": resource.getrlimit(resource.RLIMIT_AS)[0] <= limits.memory_bytes,
    }


def _is_refused(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except PermissionError:
        return True
    return False


def _need_ffmpeg(ffmpeg: str) -> None:
    try:
        done = subprocess.run([ffmpeg, "-version"], capture_output=True, text=True, check=False)
    except OSError as error:
        reason: str | None = one_line(error)
    else:
        if done.returncode == 0:
            return
        reason = useful_line(done.stderr.splitlines())
    raise ConfigurationError(
        f"{ffmpeg} does not start inside the media sandbox ({reason or 'no reason given'}): put an "
        "ffmpeg with its libraries below /usr, or type: pip install imageio-ffmpeg"
    )
