import json
import os
import select
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from stand_in_children import IMPORTS, BeChild

from pipeline.errors import (
    ConfigurationError,
    ContractError,
    InvalidMediaError,
    MediaLimitError,
    PipelineError,
    ResourceExhaustedError,
)
from pipeline.media import MediaLimits, SplitParams, children, launcher
from pipeline.media.children import Children
from pipeline.media.confine import exit_if_orphaned
from pipeline.media.launcher import run_child

LIMITS = MediaLimits()


def python(code: str) -> list[str]:
    return [sys.executable, "-P", "-c", code]


def has_ended(ending: int, *, seconds: float = 10) -> bool:
    """Whether the process of this pidfd, which is closed if so, has ended or does so in time."""
    poller = select.poll()
    poller.register(ending, select.POLLIN)
    if not poller.poll(seconds * 1000):
        return False
    os.close(ending)
    return True


def run(tmp_path: Path, wall_seconds: float = 60) -> bytes:
    reply, _ = run_child({}, work_dir=tmp_path, limits=LIMITS, wall_seconds=wall_seconds)
    return reply


def test_environment_holds_nothing_of_the_callers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, be_child: BeChild
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    be_child(
        python(
            "import json, os; print(json.dumps([dict(os.environ), os.getcwd(), os.getpgid(0)"
            " == os.getpid(), os.getsid(0) == os.getpid()]))",
        )
    )

    environment, directory, leads_group, leads_session = json.loads(run(tmp_path))

    assert "hunter2" not in environment.values()
    assert set(environment) <= {
        "PATH", "HOME", "TMPDIR", "LANG", "PYTHONPATH", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS",
        "MALLOC_ARENA_MAX", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "LC_CTYPE",
    }  # fmt: skip
    assert directory == str(tmp_path)
    assert leads_group
    assert leads_session


def test_files_beside_the_media_are_not_imported(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('imported from the working directory')")
    request = {
        "task": "probe", "input": str(tmp_path / "absent"), "ffmpeg": "ffmpeg",
        "limits": {}, "cpu_seconds": 10,
    }  # fmt: skip

    with pytest.raises(ContractError, match="FileNotFoundError"):
        run_child(request, work_dir=tmp_path, limits=LIMITS, wall_seconds=60)


@pytest.mark.parametrize(
    ("code", "error", "message"),
    [
        ("import os; os.kill(os.getpid(), 9)", ResourceExhaustedError, "SIGKILL"),
        ("import os; os.kill(os.getpid(), 24)", ResourceExhaustedError, "SIGXCPU"),
        ("import os; os.kill(os.getpid(), 11)", InvalidMediaError, "crashed the decoder"),
        ("import os; os.kill(os.getpid(), 40)", ResourceExhaustedError, r"stopped \(signal 40\)"),
        ("raise SystemExit('some bug')", ContractError, "some bug"),
        ("", ContractError, "exit code 0"),
        ("print('{\"error\": {}}')", ContractError, "replied with"),
        ("print('{\"error\":' + '[' * 99_999)", ContractError, "replied with"),
        (
            r"""print('{"error": {"class": "InvalidMediaError", "message": "\\u001b[2Ja\\nb"}}')""",
            InvalidMediaError,
            r"^\[2Ja b$",
        ),
        (
            'print(\'{"error": {"class": "MediaLimitError", "message": "too long"}}\')',
            MediaLimitError,
            "^too long$",
        ),
        (
            'print(\'{"error": {"class": "OSError", "message": "no"}}\')',
            ContractError,
            "reported OSError",
        ),
    ],
)
def test_how_a_child_ends(
    tmp_path: Path,
    be_child: BeChild,
    code: str,
    error: type[PipelineError],
    message: str,
) -> None:
    be_child(python(code))

    with pytest.raises(error, match=message) as caught:
        run(tmp_path)

    assert type(caught.value) is error


def test_hanging_child_is_killed_with_all_it_started(tmp_path: Path, be_child: BeChild) -> None:
    # The grandchild holds the writing end of a pipe that this process reads.
    fifo = tmp_path / "alive"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    be_child(
        python(
            "import os, signal\n"
            f"writer = os.open({str(fifo)!r}, os.O_WRONLY)\n"
            "if os.fork() == 0:\n    os.write(writer, b'x')\n"
            "signal.pause()",
        )
    )

    with pytest.raises(ResourceExhaustedError, match=r"longer than 0\.5 s"):
        run(tmp_path, wall_seconds=0.5)

    assert os.read(reader, 1) == b"x"
    poller = select.poll()
    poller.register(reader, select.POLLHUP)
    assert poller.poll(10_000), "the grandchild is still alive"
    os.close(reader)


def test_child_dies_with_its_caller(tmp_path: Path) -> None:
    fifo = tmp_path / "pid"
    os.mkfifo(fifo)
    child = f"import os, signal; open({str(fifo)!r}, 'w').write(str(os.getpid())); signal.pause()"
    caller = (
        "import sys; from pathlib import Path; from stand_in_children import children_running\n"
        "from pipeline.media import MediaLimits, launcher\n"
        f"launcher.children = children_running([sys.executable, '-c', {child!r}])\n"
        f"launcher.run_child({{}}, work_dir=Path({str(tmp_path)!r}), limits=MediaLimits(),"
        " wall_seconds=600)"
    )
    with subprocess.Popen([sys.executable, "-c", caller], env=IMPORTS) as process:
        child_pid = int(fifo.read_text())
        ending = os.pidfd_open(child_pid)
        process.kill()

    assert has_ended(ending), "the child outlived its caller"


def test_a_child_has_its_own_descriptors_and_no_other(tmp_path: Path, be_child: BeChild) -> None:
    be_child(
        python(
            "import json, os\n"
            "print(json.dumps({n: os.readlink(f'/proc/self/fd/{n}') for n in range(9)"
            " if os.path.exists(f'/proc/self/fd/{n}')}))"
        )
    )

    found = json.loads(run(tmp_path))

    assert found.pop("0").startswith("/memfd:request")
    assert set(found) == {"1", "2", "3"}
    assert all(target.startswith("pipe:") for target in found.values())
    assert len(set(found.values())) == 3


def test_children_side_by_side(tmp_path: Path, be_child: BeChild) -> None:
    # Each waits for the others, and then says who it is.
    code = (
        "import json, os, sys\n"
        "request = json.load(sys.stdin)\n"
        "open('../' + request['name'], 'w').close()\n"
        "while len(os.listdir('..')) < 8: pass\n"
        "print(json.dumps(request['name']))"
    )
    be_child(python(code))
    names = ["a", "b", "c", "d"]
    for name in names:
        (tmp_path / f"folder of {name}").mkdir()

    def reply(name: str) -> str:
        data, cpu_seconds = run_child(
            {"name": name}, work_dir=tmp_path / f"folder of {name}", limits=LIMITS, wall_seconds=60
        )
        assert cpu_seconds > 0
        return str(json.loads(data))

    with ThreadPoolExecutor(len(names)) as threads:
        assert list(threads.map(reply, names)) == names


def test_fork_server_that_is_killed(tmp_path: Path, be_child: BeChild) -> None:
    fifo = tmp_path / "pids"
    os.mkfifo(fifo)
    be_child(
        python(
            "import os, signal, sys\n"
            f"if not os.path.exists({str(fifo)!r}):\n    sys.exit(print('again'))\n"
            f"file = open({str(fifo)!r}, 'w')\n"
            "if os.fork():\n    print(os.getpid(), os.getppid(), file=file, flush=True)\n"
            "signal.pause()"
        )
    )
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(run, tmp_path)
        pids = fifo.open("rb")
        child, server = map(int, pids.readline().split())
        ending = os.pidfd_open(child)
        os.kill(server, signal.SIGKILL)

        with pytest.raises(ResourceExhaustedError, match=r"starts media children .*\(SIGKILL\)"):
            running.result()

        assert has_ended(ending), "the child outlived the fork server"
        # Whoever still has it open lives.
        assert pids.read() == b""
        pids.close()
    fifo.unlink()
    assert run(tmp_path) == b"again\n"


def test_fork_server_that_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, be_child: BeChild
) -> None:
    be_child(python("import os; print(os.getppid())"))
    server = int(run(tmp_path))
    ending = os.pidfd_open(server)
    monkeypatch.setattr(children, "_START_SECONDS", 0.2)
    monkeypatch.setattr(children, "_END_SECONDS", 0.2)
    os.kill(server, signal.SIGSTOP)

    with pytest.raises(ResourceExhaustedError, match="cannot be started: timed out"):
        run(tmp_path)

    monkeypatch.undo()
    assert has_ended(ending)


def test_fork_server_that_is_stopped_while_a_child_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, be_child: BeChild
) -> None:
    monkeypatch.setattr(children, "_END_SECONDS", 0.2)
    be_child(python("import os, signal\nos.kill(os.getppid(), signal.SIGSTOP)\nprint('{}')"))
    made = launcher.children
    child = made.start(tmp_path, [os.open("/dev/null", os.O_RDWR)] * 3)
    monkeypatch.setattr(children, "_START_SECONDS", 0.2)
    assert child._has_ended(10)

    with pytest.raises(ResourceExhaustedError, match=r"starts media children .*\(SIGKILL\)"):
        child.end()


def test_a_crash_is_followed_by_a_new_fork_server(tmp_path: Path, be_child: BeChild) -> None:
    be_child(
        python(
            "import json, os, signal, sys\n"
            "request = json.load(sys.stdin)\n"
            "if 'crash' in request:\n    os.kill(os.getpid(), signal.SIGSEGV)\n"
            "if 'fifo' in request:\n    open(request['fifo']).read()\n"
            "print(os.getppid())"
        )
    )
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    share = {"work_dir": tmp_path, "limits": LIMITS, "wall_seconds": 60}
    first = int(run(tmp_path))
    ending = os.pidfd_open(first)
    with ThreadPoolExecutor(1) as threads:
        beside = threads.submit(run_child, {"fifo": str(fifo)}, **share)
        with fifo.open("w"):
            with pytest.raises(InvalidMediaError, match="crashed the decoder"):
                run_child({"crash": True}, **share)

            assert int(run(tmp_path)) != first
            assert not has_ended(ending, seconds=0), "another child of it still runs"
        assert int(beside.result()[0]) == first
    assert has_ended(ending)


def test_fork_server_that_was_killed_between_two_files(tmp_path: Path, be_child: BeChild) -> None:
    be_child(python("import os; print(os.getppid())"))
    server = int(run(tmp_path))
    ending = os.pidfd_open(server)
    os.kill(server, signal.SIGKILL)
    assert has_ended(ending)

    assert int(run(tmp_path)) != server


def test_fork_server_that_cannot_start(tmp_path: Path) -> None:
    made = Children(python("raise ImportError('libGL.so.1: no such file')"))

    with pytest.raises(ContractError, match=r"exit code 1: ImportError: libGL\.so\.1"):
        made.start(tmp_path, [0, 1, 2])
    made.close()


def test_fork_server_ends_with_its_caller(tmp_path: Path) -> None:
    caller = (
        "from pathlib import Path; from stand_in_children import children_running\n"
        "made = children_running(['/bin/sh', '-c', 'echo $PPID'])\n"
        f"child = made.start(Path({str(tmp_path)!r}), [0, 1, 2])\n"
        "input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", caller], env=IMPORTS, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        ending = os.pidfd_open(int(process.stdout.readline()))
        process.kill()

    assert has_ended(ending), "the fork server outlived its caller"


def test_orphan_notices_that_it_came_too_late() -> None:
    exit_if_orphaned(os.getppid())

    with pytest.raises(SystemExit, match="the calling process is gone"):
        exit_if_orphaned(2**22 + 1)


def test_rlimits_hold_before_the_media_is_opened(tmp_path: Path, be_child: BeChild) -> None:
    be_child(
        python(
            "import json, resource as r\n"
            "from pipeline.media.confine import set_rlimits\n"
            "from pipeline.media.limits import MediaLimits\n"
            "set_rlimits(MediaLimits(memory_bytes=10**9, output_bytes=10**6), cpu_seconds=7)\n"
            "print(json.dumps([r.getrlimit(w) for w in (r.RLIMIT_CPU, r.RLIMIT_AS, r.RLIMIT_FSIZE,"
            " r.RLIMIT_CORE)]))",
        )
    )

    assert json.loads(run(tmp_path)) == [[7, 8], [10**9, 10**9], [10**6, 10**6], [0, 0]]


@pytest.mark.parametrize("field", ["cpu_seconds", "max_pixels", "max_cues"])
def test_limits_are_checked(field: str) -> None:
    with pytest.raises(ConfigurationError, match=field):
        MediaLimits(**{field: 0})


@pytest.mark.parametrize("field", ["analysis_width", "jpeg_quality", "decoder_threads"])
def test_params_are_checked(field: str) -> None:
    with pytest.raises(ConfigurationError, match=field):
        SplitParams(**{field: 0})
