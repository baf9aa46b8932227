"""kill -9 of a worker in every stage: at the start, in the middle, with all but the commit done,
and between the commit and the acknowledgement."""

from pathlib import Path
from typing import get_args

import pytest
from faults.content import Content
from faults.injection import Fault, Point
from faults.world import World

STAGES = (
    "expand", "ingest", "split", "vision", "safety", "ocr", "speech", "sound", "text", "fuse",
    "caption",
)  # fmt: skip


@pytest.mark.parametrize(
    ("broker", "stage"),
    [
        *(("rabbitmq", stage) for stage in STAGES),
        # What differs is the transport, not the stage.
        *(("redis", stage) for stage in ("expand", "ingest", "fuse")),
    ],
    indirect=["broker"],
)
def test_every_stage_survives_its_worker(
    cluster: World, media: Path, expected: Content, stage: str
) -> None:
    points = get_args(Point)
    # One run at a time: then it is known which attempts died, and one run may meet every fault.
    cluster.settings |= {"concurrency": 1, "max_attempts": 1 + len(points)}
    faults = [Fault(action="kill", point=point, stage=stage) for point in points]
    cluster.workers(2, faults=faults)
    cluster.submit(media)
    cluster.check(expected, exact=True)
    happened = cluster.fired()
    assert [(fault.stage, fault.point) for fault in happened] == [(stage, p) for p in points]
