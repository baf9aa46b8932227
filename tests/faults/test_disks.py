"""Disks that are full: in scratch, and where the artifacts are."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from faults.content import Content
from faults.processes import until
from faults.world import World
from small_disk import SmallDisk, small_disk


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk") as made:
        yield made


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
