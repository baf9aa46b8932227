"""Stage runs per second through the whole machinery, against bare Celery tasks."""

from statistics import median

from bench.figures import Figure
from bench.queue.backlog import add_job, settle
from bench.queue.bare import NOTHING, QUEUE, bare_app, ends_of
from bench.queue.site import (
    PROCESSES,
    SLOTS,
    Crew,
    Site,
    ended_at,
    note,
    rate_between,
    succeeded,
    wait_until,
)
from bench.queue.stages import NAMES

ROUNDS = 3
WARM_UP, ASSETS = 100, 600
TASKS = 6000
#: Tasks under way at once where each sends its successor: as many as a dispatcher keeps.
CHAINS = 40
#: What is timed: neither the start of the processes nor the last runs, when slots are idle.
FIRST, LAST = 0.25, 0.95
ASKED, AIM = 0.25, 0.5


def measure(site: Site) -> list[Figure]:
    """Ours and theirs in turns; medians of the rounds."""
    ours: list[float] = []
    apart: list[float] = []
    bare: dict[str, list[float]] = {"threads": [], "prefork": [], "each sends the next": []}
    for number in range(1, ROUNDS + 1):
        ours.append(_whole(site, run_on=True))
        apart.append(_whole(site, run_on=False))
        bare["threads"].append(_bare(site, "threads", sends_next=False))
        bare["prefork"].append(_bare(site, "prefork", sends_next=False))
        bare["each sends the next"].append(_bare(site, "threads", sends_next=True))
        rates = ", ".join(f"{name} {rates[-1]:.0f}" for name, rates in bare.items())
        note(
            f"throughput {number}/{ROUNDS}: {ours[-1]:.0f} stage runs/s, with a message for each "
            f"{apart[-1]:.0f}; bare tasks/s: {rates}"
        )
    best = max(("threads", "prefork"), key=lambda name: median(bare[name]))
    ratio = median(ours) / median(bare[best])
    each = median(apart) / median(bare[best])
    sending = median(ours) / median(bare["each sends the next"])
    return [
        Figure(
            name="stage runs per second / bare Celery tasks per second",
            asked=f"at least {ASKED} (aim {AIM})",
            seen=ratio,
            met=ratio >= ASKED,
            notes=(
                f"{median(ours):.0f} stage runs/s, three in four without a message of their own",
                f"with a message for each {median(apart):.0f}/s: {each:.2f}",
                f"{median(bare[best]):.0f} tasks/s that lay in the queue before ({best})",
                f"against tasks that each send the next one, as our runs do: {sending:.2f}",
            ),
        )
    ]


def _whole(site: Site, *, run_on: bool) -> float:
    with site.database() as (url, database):
        site.empty_queues()
        with Crew.of_workers(site, url, run_on=run_on) as crew:

            def work_off(assets: int) -> int:
                job_id = add_job(database, assets)
                settle(database)

                def is_done() -> bool:
                    crew.check()
                    return succeeded(database, job_id) == assets * len(NAMES)

                wait_until(is_done, "the end of all stage runs")
                return job_id

            # The database's plans are made for tables that have something in them.
            work_off(WARM_UP)
            job_id = work_off(ASSETS)
        return rate_between(ended_at(database, job_id), FIRST, LAST)


def _bare(site: Site, pool: str, *, sends_next: bool) -> float:
    ends = site.folder / f"ends-{pool}"
    ends.unlink(missing_ok=True)
    app = bare_app(site.broker, ends)
    site.empty_queues()
    count, successors = (CHAINS, TASKS // CHAINS - 1) if sends_next else (TASKS, 0)
    for _ in range(count):
        app.send_task(NOTHING, args=[successors], queue=QUEUE)
    app.close()
    # Threads as ours: in so many processes. Of prefork, so many processes below one.
    threads = pool == "threads"
    arguments = [
        f"--broker={site.broker}",
        f"--ends={ends}",
        f"--pool={pool}",
        f"--slots={SLOTS if threads else PROCESSES}",
    ]
    with Crew(site, "bench.queue.bare", arguments, processes=PROCESSES if threads else 1) as crew:

        def is_done() -> bool:
            crew.check()
            return len(ends_of(ends)) >= count * (successors + 1)

        wait_until(is_done, "the end of all tasks")
    return rate_between(ends_of(ends), FIRST, LAST)
