"""The sandbox of the media child: no network, no files but its own. Inherited by its ffmpeg.

Entered before any byte of the media is read; from then on libraries can be imported and ffmpeg can
be started, but not much else. The best that the kernel offers is applied, without any privilege.
"""

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pipeline.media import landlock, seccomp
from pipeline.media.confine import drop_capabilities, set_no_new_privileges

#: What shared libraries and programs need beside their packages.
SYSTEM_FILES = (
    "/usr", "/bin", "/lib", "/lib64", "/nix/store", "/gnu/store",
    "/etc/ld.so.cache", "/etc/localtime", "/proc/cpuinfo", "/sys/devices/system/cpu",
)  # fmt: skip
PLAIN_DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")
#: For decoding in hardware; what a machine does not have is left out.
NVIDIA_DEVICES = (
    "/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia-modeset",
    "/dev/nvidia-caps", *(f"/dev/nvidia{n}" for n in range(16)),
    "/proc/driver/nvidia", "/proc/devices",
)  # fmt: skip
#: Our own packages that the child imports; the rest of a source tree may hold secrets and data.
_OWN_PACKAGES = ("pipeline", "schemas")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """What is in force."""

    seccomp: bool
    #: 0 where the kernel has no Landlock.
    landlock_abi: int


def enter(*, ffmpeg: str, inputs: Iterable[str]) -> Sandbox:
    """Confine this process for good: the working directory and reading ``inputs`` is what remains.

    Needs a process with one thread.

    Raises:
        OSError: the kernel offers protection, but refused.
    """
    drop_capabilities()
    set_no_new_privileges()
    abi = landlock.restrict(
        readable=(*SYSTEM_FILES, *_interpreter_paths(), *_program_paths(ffmpeg), *inputs),
        devices=(*PLAIN_DEVICES, *NVIDIA_DEVICES),
        writable=(".",),
    )
    return Sandbox(seccomp=seccomp.install(), landlock_abi=abi)


def _interpreter_paths() -> set[str]:
    """The interpreter and everything that can be imported."""
    root = Path(__file__).resolve().parents[2]
    is_source_tree = (root / "pyproject.toml").exists()
    found = {str(root / package) for package in _OWN_PACKAGES}
    for prefix in {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}:
        found.update(f"{prefix}/{part}" for part in ("bin", "lib", "lib64"))
    # Other places come from .pth files, or everything was installed into one folder.
    found.update(
        path
        for path in sys.path
        if path and not (is_source_tree and os.path.realpath(path) == str(root))
    )
    return found


def _program_paths(program: str) -> tuple[str, ...]:
    """The program, and the libraries of an installation of its own."""
    libraries = Path(program).parent.parent
    return (program, *(str(libraries / name) for name in ("lib", "lib64")))
