"""Workers that stand still while time goes on, and workers whose clock is wrong."""

import signal
from datetime import timedelta
from pathlib import Path

import pytest
from faults.content import Content
from faults.injection import Fault
from faults.processes import until
from faults.world import World


@pytest.mark.parametrize("point", ["middle", "stored"])
def test_a_worker_that_is_frozen_past_its_lease(
    cluster: World, media: Path, expected: Content, point: str
) -> None:
    frozen = Fault(action="freeze", point=point, stage="split")  # type: ignore[arg-type]
    cluster.settings |= {"concurrency": 1}
    (first,) = cluster.workers(1, faults=[frozen])
    cluster.submit(media)
    until(lambda: len(cluster.fired()) == 1)
    cluster.workers(1)
    if point == "middle":
        until(lambda: "runs" not in cluster.open_work())
        taken_over = "lease_lost"
    else:
        # It holds locks on its rows in an open transaction: the others wait for it, or for those
        # who look after the database to end it.
        (run_id,) = cluster.fired()[0].held
        expired = "SELECT 1 FROM stage_run WHERE id = :id AND lease_expires_at < CURRENT_TIMESTAMP"
        until(lambda: bool(cluster.sql(expired, id=run_id)))
        taken_over = ""
    first.signal(signal.SIGCONT)
    if taken_over:
        until(lambda: first.says(taken_over))
    cluster.check(expected, exact=point == "middle", deadly=("freeze",))


@pytest.mark.parametrize(("broker", "hours"), [("rabbitmq", 1), ("redis", -1)], indirect=["broker"])
def test_a_clock_that_is_an_hour_off(
    cluster: World, media: Path, expected: Content, hours: int
) -> None:
    faults = [Fault(action="wait", point="middle", stage="split", times=2)]
    cluster.workers(1, faults=faults, clock_seconds=3600 * hours)
    cluster.submit(media)
    until(lambda: len(cluster.fired()) == 2)
    # One with the right time looks at its leases, longer than one lasts.
    cluster.workers(1)
    expiry = "SELECT MAX(lease_expires_at) AS at FROM stage_run WHERE state = 'running'"
    before = cluster.sql(expiry)[0]["at"]
    lease = timedelta(seconds=2 * cluster.settings["lease_seconds"])
    until(lambda: cluster.sql(expiry)[0]["at"] > before + lease)
    cluster.go()
    cluster.check(expected, exact=True)
    times = cluster.sql(
        "SELECT MIN(created_at) AS first, MAX(finished_at) AS last, CURRENT_TIMESTAMP AS now "
        "FROM stage_run"
    )[0]
    assert times["now"] - times["first"] < timedelta(minutes=10)
    assert times["last"] <= times["now"]
