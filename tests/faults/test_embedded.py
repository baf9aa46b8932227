"""kill -9 of an embedded run, on SQLite, again and again: the next one goes on from there."""

import signal
from collections.abc import Callable
from pathlib import Path

from faults.content import Content
from faults.injection import Fault
from faults.world import World

DEATHS = (
    ("expand", "start"), ("expand", "middle"), ("expand", "stored"),
    ("ingest", "middle"), ("ingest", "committed"), ("split", "stored"), ("vision", "start"),
    ("text", "committed"), ("fuse", "stored"), ("caption", "middle"),
)  # fmt: skip


def test_runs_that_are_killed(
    make_world: Callable[..., World], tmp_path: Path, media: Path, expected: Content
) -> None:
    world = make_world(
        database=f"sqlite:///{tmp_path}/mediaweave.db", broker=None, concurrency=1, max_attempts=9
    )
    faults = [Fault(action="kill", point=point, stage=stage) for stage, point in DEATHS]  # type: ignore[arg-type]
    codes = []
    while not codes or codes[-1] == -signal.SIGKILL:
        process = world.start("run", str(media), faults=faults)
        codes.append(process.popen.wait(60))
        assert len(codes) <= len(DEATHS) + 1, world.logs()
    assert codes[-1] == 1, "one file is broken"
    assert len(world.fired()) == len(DEATHS)
    world.check(expected)
