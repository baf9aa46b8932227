"""Landlock: which files a process and what it starts may touch, without any privilege."""

import ctypes
import os
import stat
import struct
from collections.abc import Iterable

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_CREATE_RULESET_VERSION = 1
_RULE_PATH_BENEATH = 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REMOVE_FILE, _MAKE_REGULAR, _TRUNCATE, _IOCTL_DEVICE = 1 << 5, 1 << 8, 1 << 14, 1 << 15
_ON_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEVICE

#: Reading and starting programs; starting needs it of the dynamic loader too.
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_USE_DEVICE = _READ_FILE | _READ_DIR | _WRITE_FILE | _IOCTL_DEVICE
#: No directories or links, and nothing that was written can be started.
_WRITE = _READ_FILE | _READ_DIR | _WRITE_FILE | _REMOVE_FILE | _MAKE_REGULAR | _TRUNCATE

#: ABI → how many rights on files it knows.
_RIGHTS_KNOWN = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_ABI_WITH_NETWORK, ABI_WITH_SCOPES = 4, 6
#: Binding and connecting TCP; abstract Unix sockets and signals beyond the sandbox.
_ALL_TCP = _ALL_SCOPES = 3


def supported_abi() -> int:
    """The kernel's version of Landlock; 0 where it has none, or a container runtime forbids it."""
    return max(0, _call(_CREATE_RULESET, None, 0, _CREATE_RULESET_VERSION))


def restrict(*, readable: Iterable[str], devices: Iterable[str], writable: Iterable[str]) -> int:
    """Refuse this process all files but these and what is beneath them; irrevocable.

    Paths that do not exist are left out; files that are open stay open. Needs ``no_new_privs``, and
    to be called while there is one thread. Returns :func:`supported_abi`; where that is 0, nothing
    is restricted.

    Raises:
        OSError: the kernel has Landlock, but refused.
    """
    abi = supported_abi()
    if abi == 0:
        return 0
    handled = (1 << _RIGHTS_KNOWN.get(abi, max(_RIGHTS_KNOWN.values()))) - 1
    network = _ALL_TCP if abi >= _ABI_WITH_NETWORK else 0
    scopes = _ALL_SCOPES if abi >= ABI_WITH_SCOPES else 0
    attributes = struct.pack("=QQQ", handled, network, scopes)
    ruleset = _checked(_call(_CREATE_RULESET, attributes, len(attributes), 0))
    try:
        for paths, rights in ((readable, _READ), (devices, _USE_DEVICE), (writable, _WRITE)):
            for path in paths:
                try:
                    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
                except OSError:
                    # What is not there, or not within reach, needs no permission.
                    continue
                allowed = rights & handled
                if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
                    allowed &= _ON_FILES
                rule = struct.pack("=Qi", allowed, descriptor)
                added = _call(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, rule, 0)
                os.close(descriptor)
                _checked(added)
        _checked(_call(_RESTRICT_SELF, ruleset, 0))
    finally:
        os.close(ruleset)
    return abi


def _call(number: int, *arguments: int | bytes | None) -> int:
    system_call = ctypes.CDLL(None, use_errno=True).syscall
    system_call.restype = ctypes.c_long
    typed = (a if a is None or isinstance(a, bytes) else ctypes.c_ulong(a) for a in arguments)
    return int(system_call(ctypes.c_long(number), *typed))


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"Landlock refused: {os.strerror(number)}")
    return result
