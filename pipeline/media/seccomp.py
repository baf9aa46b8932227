"""A system call filter: what decoding media never needs is refused. Linux on x86_64 and aarch64.

Hand-assembled, because libseccomp is a system library. Filters are inherited, stack, and cannot be
taken off again.
"""

import ctypes
import errno
import os
import struct
import sys
from dataclasses import dataclass

#: Name, number on x86_64, number on aarch64 (-: it has none). All are refused with EACCES.
_REFUSED = """
socket 41 198
socketpair 53 199
connect 42 203
accept 43 202
accept4 288 242
bind 49 200
listen 50 201
sendto 44 206
recvfrom 45 207
sendmsg 46 211
recvmsg 47 212
sendmmsg 307 269
recvmmsg 299 243
shmget 29 194
shmat 30 196
shmctl 31 195
semget 64 190
semop 65 193
semctl 66 191
semtimedop 220 192
msgget 68 186
msgsnd 69 189
msgrcv 70 188
msgctl 71 187
mq_open 240 180
mq_unlink 241 181
ptrace 101 117
process_vm_readv 310 270
process_vm_writev 311 271
process_madvise 440 440
process_mrelease 448 448
pidfd_getfd 438 438
kcmp 312 272
migrate_pages 256 238
move_pages 279 239
setpriority 141 140
ioprio_set 251 30
sched_setattr 314 274
setsid 112 157
setpgid 109 154
inotify_init 253 -
inotify_init1 294 26
fanotify_init 300 262
name_to_handle_at 303 264
open_by_handle_at 304 265
mount 165 40
umount2 166 39
pivot_root 155 41
chroot 161 51
unshare 272 97
setns 308 268
open_tree 428 428
move_mount 429 429
fsopen 430 430
fsconfig 431 431
fsmount 432 432
fspick 433 433
mount_setattr 442 442
open_tree_attr 467 467
quotactl 179 60
quotactl_fd 443 443
swapon 167 224
swapoff 168 225
truncate 76 45
chmod 90 -
fchmod 91 52
fchmodat 268 53
fchmodat2 452 452
chown 92 -
lchown 94 -
fchown 93 55
fchownat 260 54
setxattr 188 5
lsetxattr 189 6
fsetxattr 190 7
setxattrat 463 463
removexattr 197 14
lremovexattr 198 15
fremovexattr 199 16
removexattrat 466 466
file_setattr 469 469
utime 132 -
utimes 235 -
futimesat 261 -
utimensat 280 88
memfd_create 319 279
memfd_secret 447 447
bpf 321 280
perf_event_open 298 241
userfaultfd 323 282
keyctl 250 219
add_key 248 217
request_key 249 218
io_uring_setup 425 425
io_uring_enter 426 426
io_uring_register 427 427
lookup_dcookie 212 18
personality 135 92
modify_ldt 154 -
iopl 172 -
ioperm 173 -
syslog 103 116
acct 163 89
reboot 169 142
vhangup 153 58
kexec_load 246 104
kexec_file_load 320 294
init_module 175 105
finit_module 313 273
delete_module 176 106
settimeofday 164 170
clock_settime 227 112
adjtimex 159 171
clock_adjtime 305 266
sethostname 170 161
setdomainname 171 162
"""

#: New namespaces: mounts, cgroup, host name, IPC, users, processes, network.
_NAMESPACE_FLAGS = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x70000000
#: FS_IOC_SETFLAGS and FS_IOC_FSSETXATTR: an immutable file could not be deleted by the parent.
_FILE_FLAG_REQUESTS = (0x40086602, 0x401C5820)
#: The other system call table of x86_64 begins here.
_X32_BIT = 0x40000000

_SET_MODE_FILTER = 1
#: Without it, kernels before 5.16 slow down every filtered process.
_FLAG_SPEC_ALLOW = 4

_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _FAIL, _KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000
#: Offsets in struct seccomp_data; of arguments, the low half.
_AT_NUMBER, _AT_ARCH, _AT_FIRST, _AT_SECOND = 0, 4, 16, 24


@dataclass(frozen=True, slots=True, kw_only=True)
class _Machine:
    audit_arch: int
    column: int
    seccomp: int
    clone: int
    ioctl: int
    prlimit64: int


_CLONE3 = 435
_MACHINES = {
    "x86_64": _Machine(
        audit_arch=0xC000003E, column=1, seccomp=317, clone=56, ioctl=16, prlimit64=302
    ),
    "aarch64": _Machine(
        audit_arch=0xC00000B7, column=2, seccomp=277, clone=220, ioctl=29, prlimit64=261
    ),
}


class _Program:
    """Instructions that jump forward to one of the ends."""

    _ENDS = ("allow", "refuse", "absent", "kill")

    def __init__(self) -> None:
        self._lines: list[tuple[int, str | int, str | int, int]] = []

    def load(self, offset: int) -> None:
        self._lines.append((_LOAD, 0, 0, offset))

    def jump(self, code: int, value: int, *, then: str | int = 0, otherwise: str | int = 0) -> None:
        """To an end by name, or over a number of instructions."""
        self._lines.append((code, then, otherwise, value))

    def assembled(self) -> bytes:
        results = (_ALLOW, _FAIL | errno.EACCES, _FAIL | errno.ENOSYS, _KILL_PROCESS)
        first_end = len(self._lines)

        def distance(target: str | int, at: int) -> int:
            if isinstance(target, int):
                return target
            return first_end + self._ENDS.index(target) - at - 1

        lines = [
            struct.pack("=HBBI", code, distance(then, at), distance(otherwise, at), value)
            for at, (code, then, otherwise, value) in enumerate(self._lines)
        ]
        return b"".join(lines) + b"".join(struct.pack("=HBBI", _RETURN, 0, 0, r) for r in results)


def _assemble(machine: _Machine) -> bytes:
    program = _Program()
    program.load(_AT_ARCH)
    program.jump(_JUMP_EQUAL, machine.audit_arch, otherwise="kill")
    program.load(_AT_NUMBER)
    program.jump(_JUMP_AT_LEAST, _X32_BIT, then="absent")
    # Its flags are in memory, out of a filter's sight; C libraries go on with clone.
    program.jump(_JUMP_EQUAL, _CLONE3, then="absent")
    for line in _REFUSED.split("\n")[1:-1]:
        number = line.split(" ")[machine.column]
        if number != "-":
            program.jump(_JUMP_EQUAL, int(number), then="refuse")
    program.jump(_JUMP_EQUAL, machine.clone, otherwise=2)
    program.load(_AT_FIRST)
    program.jump(_JUMP_ANY_BIT, _NAMESPACE_FLAGS, then="refuse", otherwise="allow")
    # The limits of other processes; 0 is the process itself.
    program.jump(_JUMP_EQUAL, machine.prlimit64, otherwise=2)
    program.load(_AT_FIRST)
    program.jump(_JUMP_EQUAL, 0, then="allow", otherwise="refuse")
    program.jump(_JUMP_EQUAL, machine.ioctl, otherwise="allow")
    program.load(_AT_SECOND)
    for request in _FILE_FLAG_REQUESTS:
        program.jump(_JUMP_EQUAL, request, then="refuse")
    return program.assembled()


class _FilterProgram(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def install() -> bool:
    """Filter this process from now on; ``False`` where the kernel or the machine cannot.

    Needs ``no_new_privs``, and to be called while there is one thread.
    """
    machine = _MACHINES.get(os.uname().machine)
    if machine is None or sys.maxsize < 2**32:
        return False
    code = _assemble(machine)
    program = _FilterProgram(len(code) // 8, code)
    system_call = ctypes.CDLL(None, use_errno=True).syscall
    system_call.argtypes = (ctypes.c_long, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_void_p)
    return not system_call(
        machine.seccomp, _SET_MODE_FILTER, _FLAG_SPEC_ALLOW, ctypes.byref(program)
    )
