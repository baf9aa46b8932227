"""Messages that come twice, or too late."""

from pathlib import Path

from faults.content import Content
from faults.injection import Fault
from faults.processes import until
from faults.world import World

from pipeline.runner import control
from workers.app import RUN_STAGES, make_app, queue_name


def send_again(world: World, times: int = 3) -> int:
    """Publish every open run's id by hand; gives how many runs."""
    runs = world.sql("SELECT id, queue FROM stage_run WHERE state IN ('queued', 'running')")
    app = make_app(world.runtime.settings)
    for run in runs * times:
        app.send_task(RUN_STAGES, args=[[run["id"]]], queue=queue_name(run["queue"]))
    app.close()
    return len(runs)


def test_workers_with_the_same_message(cluster: World, media: Path, expected: Content) -> None:
    waiting = Fault(action="wait", point="start", stage="split", times=2)
    cluster.workers(2, faults=[waiting])
    cluster.submit(media)
    until(lambda: len(cluster.fired()) == 2)
    assert send_again(cluster) >= 2
    cluster.go()
    cluster.check(expected, exact=True)


def test_messages_of_work_that_is_done(cluster: World, media: Path, expected: Content) -> None:
    (worker,) = cluster.workers(1)
    cluster.submit(media)
    cluster.settle()
    app = make_app(cluster.runtime.settings)
    for run in cluster.sql("SELECT id, queue FROM stage_run ORDER BY id"):
        app.send_task(RUN_STAGES, args=[[run["id"]]], queue=queue_name(run["queue"]))
    app.close()
    assert worker.alive
    cluster.check(expected, exact=True)


def test_a_message_that_comes_after_its_job_was_cancelled(
    cluster: World, media: Path, expected: Content
) -> None:
    job_id = cluster.submit(media)
    dispatcher = cluster.start("dispatcher")
    until(lambda: bool(cluster.messages()))
    assert dispatcher.stop() == 0
    assert control.cancel(cluster.database, job_id)
    cluster.workers(1)
    until(lambda: not cluster.messages())
    cluster.check(expected, cancelled=True)
    assert cluster.sql("SELECT state, assets_total FROM v_jobs") == [
        {"state": "cancelled", "assets_total": 0}
    ]
    assert cluster.sql("SELECT state, attempt FROM stage_run") == [
        {"state": "cancelled", "attempt": 0}
    ]


def test_work_whose_job_is_cancelled_meanwhile(
    cluster: World, media: Path, expected: Content
) -> None:
    waiting = Fault(action="wait", point="middle", stage="split", times=2)
    cluster.workers(2, faults=[waiting])
    job_id = cluster.submit(media)
    until(lambda: len(cluster.fired()) == 2)
    assert control.cancel(cluster.database, job_id)
    cluster.go()
    cluster.check(expected, cancelled=True)
    assert cluster.sql("SELECT state FROM v_jobs") == [{"state": "cancelled"}]
    # What was cancelled is no reason against doing it: another job does it all.
    cluster.workers(1)
    cluster.submit(media)
    cluster.check(expected, cancelled=True)
    assert cluster.sql("SELECT state, assets_done FROM v_jobs ORDER BY job_id")[1] == {
        "state": "failed",
        "assets_done": 6,
    }
