"""The sandbox itself: what the child, and the ffmpeg it starts, cannot do."""

import errno
import json
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import media_attacks as attacks
import pytest
from media_attacks import Listener, ReadWatch
from media_factory import make_video
from stand_in_children import BeChild

from pipeline.errors import InvalidMediaError, UnsupportedMediaError
from pipeline.media import (
    MediaLimits,
    SandboxState,
    SplitParams,
    check_sandbox,
    find_ffmpeg,
    launcher,
    probe_media,
    seccomp,
    split_media,
)
from schemas.records import MediaInfo
from workers.cli import doctor

ENTER = """
import json, os, sys
request = json.load(sys.stdin)
from pipeline.media import landlock, sandbox
landlock.supported_abi = lambda known=landlock.supported_abi(): min(known, request["abi"])
os.symlink(request["input"], "input")
in_force = sandbox.enter(ffmpeg=request["ffmpeg"], inputs=[request["input"]])
"""
ATTEMPTS = """
import ctypes, errno, resource, socket, subprocess, threading
def tried(attempt):
    try:
        attempt()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"
foreign, parent = request["foreign"], os.getppid()
seen = {
    "own input": tried(lambda: open("input").read()),
    "own folder": tried(lambda: (open("new", "w").write("x"), os.listdir("."))),
    "thread": tried(lambda: threading.Thread(target=int).start()),
    "pipe": tried(lambda: subprocess.run(["/bin/true"], check=True)),
    "read": tried(lambda: open(foreign).read()),
    "read link": tried(lambda: open("planted").read()),
    "write": tried(lambda: open(foreign, "w")),
    "create": tried(lambda: open(foreign + ".new", "w")),
    "list": tried(lambda: os.listdir(os.path.dirname(foreign))),
    "hostname": tried(lambda: open("/etc/hostname").read()),
    "parent": tried(lambda: open(f"/proc/{parent}/environ").read()),
    "self": tried(lambda: open("/proc/self/environ").read()),
    "source tree": tried(lambda: open(request["tree"]).read()),
    "folder": tried(lambda: os.mkdir("deeper")),
    "link": tried(lambda: os.symlink("/etc/passwd", "link")),
    "hard link": tried(lambda: os.link(foreign, "link")),
    "start own file": tried(lambda: subprocess.run(["./new"])),
    "remove": tried(lambda: os.remove("new")),
    "chmod": tried(lambda: os.chmod(foreign, 0)),
    "times": tried(lambda: os.utime(foreign)),
    "truncate": tried(lambda: os.truncate(foreign, 0)),
    "signal": tried(lambda: os.kill(parent, 0)),
    "its limits": tried(lambda: resource.prlimit(parent, resource.RLIMIT_NOFILE, (9, 9))),
    "group": tried(os.setsid),
    "group 2": tried(lambda: os.setpgid(0, 0)),
    "tcp": tried(lambda: socket.socket()),
    "udp": tried(lambda: socket.socket(type=socket.SOCK_DGRAM)),
    "tcp 6": tried(lambda: socket.socket(socket.AF_INET6)),
    "unix": tried(lambda: socket.socket(socket.AF_UNIX)),
    "netlink": tried(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)),
    "memory file": tried(lambda: os.memfd_create("x")),
}
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    result = libc.syscall(number, *map(ctypes.c_long, arguments))
    return "done" if result >= 0 else errno.errorcode[ctypes.get_errno()]
new_user = 0x10000000
for name, number in request["calls"].items():
    seen[name] = call(number, 0, 0, 0, 0, 0)
seen["clone with namespace"] = call(request["clone"], new_user | 17, 0, 0, 0, 0)
print(json.dumps({"abi": in_force.landlock_abi, "seccomp": in_force.seccomp, "seen": seen}))
"""
ALLOWED = {"own input", "own folder", "remove", "thread", "pipe"}
#: What Landlock, or an older one, leaves to the filter of system calls.
BY_SECCOMP = {"chmod", "times", "truncate", "its limits", "group", "group 2", "memory file"}


@pytest.fixture
def run_inside(tmp_path: Path, be_child: BeChild) -> Callable[..., Any]:
    """Run Python in a child that has entered the sandbox; gives what it prints as JSON."""

    def run(code: str, **request: Any) -> Any:
        be_child([sys.executable, "-P", "-c", ENTER + code])
        work_dir = tmp_path / "inside"
        work_dir.mkdir(exist_ok=True)
        (work_dir / "planted").symlink_to(tmp_path / "foreign")
        defaults = {"ffmpeg": str(find_ffmpeg()), "abi": 99, "input": "/dev/null"}
        reply, _ = launcher.run_child(
            defaults | request, work_dir=work_dir, limits=MediaLimits(), wall_seconds=60
        )
        return json.loads(reply)

    return run


def attempts(run_inside: Callable[..., Any], tmp_path: Path, abi: int) -> dict[str, Any]:
    foreign, own = tmp_path / "foreign", tmp_path / "own"
    foreign.write_text("secret")
    own.touch()
    machine = seccomp._MACHINES["x86_64"]
    calls = {
        name: int(numbers[0])
        for name, *numbers in (line.split() for line in seccomp._REFUSED.strip().splitlines())
    }
    seen: dict[str, Any] = run_inside(
        ATTEMPTS, abi=abi, input=str(own), foreign=str(foreign), calls=calls,
        clone=machine.clone, tree=str(Path(launcher.__file__).parents[2] / "pyproject.toml"),
    )  # fmt: skip
    assert foreign.read_text() == ("secret" if abi else "")
    assert set(calls) <= set(seen["seen"])
    return seen


def test_nothing_but_its_own_is_within_reach(
    run_inside: Callable[..., Any], tmp_path: Path
) -> None:
    if check_sandbox().landlock_abi < 6:
        pytest.skip("this kernel's Landlock does not hold signals")
    found = attempts(run_inside, tmp_path, abi=99)

    seen = found["seen"]
    assert found["seccomp"]
    assert {name for name, result in seen.items() if result == "done"} == ALLOWED
    assert {result for name, result in seen.items() if name not in ALLOWED} <= {
        "EACCES", "EPERM", "EXDEV",
    }  # fmt: skip


@pytest.mark.parametrize("abi", [1, 2, 3, 4, 5])
def test_older_kernels_give_what_they_have(
    run_inside: Callable[..., Any], tmp_path: Path, abi: int
) -> None:
    if check_sandbox().landlock_abi < abi:
        pytest.skip("this kernel's Landlock is older")
    found = attempts(run_inside, tmp_path, abi=abi)

    reached = {name for name, result in found["seen"].items() if result == "done"}
    assert found["abi"] == abi
    assert reached == ALLOWED | {"signal"}


def test_without_landlock_the_filter_still_holds(
    run_inside: Callable[..., Any], tmp_path: Path
) -> None:
    found = attempts(run_inside, tmp_path, abi=0)

    assert found["abi"] == 0
    assert found["seen"]["read"] == "done"
    assert {found["seen"][name] for name in ("tcp", "unix", *BY_SECCOMP)} == {"EACCES"}


FOREIGN = """
def tried(mode):
    try:
        return open(request["foreign"], mode).read(6)
    except OSError as error:
        return error.errno
print(json.dumps([tried("r"), tried("r+")]))
"""


def allowed_by_rights() -> list[str | int]:
    """What reading, and opening for writing, of a file without any permission gives in the child:
    of this process's CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH it keeps the second, if it has it."""
    status = Path("/proc/self/status").read_text()
    effective = int(status.partition("CapEff:")[2].split()[0], 16)
    if effective & 1 << 2:
        return ["secret", errno.EACCES]
    return ["secret", "secret"] if effective & 1 << 1 else [errno.EACCES, errno.EACCES]


def test_root_may_read_what_others_own_and_not_change_it(
    run_inside: Callable[..., Any], tmp_path: Path
) -> None:
    foreign = tmp_path / "foreign"
    foreign.write_text("secret")
    foreign.chmod(0)

    assert run_inside(FOREIGN, abi=0, foreign=str(foreign)) == allowed_by_rights()


def verdict(program: bytes, arch: int, number: int, first: int = 0, second: int = 0) -> int:
    """What a filter answers: the few instructions of BPF that it uses, carried out."""
    data = struct.pack("=IIQQQ", number, arch, 0, first, second)
    at = value = 0
    while True:
        code, then, otherwise, constant = struct.unpack_from("=HBBI", program, at * 8)
        at += 1
        if code == 0x20:
            (value,) = struct.unpack_from("=I", data, constant)
        elif code == 0x06:
            return int(constant)
        else:
            holds = {
                0x15: value == constant, 0x35: value >= constant, 0x45: bool(value & constant),
            }[code]  # fmt: skip
            at += then if holds else otherwise


@pytest.mark.parametrize("name", ["x86_64", "aarch64"])
def test_the_filter_of_each_machine(name: str) -> None:
    machine = seccomp._MACHINES[name]
    program, arch = seccomp._assemble(machine), machine.audit_arch
    refused, absent, allowed = 0x50000 | errno.EACCES, 0x50000 | errno.ENOSYS, 0x7FFF0000
    numbers = {
        int(number)
        for line in seccomp._REFUSED.strip().splitlines()
        if (number := line.split()[machine.column]) != "-"
    }
    special = {435, machine.clone, machine.ioctl, machine.prlimit64}

    for number in range(600):
        if number not in special:
            expected = refused if number in numbers else allowed
            assert verdict(program, arch, number) == expected, number
    assert verdict(program, arch, 435) == absent
    assert verdict(program, arch, machine.clone, 0x003D0F00) == allowed  # a thread
    assert verdict(program, arch, machine.clone, 0x01200011) == allowed  # a fork
    assert verdict(program, arch, machine.clone, 0x10000011) == refused  # a user namespace
    assert verdict(program, arch, machine.prlimit64, 0) == allowed
    assert verdict(program, arch, machine.prlimit64, 4321) == refused
    assert verdict(program, arch, machine.ioctl, 1, 0x5401) == allowed
    assert verdict(program, arch, machine.ioctl, 1, 0x40086602) == refused
    assert verdict(program, arch, 0x40000000 + 41) == absent
    assert verdict(program, 0x40000003, 1) == 0x80000000  # another table of calls


def test_doctor_tries_it() -> None:
    state = check_sandbox()
    finding = doctor.sandbox_finding()

    assert (state.seccomp, state.limits) == (True, True)
    assert finding.what == "media sandbox"
    assert ("Landlock (ABI" in finding.text) == (state.landlock_abi > 0)
    assert ("ends other processes" in finding.text) == (state.landlock_abi < 6)
    assert finding.text.startswith("seccomp, ")


@pytest.mark.parametrize(
    ("abi", "lacks"),
    [(0, "reads whatever this user may read"), (5, "ends other processes"), (6, None)],
)
def test_doctor_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, abi: int, lacks: str | None
) -> None:
    state = SandboxState(seccomp=True, landlock_abi=abi, limits=True)
    monkeypatch.setattr(doctor, "check_sandbox", lambda: state)

    finding = doctor.sandbox_finding()

    assert finding.level == ("good" if lacks is None else "note")
    assert (lacks or "limits") in finding.text


@pytest.fixture
def listener() -> Iterator[Listener]:
    made = Listener()
    yield made
    if made.is_open:
        made.close()


def movie(tmp_path: Path, kind: str, target: str) -> Path:
    """A file named like media that wants the target opened; a local target is made too."""
    path = tmp_path / "innocent.mp4"
    local = Path(target)
    if kind == "dref":
        return attacks.make_movie_with_data_elsewhere(path, local)
    if kind == "mkv":
        return attacks.make_linked_matroska(path, local)
    if "://" not in target:
        make_video(local, frames_per_shot=(5,), sound=False)
    path.write_bytes(attacks.SCRIPTS[kind](target))
    return path


@pytest.mark.parametrize("kind", [*attacks.SCRIPTS, "dref", "mkv"])
def test_no_file_beside_the_media_is_read(tmp_path: Path, work_dir: Path, kind: str) -> None:
    target = tmp_path / "other_tenant.mov"
    path = movie(tmp_path, kind, str(target))
    watch = ReadWatch(target)

    open_in_every_way(path, work_dir, is_media=kind in {"dref", "mkv"})

    assert not watch.was_touched()
    watch.close()


@pytest.mark.parametrize(
    ("kind", "scheme"),
    [*((kind, "http") for kind in attacks.SCRIPTS), ("hls", "tcp"), ("ffconcat", "udp")],
)
def test_no_server_is_asked(
    tmp_path: Path, work_dir: Path, listener: Listener, kind: str, scheme: str
) -> None:
    path = movie(tmp_path, kind, f"{scheme}://127.0.0.1:{listener.port}/x.ts")

    open_in_every_way(path, work_dir, is_media=False)

    assert listener.close() == 0


def open_in_every_way(path: Path, work_dir: Path, *, is_media: bool) -> None:
    limits = MediaLimits(cpu_seconds=30, wall_seconds=60)
    info = MediaInfo(
        kind="video", container="mov", duration_ms=200, width_px=320, height_px=180,
        frame_rate=25.0, streams=(),
    )  # fmt: skip
    try:
        probe_media(path, work_dir=work_dir, limits=limits)
    except UnsupportedMediaError:
        assert not is_media
    except InvalidMediaError:
        assert path.read_bytes()[4:8] == b"ftyp"
    try:
        # Even where the caller insists that it is a video.
        split_media(
            path, info=info, params=SplitParams(), sidecars=(), work_dir=work_dir, limits=limits
        )
    except InvalidMediaError:
        return
    assert is_media


FFMPEG = """
import subprocess
done = subprocess.run(request["command"], stdin=subprocess.DEVNULL, capture_output=True, text=True)
print(json.dumps([done.returncode, done.stderr[-4000:]]))
"""
#: Everything allowed that is not by default; as an operator's own ffmpeg command might.
CARELESS = ["-v", "error", "-nostdin", "-protocol_whitelist", "file,http,tcp,udp,rtp,crypto,pipe"]


def careless_command(path: str, kind: str) -> list[str]:
    options = {
        "hls": ["-f", "hls", "-allowed_extensions", "ALL"], "ffconcat": ["-safe", "0"],
        "dref": ["-enable_drefs", "1", "-use_absolute_path", "1"],
    }[kind]  # fmt: skip
    return [str(find_ffmpeg()), *CARELESS, *options, "-i", path, "-f", "null", "-"]


@pytest.mark.parametrize("kind", ["ffconcat", "dref"])
def test_the_sandbox_alone_keeps_files_from_ffmpeg(
    tmp_path: Path, run_inside: Callable[..., Any], kind: str
) -> None:
    target = tmp_path / "other_tenant.mov"
    path = movie(tmp_path, kind, str(target))
    watch = ReadWatch(target)
    subprocess.run(careless_command(str(path), kind), check=True, capture_output=True)
    assert watch.was_touched(), "the attack would not work without the sandbox either"

    code, said = run_inside(FFMPEG, input=str(path), command=careless_command("input", kind))

    assert code != 0 or kind == "dref"
    assert "Permission denied" in said or kind == "dref"
    assert not watch.was_touched()
    watch.close()


@pytest.mark.parametrize(
    ("kind", "scheme"), [("hls", "http"), ("ffconcat", "http"), ("ffconcat", "tcp")]
)
def test_the_sandbox_alone_keeps_ffmpeg_from_the_network(
    tmp_path: Path, listener: Listener, run_inside: Callable[..., Any], kind: str, scheme: str
) -> None:
    control = Listener()
    path = movie(tmp_path, kind, f"{scheme}://127.0.0.1:{control.port}/x.ts")
    command = careless_command(str(path), kind)
    subprocess.run(command, check=False, capture_output=True, timeout=60)
    assert control.close() > 0, "the attack would not work without the sandbox either"
    path = movie(tmp_path, kind, f"{scheme}://127.0.0.1:{listener.port}/x.ts")

    run_inside(FFMPEG, input=str(path), command=careless_command("input", kind))

    assert listener.close() == 0
