"""Media that end every process that touches them: they alone fail."""

from pathlib import Path
from typing import Any

import pytest
from faults.content import Content
from faults.injection import Fault
from faults.world import World


@pytest.mark.parametrize(
    ("workers", "action", "stage", "asset"),
    [(1, "segfault", "split", "p-001.png"), (2, "kill", "ingest", "s-000.wav")],
)
def test_one_asset_that_kills_its_process_each_time(
    cluster: World,
    media: Path,
    expected: Content,
    action: Any,
    stage: str,
    asset: str,
    workers: int,
) -> None:
    poison = Fault(action=action, point="middle", stage=stage, asset=asset, times=None)
    cluster.settings |= {"concurrency": 4}
    cluster.workers(workers, faults=[poison])
    cluster.submit(media)
    cluster.check(expected, failed={asset: "AttemptLostError"})
    assert len(cluster.fired()) == 3, "as often as attempts are allowed"
    # Whoever was in the same process lost attempts, and none failed for it.
    failed = cluster.sql("SELECT stage, attempt FROM stage_run WHERE state = 'failed'")
    assert sorted(row["stage"] for row in failed) == sorted([stage, "ingest"])


@pytest.mark.parametrize("broker", ["rabbitmq"], indirect=True)
def test_memory_that_one_asset_takes(cluster: World, media: Path, expected: Content) -> None:
    hog = Fault(action="hog", point="middle", stage="split", asset="p-001.png", times=None)
    cluster.workers(2, faults=[hog], worker_memory_bytes=400 << 20, shutdown_seconds=2)
    cluster.submit(media)
    cluster.check(expected, failed={"p-001.png": "AttemptLostError"})
    assert len(cluster.fired()) == 3
