"""The scratch space: kept files, evictions, pins and folders of killed processes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.storage import scratch
from pipeline.storage.scratch import ScratchSpace


def put(space: ScratchSpace, name: str, size: int, used_at: int) -> None:
    """Store ``size`` bytes under a name, last used at a second of the distant past."""
    with space.temporary_folder() as folder:
        (folder / "file").write_bytes(name.encode() * size)
        space.store(folder / "file", name)
    with space.get(name) as path:
        if path is not None:
            os.utime(path, (used_at, used_at))


def kept(space: ScratchSpace, *names: str) -> list[str]:
    found = []
    for name in names:
        with space.get(name) as path:
            if path is not None:
                found.append(name)
    return found


def test_kept_files_survive_the_folder_they_were_fetched_into(tmp_path: Path) -> None:
    space = ScratchSpace(tmp_path / "scratch", max_bytes=100)
    with space.temporary_folder() as folder:
        (folder / "file").write_bytes(b"media")
        space.store(folder / "file", "abc")
        assert (folder / "file").read_bytes() == b"media"
    assert not folder.exists()
    with ScratchSpace(tmp_path / "scratch", max_bytes=100).get("abc") as path:
        assert path is not None
        assert path.read_bytes() == b"media"
    with space.get("unknown") as path:
        assert path is None


def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    space = ScratchSpace(tmp_path, max_bytes=30)
    put(space, "a", 10, used_at=3)
    put(space, "b", 10, used_at=1)
    put(space, "c", 10, used_at=2)
    put(space, "d", 10, used_at=4)
    assert (tmp_path / "kept" / "b").exists() is False
    assert kept(space, "a", "c", "d") == ["a", "c", "d"]


def test_using_a_file_keeps_it(tmp_path: Path) -> None:
    space = ScratchSpace(tmp_path, max_bytes=20)
    put(space, "a", 10, used_at=1)
    put(space, "b", 10, used_at=2)
    assert kept(space, "a") == ["a"]
    put(space, "c", 10, used_at=3)
    assert kept(space, "a", "b", "c") == ["a", "c"]


def test_files_in_use_are_not_evicted(tmp_path: Path) -> None:
    space = ScratchSpace(tmp_path, max_bytes=20)
    put(space, "a", 10, used_at=1)
    with space.get("a") as path:
        assert path is not None
        os.utime(path, (1, 1))
        put(space, "b", 20, used_at=2)
        assert path.read_bytes() == b"a" * 10
    put(space, "c", 20, used_at=3)
    assert kept(space, "a", "b", "c") == ["c"]


def test_files_beyond_the_bound_are_not_kept(tmp_path: Path) -> None:
    space = ScratchSpace(tmp_path, max_bytes=20)
    put(space, "small", 1, used_at=1)
    put(space, "large", 30, used_at=2)
    assert kept(space, "small", "large") == ["small"]


def test_files_of_another_disk_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    space = ScratchSpace(tmp_path / "scratch", max_bytes=100)
    (tmp_path / "file").write_bytes(b"media")
    space.store(tmp_path / "file", "abc")
    with space.get("abc") as path:
        assert path is not None
        assert path.read_bytes() == b"media"
    assert (tmp_path / "file").read_bytes() == b"media"


def test_temporary_folders_go_with_their_errors(tmp_path: Path) -> None:
    space = ScratchSpace(tmp_path, max_bytes=1)
    with pytest.raises(KeyError), space.temporary_folder() as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "file").touch()
        raise KeyError
    assert list((tmp_path / "tmp").iterdir()) == []


HOLDER = """
import sys
from pathlib import Path
from pipeline.storage.scratch import ScratchSpace
space = ScratchSpace(Path(sys.argv[1]), max_bytes=10)
with space.temporary_folder() as folder, space.get("a") as path:
    (folder / "large").touch()
    print(folder, path, flush=True)
    sys.stdin.read()
"""


def test_other_processes_and_their_death_are_respected(tmp_path: Path) -> None:
    space = ScratchSpace(tmp_path, max_bytes=10)
    put(space, "a", 10, used_at=1)
    root = Path(scratch.__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=root,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        folder, pinned = map(Path, holder.stdout.readline().split())
        put(space, "b", 10, used_at=2)
        assert pinned.exists()
        assert (folder / "large").exists()
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with space.temporary_folder():
        assert not folder.exists()
    put(space, "c", 10, used_at=3)
    assert kept(space, "a", "b", "c") == ["c"]


def test_folders_of_dead_processes_are_told_from_those_in_use(tmp_path: Path) -> None:
    space = ScratchSpace(tmp_path, max_bytes=0)
    with space.temporary_folder() as used:
        left = tmp_path / "tmp" / "work-left"
        left.mkdir()
        (left / "file").write_bytes(b"123")
        unnamed = tmp_path / "tmp" / "new-old"
        unnamed.mkdir()
        os.utime(unnamed, (0, 0))
        (tmp_path / "tmp" / "new-young").mkdir()
        assert sorted(space.abandoned()) == [unnamed, left]
        assert sorted(space.abandoned(remove=True)) == [unnamed, left]
        assert space.abandoned() == []
        young = tmp_path / "tmp" / "new-young"
        assert space.abandoned(unnamed_seconds=0) == [young], "where nobody is at work"
        assert sorted(path.name for path in (tmp_path / "tmp").iterdir()) == [
            "new-young",
            used.name,
        ]
