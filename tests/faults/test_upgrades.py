"""Workers of two versions at once."""

from pathlib import Path

import pytest
from faults.content import Content
from faults.injection import Fault
from faults.processes import until
from faults.world import World

from pipeline.plan.graph import STAGES


def test_a_worker_of_the_previous_version_that_finishes_after_an_upgrade(
    cluster: World, media: Path, expected: Content
) -> None:
    old = {"split": 0, "fuse": 0}
    waiting = Fault(action="wait", point="middle", stage="split", times=None)
    (previous,) = cluster.workers(1, faults=[waiting], versions=old, shutdown_seconds=30)
    cluster.submit(media)
    until(lambda: len(cluster.fired()) == cluster.settings["concurrency"])
    # It is asked to stop, and finishes what it holds: results of the old version.
    previous.popen.terminate()
    cluster.workers(1)
    until(lambda: bool(cluster.sql("SELECT 1 FROM stage_run WHERE stage = 'caption'")))
    cluster.go()
    assert previous.popen.wait(60) == 0
    cluster.check(expected, outdated=True)
    versions = cluster.sql(
        "SELECT DISTINCT r.stage, r.code_version FROM stage_run r "
        "JOIN head h ON h.stage_run_id = r.id "
        "WHERE r.stage IN ('split', 'fuse') ORDER BY r.stage"
    )
    assert versions == [
        {"stage": stage, "code_version": STAGES[stage].code_version} for stage in ("fuse", "split")
    ]


@pytest.mark.parametrize("broker", ["redis"], indirect=True)
def test_two_versions_side_by_side(cluster: World, media: Path, expected: Content) -> None:
    cluster.workers(1, versions={"split": 0, "fuse": 0})
    cluster.workers(1)
    cluster.submit(media)
    until(lambda: len(cluster.sql("SELECT 1 FROM stage_run WHERE state = 'succeeded'")) > 20)
    # The rollout ends.
    assert cluster.processes[0].stop() == 0
    cluster.settle()
    # Assets that the old version has finished alone are current to it; a job brings them up.
    cluster.submit(media)
    cluster.check(expected, outdated=True)
