"""What a stage run costs as the number of those that wait grows.

Sizes are measured in turns, each on a database of its own. Wall time is what was asked about, but
on two cores it is also that of everything else on the machine, and of the disk that commits wait
for; CPU time is of our processes only. So the verdict is by CPU time; wall time is shown beside it.
"""

from dataclasses import dataclass
from functools import partial
from statistics import median

from bench.figures import Figure
from bench.queue.backlog import Backlog, Backlogs
from bench.queue.site import Crew, Site, ended_at, note, succeeded, wait_until

ROUNDS = 3
#: Runs of each round that are not timed, and those that are. Every run that ends makes its asset's
#: next one due, so that as many wait after a round as before; and even the smallest backlog is not
#: through with its first stages by then, so that all rounds time the same stage.
WARM_UP, TIMED = 200, 500
ASKED = 1.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Milliseconds per stage run: by the clock, and of CPU in workers and in PostgreSQL."""

    wall: float
    workers: float
    database: float

    @property
    def cpu(self) -> float:
        return self.workers + self.database


def measure(site: Site, backlogs: Backlogs, rows: int) -> list[Figure]:
    sizes = [size for size in (1_000, 10_000, 100_000, 1_000_000) if size < rows] + [rows]
    costs: dict[int, list[Cost]] = {size: [] for size in sizes}
    for number in range(1, ROUNDS + 1):
        for size in sizes:
            costs[size].append(_cost(site, backlogs.of(size)))
        seen = ", ".join(f"{size:,}: {_line(found[-1])}" for size, found in costs.items())
        note(f"growth {number}/{ROUNDS}: {seen}")
    middle = {size: _medians(found) for size, found in costs.items()}
    cpu, wall = (
        max(values) / min(values)
        for values in (
            [cost.cpu for cost in middle.values()],
            [cost.wall for cost in middle.values()],
        )
    )
    return [
        Figure(
            name=f"cost per stage run, dearest / cheapest of {sizes[0]:,} to {rows:,} waiting",
            asked=f"at most {ASKED}",
            seen=cpu,
            met=cpu <= ASKED,
            notes=(
                f"by CPU time; by the clock {wall:.2f}",
                *(f"{size:,} waiting: {_line(cost)}" for size, cost in middle.items()),
            ),
        )
    ]


def _cost(site: Site, backlog: Backlog) -> Cost:
    backlog.restore()
    site.empty_queues()
    database, job_id = backlog.database, backlog.job_id
    with Crew.of_workers(site, backlog.url) as crew:
        looks: list[tuple[int, float, float]] = []
        for count in (WARM_UP, WARM_UP + TIMED):
            wait_until(partial(_has_done, backlog, count), f"the end of run {count}")
            looks.append(
                (succeeded(database, job_id), crew.cpu_seconds, site.database_cpu_seconds())
            )
    (first, workers, server), (last, workers_after, server_after) = looks
    ends = ended_at(database, job_id)
    each = 1000 / (last - first)
    return Cost(
        wall=(ends[last - 1] - ends[first - 1]) * each,
        workers=(workers_after - workers) * each,
        database=(server_after - server) * each,
    )


def _has_done(backlog: Backlog, count: int) -> bool:
    return succeeded(backlog.database, backlog.job_id) >= count


def _medians(costs: list[Cost]) -> Cost:
    return Cost(
        wall=median(cost.wall for cost in costs),
        workers=median(cost.workers for cost in costs),
        database=median(cost.database for cost in costs),
    )


def _line(cost: Cost) -> str:
    return (
        f"{cost.cpu:.1f} ms of CPU ({cost.workers:.1f} workers, {cost.database:.1f} PostgreSQL), "
        f"{cost.wall:.1f} ms by the clock"
    )
