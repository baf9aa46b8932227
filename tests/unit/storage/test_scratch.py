"""The scratch space: kept files, evictions, pins and folders of killed processes."""

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random
from threading import Event

import pytest
from small_disk import small_disk

from pipeline.errors import ConfigurationError, MediaLimitError, ResourceExhaustedError
from pipeline.storage import scratch
from pipeline.storage.scratch import ScratchSpace


@contextmanager
def put(space: ScratchSpace, name: str, size: int) -> Iterator[Path]:
    """Claim room for ``size`` bytes, write them, keep them under a name; in use in the block."""
    with space.temporary_folder() as folder:
        space.claim(folder, size, name)
        (folder / "file").write_bytes(name[:1].encode() * size)
        with space.keep(folder / "file", name) as path:
            yield path


def put_long_ago(space: ScratchSpace, name: str, size: int, used_at: int) -> None:
    """:func:`put`, last used at a second of the distant past."""
    with put(space, name, size) as path:
        os.utime(path, (used_at, used_at))


def kept(space: ScratchSpace, *names: str) -> list[str]:
    found = []
    for name in names:
        with space.get(name) as path:
            if path is not None:
                found.append(name)
    return found


def files(root: Path) -> list[str]:
    """Every file of the scratch space but its lock."""
    return sorted(p.name for p in root.rglob("*") if p.is_file() and p != root / "lock")


def test_kept_files_survive_the_folder_they_were_fetched_into(tmp_path: Path) -> None:
    root = tmp_path / "scratch"
    space = ScratchSpace(root, max_bytes=100)
    with space.temporary_folder() as folder:
        space.claim(folder, 5, "media")
        (folder / "file").write_bytes(b"media")
        with space.keep(folder / "file", "abc") as path:
            assert path.read_bytes() == b"media"
            assert files(root) == ["abc"], "moved, and the claim given up"
    assert not folder.exists()
    with ScratchSpace(root, max_bytes=100).get("abc") as again:
        assert again is not None
        assert again.read_bytes() == b"media"
    with space.get("unknown") as nothing:
        assert nothing is None


def test_what_is_kept_already_is_kept_once(tmp_path: Path) -> None:
    space = ScratchSpace(tmp_path, max_bytes=20)
    with put(space, "a", 10) as first, put(space, "a", 10) as second:
        assert first.samefile(second)
        with put(space, "b", 10):
            assert files(tmp_path) == ["a", "b"]


def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    space = ScratchSpace(tmp_path, max_bytes=30)
    put_long_ago(space, "a", 10, used_at=3)
    put_long_ago(space, "b", 10, used_at=1)
    put_long_ago(space, "c", 10, used_at=2)
    put_long_ago(space, "d", 10, used_at=4)
    assert (tmp_path / "kept" / "b").exists() is False
    assert kept(space, "a", "c", "d") == ["a", "c", "d"]


def test_using_a_file_keeps_it(tmp_path: Path) -> None:
    space = ScratchSpace(tmp_path, max_bytes=20)
    put_long_ago(space, "a", 10, used_at=1)
    put_long_ago(space, "b", 10, used_at=2)
    assert kept(space, "a") == ["a"]
    put_long_ago(space, "c", 10, used_at=3)
    assert kept(space, "a", "b", "c") == ["a", "c"]


def test_files_in_use_are_not_evicted(tmp_path: Path) -> None:
    space = ScratchSpace(tmp_path, max_bytes=20, wait_seconds=0)
    put_long_ago(space, "a", 10, used_at=1)
    with space.get("a") as path:
        assert path is not None
        os.utime(path, (1, 1))
        put_long_ago(space, "b", 10, used_at=2)
        with pytest.raises(ResourceExhaustedError), put(space, "c", 20):
            pytest.fail("there is no room")
        assert path.read_bytes() == b"a" * 10
    put_long_ago(space, "c", 20, used_at=3)
    assert kept(space, "a", "b", "c") == ["c"]


def test_what_never_fits_is_refused_at_once(tmp_path: Path) -> None:
    space = ScratchSpace(tmp_path, max_bytes=20)
    put_long_ago(space, "small", 1, used_at=1)
    with (
        pytest.raises(MediaLimitError, match=r"s3://b/large has 21 bytes.*raise scratch_max_bytes"),
        space.temporary_folder() as folder,
    ):
        space.claim(folder, 21, "s3://b/large")
    assert kept(space, "small") == ["small"]


def test_without_a_bound_nothing_is_kept(tmp_path: Path) -> None:
    space = ScratchSpace(tmp_path, max_bytes=0)
    with put(space, "a", 10) as path:
        assert path.name == "file"
        assert path.read_bytes() == b"a" * 10
    assert files(tmp_path) == []


def test_claims_of_others_count(tmp_path: Path) -> None:
    space = ScratchSpace(tmp_path, max_bytes=20, wait_seconds=0)
    with space.temporary_folder() as ours, space.temporary_folder() as theirs:
        space.claim(ours, 15, "ours")
        with pytest.raises(ResourceExhaustedError, match=r"no room for the 6 bytes of theirs"):
            space.claim(theirs, 6, "theirs")
        space.claim(theirs, 5, "theirs")
        # The former claim of a folder does not stand in the way of its next.
        space.claim(ours, 10, "ours")
    with space.temporary_folder() as folder:
        space.claim(folder, 20, "alone")
    assert files(tmp_path) == []


def test_whoever_finds_no_room_waits_for_it(tmp_path: Path) -> None:
    space = ScratchSpace(tmp_path, max_bytes=20)
    begun = Event()

    def wait() -> None:
        with space.temporary_folder() as folder:
            begun.set()
            space.claim(folder, 20, "waiting")

    with ThreadPoolExecutor(1) as pool:
        with put(space, "a", 10):
            waiting = pool.submit(wait)
            begun.wait()
            assert files(tmp_path) == ["a"]
        waiting.result()
    assert kept(space, "a") == []


def test_many_threads_stay_within_the_bound(tmp_path: Path) -> None:
    space = ScratchSpace(tmp_path, max_bytes=1000)

    def work(seed: int) -> int:
        random, most = Random(seed), 0
        for number in range(12):
            # Some bytes are fetched by several, some not kept, some read again.
            name = f"{random.randrange(20)}" if number % 3 else f"{seed}-{number}"
            with ExitStack() as stack:
                path = stack.enter_context(space.get(name)) if number % 4 else None
                if path is None:
                    path = stack.enter_context(put(space, name, random.randrange(100, 400)))
                assert set(path.read_bytes()) == set(name[:1].encode())
                most = max(most, used_bytes())
        return most

    def used_bytes() -> int:
        with (tmp_path / "lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            sizes = {}
            for path in [*tmp_path.glob("tmp/*/file"), *tmp_path.glob("kept/*")]:
                try:
                    status = path.stat()
                except FileNotFoundError:
                    continue
                sizes[status.st_ino] = status.st_size
            return sum(sizes.values())

    with ThreadPoolExecutor(4) as pool:
        most = max(pool.map(work, range(8)))
    assert 400 < most <= 1000
    assert list((tmp_path / "tmp").iterdir()) == []


def test_kept_files_make_way_on_a_disk_that_is_full(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        space = ScratchSpace(disk.folder / "scratch", max_bytes=100 << 20)
        put_long_ago(space, "a", 900_000, used_at=1)
        put_long_ago(space, "b", 900_000, used_at=2)
        put_long_ago(space, "c", 900_000, used_at=3)
        assert kept(space, "a", "b", "c") == ["b", "c"]
        disk.fill()
        with space.temporary_folder() as folder, space.get("c"):
            space.claim(folder, 100_000, "d")
        assert kept(space, "b", "c") == ["c"]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot write"):
        ScratchSpace(tmp_path, max_bytes=10).claim(tmp_path / "missing", 1, "a")


def test_temporary_folders_go_with_their_errors(tmp_path: Path) -> None:
    space = ScratchSpace(tmp_path, max_bytes=1)
    with pytest.raises(KeyError), space.temporary_folder() as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "file").touch()
        space.claim(folder, 1, "a")
        raise KeyError
    assert list((tmp_path / "tmp").iterdir()) == []


HOLDER = """
import sys
from pathlib import Path
from pipeline.storage.scratch import ScratchSpace
space = ScratchSpace(Path(sys.argv[1]), max_bytes=30)
with space.temporary_folder() as folder, space.get("a") as path:
    space.claim(folder, 10, "b")
    (folder / "large").touch()
    print(folder, path, flush=True)
    sys.stdin.read()
"""


def test_other_processes_and_their_death_are_respected(tmp_path: Path) -> None:
    space = ScratchSpace(tmp_path, max_bytes=30, wait_seconds=0)
    put_long_ago(space, "a", 10, used_at=1)
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
        with (
            pytest.raises(ResourceExhaustedError, match="other work holds it"),
            put(space, "b", 11),
        ):
            pytest.fail("there is no room")
        put_long_ago(space, "b", 10, used_at=2)
        assert pinned.exists()
        assert (folder / "large").exists()
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    put_long_ago(space, "c", 30, used_at=3)
    assert not folder.exists()
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
