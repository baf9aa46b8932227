"""How long a live job takes while a bulk job is worked on, against an idle system."""

import random
import time
from statistics import median, quantiles

from sqlalchemy import text

from bench.queue.backlog import Backlog, Backlogs, add_job
from bench.queue.figures import Figure
from bench.queue.site import PROCESSES, Crew, Site, note, succeeded, wait_until
from pipeline.db.engine import Database

ROUNDS = 2
#: Live jobs per round and condition, one after another.
LIVE_JOBS = 60
#: Longest pause between two: they come at any moment between two looks of a dispatcher.
PAUSE_SECONDS = 0.3
#: Bulk stages that do nothing leave no core free: a live job then waits for the CPU, whatever the
#: queue does. Ones that sleep stand in for those that wait for a device.
SLEEP_MS = 20
ASKED = 2.0


def measure(site: Site, backlogs: Backlogs, rows: int) -> list[Figure]:
    conditions = {"idle": (0, 0.0), "busy": (rows, 0.0), "sleeping": (rows, float(SLEEP_MS))}
    seen: dict[str, list[float]] = {name: [] for name in conditions}
    for number in range(1, ROUNDS + 1):
        for name, (size, sleep_ms) in conditions.items():
            seen[name] += _latencies(site, backlogs.of(size), sleep_ms)
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


def _latencies(site: Site, backlog: Backlog, sleep_ms: float) -> list[float]:
    """Seconds from ``submitted_at`` to ``finished_at``, by the database's clock."""
    database = backlog.database
    if backlog.job_id is not None:
        backlog.restore()
    site.empty_queues()
    chance = random.Random(sleep_ms)  # noqa: S311  pauses
    with Crew.of_workers(site, backlog.url, sleep_ms=sleep_ms) as crew:
        wait_until(lambda: _workers(database) >= PROCESSES, "the start of the workers")
        if backlog.job_id is not None:
            wait_until(lambda: succeeded(database, backlog.job_id) >= 100, "bulk work under way")
        live = []
        for _ in range(LIVE_JOBS):
            crew.check()
            time.sleep(chance.uniform(0, PAUSE_SECONDS))
            live.append(add_job(database, 1, is_live=True))
            wait_until(lambda: _seconds(database, live[-1]) is not None, "the end of a live job")
    return [seconds for job in live if (seconds := _seconds(database, job)) is not None]


def _workers(database: Database) -> int:
    with database.reading() as connection:
        query = "SELECT count(*) FROM worker WHERE seen_at > clock_timestamp() - interval '20 s'"
        return int(connection.execute(text(query)).scalar_one())


def _seconds(database: Database, job_id: int) -> float | None:
    query = text(
        "SELECT CAST(extract(epoch FROM finished_at - submitted_at) AS float) "
        "FROM job WHERE id = :job"
    )
    with database.reading() as connection:
        found = connection.execute(query, {"job": job_id}).scalar_one()
    return None if found is None else float(found)


def _p95(seconds: list[float]) -> float:
    return quantiles(seconds, n=20)[-1]


def _line(seconds: list[float]) -> str:
    return f"p50 {median(seconds) * 1000:.0f} ms, p95 {_p95(seconds) * 1000:.0f} ms"
