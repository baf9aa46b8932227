import json
import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import (
    ConfigurationError,
    ContractError,
    InvalidMediaError,
    MediaLimitError,
    PipelineError,
    ResourceExhaustedError,
)
from pipeline.media import MediaLimits, SplitParams, launcher
from pipeline.media.launcher import run_child

LIMITS = MediaLimits()


def be_child(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Run this code in the child's place."""
    monkeypatch.setattr(launcher, "child_command", lambda: [sys.executable, "-P", "-c", code])


def run(tmp_path: Path, wall_seconds: float = 60) -> bytes:
    reply, _ = run_child({}, work_dir=tmp_path, limits=LIMITS, wall_seconds=wall_seconds)
    return reply


def test_environment_holds_nothing_of_the_callers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    be_child(
        monkeypatch,
        "import json, os; print(json.dumps([dict(os.environ), os.getcwd(), os.getpgid(0)"
        " == os.getpid(), os.getsid(0) == os.getpid()]))",
    )

    environment, directory, leads_group, leads_session = json.loads(run(tmp_path))

    assert "hunter2" not in environment.values()
    assert set(environment) <= {
        "PATH", "HOME", "TMPDIR", "LANG", "PYTHONPATH", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS",
        "MALLOC_ARENA_MAX", "LC_CTYPE",
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
    monkeypatch: pytest.MonkeyPatch,
    code: str,
    error: type[PipelineError],
    message: str,
) -> None:
    be_child(monkeypatch, code)

    with pytest.raises(error, match=message) as caught:
        run(tmp_path)

    assert type(caught.value) is error


def test_hanging_child_is_killed_with_all_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The grandchild holds the writing end of a pipe that this process reads.
    fifo = tmp_path / "alive"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    be_child(
        monkeypatch,
        "import os, signal\n"
        f"writer = os.open({str(fifo)!r}, os.O_WRONLY)\n"
        "if os.fork() == 0:\n    os.write(writer, b'x')\n"
        "signal.pause()",
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
    child = (
        "import os, signal; from pipeline.media.confine import die_with_parent; "
        f"die_with_parent(); open({str(fifo)!r}, 'w').write(str(os.getpid())); signal.pause()"
    )
    caller = (
        "import sys; from pathlib import Path; from pipeline.media import MediaLimits, launcher\n"
        f"launcher.child_command = lambda: [sys.executable, '-P', '-c', {child!r}]\n"
        f"launcher.run_child({{}}, work_dir=Path({str(tmp_path)!r}), limits=MediaLimits(),"
        " wall_seconds=600)"
    )
    root = str(Path(launcher.__file__).parents[2])
    with subprocess.Popen([sys.executable, "-c", caller], env={"PYTHONPATH": root}) as process:
        child_pid = int(fifo.read_text())
        descriptor = os.pidfd_open(child_pid)
        process.kill()
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)

    assert poller.poll(10_000), "the child outlived its caller"
    os.close(descriptor)


def test_orphan_notices_that_it_came_too_late(tmp_path: Path) -> None:
    request = json.dumps({"parent_pid": 2**22 + 1})
    done = subprocess.run(
        launcher.child_command(),
        input=request,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=launcher.child_environment(tmp_path),
        check=False,
    )

    assert done.returncode != 0
    assert "the calling process is gone" in done.stderr


def test_rlimits_hold_before_the_media_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    be_child(
        monkeypatch,
        "import json, resource as r\n"
        "from pipeline.media.confine import set_rlimits\n"
        "from pipeline.media.limits import MediaLimits\n"
        "set_rlimits(MediaLimits(memory_bytes=10**9, output_bytes=10**6), cpu_seconds=7)\n"
        "print(json.dumps([r.getrlimit(w) for w in (r.RLIMIT_CPU, r.RLIMIT_AS, r.RLIMIT_FSIZE,"
        " r.RLIMIT_CORE)]))",
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
