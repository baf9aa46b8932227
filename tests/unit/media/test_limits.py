"""Bounds: what goes beyond one is stopped, says which, and leaves nothing."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import psutil
import pytest
from media_factory import make_sound, make_video, run_ffmpeg
from stand_in_children import IMPORTS, BeChild

from pipeline.errors import (
    ContractError,
    InvalidMediaError,
    MediaLimitError,
    PipelineError,
    ResourceExhaustedError,
)
from pipeline.media import (
    MediaLimits,
    SplitParams,
    api,
    check_sandbox,
    probe_media,
    split_media,
    watch,
)
from pipeline.media.launcher import run_child

PYTHON = [sys.executable, "-I", "-S", "-c"]
#: Takes space for a file that stays empty.
BEYOND_THE_END = """
from ctypes import CDLL, c_long
with open("audio.flac", "wb") as file:
    CDLL(None).fallocate(file.fileno(), 1, c_long(0), c_long(9_000_000))
print("{}")
"""


def be_ffmpeg(monkeypatch: pytest.MonkeyPatch, path: Path, script: str) -> None:
    """Have the child run this instead of ffmpeg."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setattr(api, "find_ffmpeg", lambda: path)


@pytest.fixture(autouse=True)
def nothing_is_left(work_dir: Path) -> Iterator[None]:
    """No process, no descriptor and no file outlives a test."""
    # The fork server stays; it is started before.
    check_sandbox()
    before, others = open_descriptors(), set(psutil.Process().children())
    yield
    # Servers of other tests may run beside.
    assert set(psutil.Process().children()) - others == set()
    assert open_descriptors() == before
    assert list(work_dir.iterdir()) == []


def open_descriptors() -> list[str]:
    return sorted(path.name for path in Path("/proc/self/fd").iterdir())


def split(path: Path, work_dir: Path, limits: MediaLimits) -> None:
    info = probe_media(path, work_dir=work_dir, limits=MediaLimits()).info
    split_media(
        path, info=info, params=SplitParams(), sidecars=(), work_dir=work_dir, limits=limits
    )


@pytest.mark.parametrize(("make", "name"), [(make_video, "a.mp4"), (make_sound, "a.wav")])
def test_ffmpeg_that_stands_still_is_stopped(
    tmp_path: Path, work_dir: Path, monkeypatch: pytest.MonkeyPatch,
    make: Callable[[Path], Path], name: str,
) -> None:  # fmt: skip
    path = make(tmp_path / name)
    be_ffmpeg(monkeypatch, tmp_path / "ffmpeg", "exec sleep 1000")

    with pytest.raises(ResourceExhaustedError, match="made no progress for 1 s"):
        split(path, work_dir, MediaLimits(stall_seconds=1))


def test_who_shows_signs_of_life_is_not_stopped(tmp_path: Path, be_child: BeChild) -> None:
    # Pauses within bounds that are too long together; first with signs, then with a growing file.
    code = (
        "import json, os, sys, time\n"
        "descriptor = json.load(sys.stdin)['progress_descriptor']\n"
        "for _ in range(5):\n    time.sleep(0.25); os.write(descriptor, b'.')\n"
        "for _ in range(5):\n    time.sleep(0.25); open('audio.flac', 'a').write('x')\n"
        "print('{}')"
    )
    be_child([*PYTHON, code])

    reply, _ = run_child(
        {}, work_dir=tmp_path, limits=MediaLimits(stall_seconds=1), wall_seconds=60
    )

    assert reply == b"{}\n"


def test_flood_of_messages_of_ffmpeg(
    tmp_path: Path, work_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_sound(tmp_path / "a.wav")
    be_ffmpeg(monkeypatch, tmp_path / "ffmpeg", "exec yes 'this is broken' >&2")

    with pytest.raises(MediaLimitError, match=r"more than 9000000 bytes of messages"):
        split(path, work_dir, MediaLimits(max_message_bytes=9_000_000))


@pytest.mark.parametrize(
    ("code", "error", "message"),
    [
        ("while True: os.write(2, bytes(9999))", MediaLimitError, "bytes of messages"),
        ("while True: os.write(1, bytes(9999))", MediaLimitError, "keyframes and cues .* fill"),
        (
            "n = 0\nwhile True: n += 1; open(f'keyframe-{n}', 'w')",
            MediaLimitError,
            "more than 50 files",
        ),
        (
            "while True: open('audio.flac', 'ab').write(bytes(999_999))",
            ResourceExhaustedError,
            "wrote more than 3000000 bytes",
        ),
        (
            # Too fast to be looked at in between.
            "for n in range(4): open(f'keyframe-{n}', 'wb').write(bytes(999_999))\nprint('{}')",
            ResourceExhaustedError,
            "wrote more than 3000000 bytes",
        ),
        (BEYOND_THE_END, ResourceExhaustedError, "wrote more than 3000000 bytes"),
    ],
)
def test_floods_of_a_child(
    tmp_path: Path,
    be_child: BeChild,
    code: str,
    error: type[PipelineError],
    message: str,
) -> None:
    be_child([*PYTHON, "import os\n" + code])
    limits = MediaLimits(
        max_message_bytes=1_000_000, max_reply_bytes=1_000_000, max_output_files=50,
        output_bytes=3_000_000, stall_seconds=1,
    )  # fmt: skip

    with pytest.raises(error, match=message):
        run_child({}, work_dir=tmp_path, limits=limits, wall_seconds=60)


def test_files_that_go_while_they_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, be_child: BeChild
) -> None:
    def listed(folder: Path) -> nullcontext[list[os.DirEntry[str]]]:
        with scandir(folder) as entries:
            found = list(entries)
        (tmp_path / "even.nut").unlink(missing_ok=True)
        return nullcontext(found)

    scandir = os.scandir
    monkeypatch.setattr(watch.os, "scandir", listed)
    be_child(
        [*PYTHON, "open('even.nut', 'w'); open('keyframe', 'w').write('x' * 99); print('{}')"],
    )

    limits = MediaLimits(output_bytes=98)
    with pytest.raises(ResourceExhaustedError, match="wrote more than 98 bytes"):
        run_child({}, work_dir=tmp_path, limits=limits, wall_seconds=60)


def test_too_many_frames(tmp_path: Path, work_dir: Path) -> None:
    path = make_video(tmp_path / "video.mp4", sound=False)

    with pytest.raises(MediaLimitError, match="more frames than the limit of 99"):
        split(path, work_dir, MediaLimits(max_frames=99))


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"max_output_files": 1}, MediaLimitError, "more than 1 files"),
        ({"output_bytes": 30_000}, ResourceExhaustedError, "more than 30000 bytes"),
        ({"max_reply_bytes": 100}, MediaLimitError, "fill more than 100 bytes"),
    ],
)
def test_too_many_keyframes(
    tmp_path: Path, work_dir: Path, changed: dict[str, int], error: type[PipelineError],
    message: str,
) -> None:  # fmt: skip
    path = make_video(tmp_path / "video.mp4", frames_per_shot=(25,) * 3, sound=False)

    with pytest.raises(error, match=message):
        split(path, work_dir, MediaLimits(**changed))


def laden_video(tmp_path: Path) -> Path:
    """With 3 fonts of 1000 bytes, 4 chapters and a long title."""
    plain = make_video(tmp_path / "plain.mkv", frames_per_shot=(5,), sound=False)
    chapters = "".join(
        f"[CHAPTER]\nTIMEBASE=1/1000\nSTART={n * 10}\nEND={n * 10 + 10}\ntitle=t\n"
        for n in range(4)
    )
    texts = tmp_path / "texts"
    texts.write_text(f";FFMETADATA1\ntitle={'x' * 3000}\n{chapters}")
    arguments: list[str | Path] = ["-i", plain, "-i", texts, "-map_metadata", "1", "-c", "copy"]
    for n in range(3):
        font = tmp_path / f"{n}.ttf"
        font.write_bytes(bytes([n]) * 1000)
        arguments += ["-attach", font, f"-metadata:s:t:{n}", "mimetype=application/x-truetype-font"]
    run_ffmpeg(*arguments, tmp_path / "laden.mkv")
    return tmp_path / "laden.mkv"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"max_attachments": 2}, "3 attached files, more than the limit of 2"),
        ({"max_header_bytes": 2999}, "bytes of attached files and codec headers"),
        ({"max_chapters": 3}, "4 chapters, more than the limit of 3"),
        ({"max_metadata_chars": 3000}, "characters of metadata"),
    ],
)
def test_too_much_beside_the_media(
    tmp_path: Path, work_dir: Path, changed: dict[str, int], message: str
) -> None:
    path = laden_video(tmp_path)
    assert probe_media(path, work_dir=work_dir, limits=MediaLimits(max_streams=1)).info

    with pytest.raises(MediaLimitError, match=message):
        probe_media(path, work_dir=work_dir, limits=MediaLimits(**changed))


ENDINGS = [
    (signal.SIGKILL, ResourceExhaustedError, r"\(SIGKILL\): most likely the machine ran out"),
    (signal.SIGXCPU, ResourceExhaustedError, r"\(SIGXCPU\): it needed more CPU time"),
    (signal.SIGXFSZ, ResourceExhaustedError, r"\(SIGXFSZ\): it wrote a larger file"),
    (signal.SIGTERM, ResourceExhaustedError, r"\(SIGTERM\): half a sentence"),
    (signal.SIGSEGV, InvalidMediaError, r"\(SIGSEGV\).*hostile: half a sentence"),
    (signal.SIGABRT, InvalidMediaError, "SIGABRT"),
    (signal.SIGBUS, InvalidMediaError, "SIGBUS"),
    (signal.SIGILL, InvalidMediaError, "SIGILL"),
    (signal.SIGFPE, InvalidMediaError, "SIGFPE"),
    (signal.SIGSYS, InvalidMediaError, "SIGSYS"),
]


def test_two_hundred_deaths_leave_nothing(
    tmp_path: Path, work_dir: Path, be_child: BeChild
) -> None:
    process, before = psutil.Process(), 0
    for index, (killer, error, message) in enumerate(ENDINGS):
        # The shell leaves a grandchild behind that would live on.
        script = f"sleep 1000 & echo half a sentence >&2; kill -{killer.value} $$; exit 1"
        be_child(["/bin/sh", "-c", script])
        for _ in range(20):
            with pytest.raises(error, match=message) as caught:
                run_child({}, work_dir=work_dir, limits=MediaLimits(), wall_seconds=60)
            assert type(caught.value) is error
        if index == 1:
            before = process.memory_info().rss
    assert process.memory_info().rss < before + 8 * 1024**2
    assert not [p for p in psutil.process_iter(["cmdline"]) if is_left_behind(p, work_dir)]


def is_left_behind(process: psutil.Process, folder: Path) -> bool:
    try:
        return Path(process.cwd()) == folder
    except (psutil.Error, OSError):
        return False


def test_process_one_reaps_what_a_child_had_started(tmp_path: Path) -> None:
    code = (
        "import ctypes, os; from pathlib import Path\n"
        "from pipeline.errors import ContractError\n"
        "from stand_in_children import children_running\n"
        "from pipeline.media import MediaLimits, launcher\n"
        "ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # orphans come here, as they do to process 1\n"
        "command = ['/bin/sh', '-c', 'sleep 1000 & sleep 1000 & exit 3']\n"
        "launcher.children = children_running(command)\n"
        "try:\n"
        f"    launcher.run_child({{}}, work_dir=Path({str(tmp_path)!r}), limits=MediaLimits(),"
        " wall_seconds=60)\n"
        "except ContractError as error:\n    print(error)\n"
        "launcher.children.close()\n"
        "try:\n    print(os.waitpid(-1, os.WNOHANG))\n"
        "except ChildProcessError:\n    print('none left')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=IMPORTS, capture_output=True, text=True, check=True
    )

    assert done.stdout.splitlines() == [
        "the media child ended with exit code 3: it wrote nothing", "none left",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "message",
    [
        "[aac] Error: Cannot allocate memory",
        "[out#0/nut] pthread_create() failed: Resource temporarily unavailable",
        "[rawvideo] ff_frame_thread_encoder_init failed",
    ],
)
def test_memory_limit_of_ffmpeg(
    tmp_path: Path, work_dir: Path, monkeypatch: pytest.MonkeyPatch, message: str
) -> None:
    path = make_sound(tmp_path / "a.wav")
    be_ffmpeg(monkeypatch, tmp_path / "ffmpeg", f"echo '{message}' >&2; exit 1")

    with pytest.raises(ResourceExhaustedError, match=re.escape(f"memory or disk: {message}")):
        split(path, work_dir, MediaLimits())


@pytest.mark.parametrize("mebibytes", [60, 320, 380])
def test_memory_limit_at_any_point_of_the_child(
    tmp_path: Path, work_dir: Path, mebibytes: int
) -> None:
    """Too little for anything at all, for a buffer, for a thread: always the same class."""
    path = make_video(
        tmp_path / "large.mp4", frames_per_shot=(1,), size="4096x2304", rate="1", sound=False
    )

    with pytest.raises(ResourceExhaustedError, match="memory"):
        split(path, work_dir, MediaLimits(memory_bytes=mebibytes * 1024**2))


def test_cpu_limit_of_the_child(tmp_path: Path, be_child: BeChild) -> None:
    be_child([
        *PYTHON, "import resource as r; r.setrlimit(r.RLIMIT_CPU, (1, 2))\nwhile True: pass",
    ])  # fmt: skip

    with pytest.raises(ResourceExhaustedError, match="more CPU time than its limit"):
        run_child({}, work_dir=tmp_path, limits=MediaLimits(), wall_seconds=60)


def test_picture_larger_than_may_be_written(tmp_path: Path, work_dir: Path) -> None:
    path = tmp_path / "noise.png"
    run_ffmpeg("-f", "lavfi", "-i", "nullsrc=s=500x500,geq=random(1)*255", "-frames:v", "1", path)

    with pytest.raises(ResourceExhaustedError, match="cannot be written: File too large"):
        split(path, work_dir, MediaLimits(output_bytes=9_000))


def test_bug_of_ours_is_told_with_its_last_line(tmp_path: Path, be_child: BeChild) -> None:
    be_child([*PYTHON, "def work():\n    {}['frames']\nwork()"])

    with pytest.raises(ContractError, match=r"exit code 1: KeyError: 'frames'"):
        run_child({}, work_dir=tmp_path, limits=MediaLimits(), wall_seconds=60)
