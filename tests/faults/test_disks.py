"""Disks that are full: in scratch, and where the artifacts are."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from faults.content import Content
from faults.processes import until
from faults.world import World


class SmallDisk:
    """A file system of its own that a test fills up and empties."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        with suppress(OSError), self._ballast.open("ab", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    def free(self) -> None:
        self._ballast.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["/bin/mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = f"a small disk cannot be mounted: {done.stderr.strip()}; run the tests as root"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["/bin/umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize(
    ("broker", "place"),
    [("rabbitmq", "scratch_dir"), ("redis", "artifacts")],
    indirect=["broker"],
)
def test_a_full_disk(
    make_world: Callable[..., World],
    postgres_database: str,
    broker: str,
    media: Path,
    expected: Content,
    disk: SmallDisk,
    place: str,
) -> None:
    inside = disk.folder / "inside"
    world = make_world(
        database=postgres_database,
        broker=broker,
        max_attempts=20,
        **{place: str(inside)},
    )
    inside.mkdir(exist_ok=True)
    workers = world.workers(2)
    # A worker that cannot make its folders at the start does not start: that is another case.
    until(lambda: all(worker.says("worker: ready") for worker in workers))
    disk.fill()
    world.submit(media)
    exhausted = "SELECT id FROM stage_run WHERE error_class = 'ResourceExhaustedError'"
    until(lambda: len(world.sql(exhausted)) > 1)
    disk.free()
    world.check(expected)
