"""How long a live job takes while a bulk job is worked on, against an idle system."""

import random
import time
from functools import partial
from statistics import median, quantiles

from sqlalchemy import select, text

from bench.figures import Figure
from bench.queue.backlog import Backlogs, add_job
from bench.queue.site import PROCESSES, Crew, Site, note, succeeded, wait_until
from pipeline.db.engine import Database
from schemas.tables import job

ROUNDS = 2
#: Live jobs per round and condition, one after another.
LIVE_JOBS = 60
#: Bulk runs done before the first of them.
BUSY = 100
#: Longest pause between two: they come at any moment between two looks of a dispatcher.
PAUSE_SECONDS = 0.3
#: Bulk stages that do nothing leave no core free: a live job then waits for the CPU, whatever the
#: queue does. Ones that sleep stand in for those that wait for a device.
SLEEP_MS = 20
ASKED = 2.0


def measure(site: Site, backlogs: Backlogs, rows: int) -> list[Figure]:
    conditions: dict[str, tuple[int | None, float]] = {
        "idle": (None, 0.0),
        "busy": (rows, 0.0),
        "sleeping": (rows, float(SLEEP_MS)),
    }
    seen: dict[str, list[float]] = {name: [] for name in conditions}
    for number in range(1, ROUNDS + 1):
        for name, (size, sleep_ms) in conditions.items():
            seen[name] += _latencies(site, backlogs, size, sleep_ms)
        lines = ", ".join(f"{name}: {_line(found)}" for name, found in seen.items())
        note(f"latency {number}/{ROUNDS}: {lines}")
    idle = _p95(seen["idle"])
    return [
        Figure(
            name=f"latency of live jobs over {what} / idle, p95",
            asked=f"below {ASKED:.0f}",
            seen=_p95(seen[name]) / idle,
            met=_p95(seen[name]) / idle < ASKED,
            notes=(
                f"{_line(seen[name])}; idle {_line(seen['idle'])} (n = {len(seen[name])})",
                f"p95 over the idle p50: {_p95(seen[name]) / median(seen['idle']):.2f}",
            ),
        )
        for name, what in (
            ("busy", f"{rows:,} bulk items that do nothing"),
            ("sleeping", f"{rows:,} bulk items of {SLEEP_MS} ms a stage"),
        )
    ]


def _latencies(site: Site, backlogs: Backlogs, size: int | None, sleep_ms: float) -> list[float]:
    """Seconds from ``submitted_at`` to ``finished_at``, by the database's clock."""
    if size is None:
        with site.database() as (url, database):
            site.empty_queues()
            with Crew.of_workers(site, url) as crew:
                return _live_jobs(database, crew)
    backlog = backlogs.of(size)
    backlog.restore()
    site.empty_queues()
    with Crew.of_workers(site, backlog.url, sleep_ms=sleep_ms) as crew:
        wait_until(
            lambda: succeeded(backlog.database, backlog.job_id) >= BUSY, "bulk work under way"
        )
        return _live_jobs(backlog.database, crew)


def _live_jobs(database: Database, crew: Crew) -> list[float]:
    wait_until(lambda: _workers(database) >= PROCESSES, "the start of the workers")
    chance = random.Random(0)  # noqa: S311  pauses
    seconds = []
    for _ in range(LIVE_JOBS):
        crew.check()
        time.sleep(chance.uniform(0, PAUSE_SECONDS))
        job_id = add_job(database, 1, is_live=True)
        wait_until(partial(_is_finished, database, job_id), "the end of a live job", 0.02)
        seconds.append(_seconds(database, job_id))
    return seconds


def _workers(database: Database) -> int:
    with database.reading() as connection:
        query = "SELECT count(*) FROM worker WHERE seen_at > clock_timestamp() - interval '20 s'"
        return int(connection.execute(text(query)).scalar_one())


def _is_finished(database: Database, job_id: int) -> bool:
    with database.reading() as connection:
        query = select(job.c.finished_at).where(job.c.id == job_id)
        return connection.execute(query).scalar_one() is not None


def _seconds(database: Database, job_id: int) -> float:
    with database.reading() as connection:
        query = select(job.c.finished_at, job.c.submitted_at).where(job.c.id == job_id)
        finished_at, submitted_at = connection.execute(query).one()
    return float((finished_at - submitted_at).total_seconds())


def _p95(seconds: list[float]) -> float:
    return quantiles(seconds, n=20)[-1]


def _line(seconds: list[float]) -> str:
    return f"p50 {median(seconds) * 1000:.0f} ms, p95 {_p95(seconds) * 1000:.0f} ms"
