"""The private servers, the databases on them, and the processes that work on them."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil
from kombu import Connection as BrokerConnection
from sqlalchemy import text

from bench.queue.stages import NAMES
from pipeline.db import dispatching
from pipeline.db.engine import Database, open_database
from pipeline.db.migrate import ensure_schema
from pipeline.stages.base import QUEUES
from workers.app import queue_name

TESTS = Path(__file__).parents[2] / "tests"
#: Worker processes, and what each works on at once.
PROCESSES = 2
SLOTS = 2
#: A figure whose processes get nowhere for so long is given up.
PATIENCE_SECONDS = 300.0


def note(line: str) -> None:
    """Progress, for a person who waits."""
    print(line, file=sys.stderr, flush=True)


def wait_until(condition: Callable[[], bool], what: str, every_seconds: float = 0.1) -> None:
    """Raises TimeoutError naming ``what`` did not come about."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come about in {PATIENCE_SECONDS:.0f} s")
        time.sleep(every_seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """``folder``: for logs and scratch files. ``postgres_pid``: the server's first process."""

    broker: str
    server_url: str
    postgres_pid: int
    folder: Path

    @contextmanager
    def database(self) -> Iterator[tuple[str, Database]]:
        """A new database with our schema, and its URL; dropped at the end."""
        import servers

        with servers.postgres_database(self.server_url) as url:
            database = open_database(url)
            try:
                ensure_schema(database)
                yield url, database
            finally:
                database.close()

    def empty_queues(self, database: Database | None = None) -> None:
        """Drop what an earlier measurement left in the broker."""
        with BrokerConnection(self.broker) as connection, connection.channel() as channel:
            for queue in QUEUES:
                try:
                    channel.queue_purge(queue_name(queue))
                except connection.channel_errors:
                    return  # nobody has made the queues yet
        if database is not None:
            with database.transaction() as connection:
                dispatching.forget_published(connection)

    def database_cpu_seconds(self) -> float:
        """CPU time of PostgreSQL: its processes now, and those that have ended."""
        first = psutil.Process(self.postgres_pid)
        own = first.cpu_times()
        seconds = own.user + own.system + own.children_user + own.children_system
        for process in first.children():
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            seconds += times.user + times.system
        return float(seconds)


@contextmanager
def servers_running(folder: Path) -> Iterator[Site]:
    """RabbitMQ, and PostgreSQL as an installation has it.

    The tests' PostgreSQL does not wait for its disk (``-F``). Here it does: the broker's quorum
    queues do too, and without it every commit would be cheaper than it is.
    """
    import servers

    with ExitStack() as stack:
        rabbitmq = stack.enter_context(servers.rabbitmq_server())
        postgres = stack.enter_context(servers.postgres_server())
        process = postgres.process
        process.stop()
        process.command = [
            *(word for word in process.command if word != "-F"),
            *("-c", "shared_buffers=1GB", "-c", "max_wal_size=8GB"),
        ]
        process.start()
        note("servers: RabbitMQ with quorum queues, PostgreSQL with fsync")
        pid_file = process.folder / "data" / "postmaster.pid"
        yield Site(
            broker=rabbitmq.url,
            server_url=postgres.url,
            postgres_pid=int(pid_file.read_text().split()[0]),
            folder=folder,
        )


class Crew:
    """Processes that work; ended at the end of the block."""

    def __init__(
        self, site: Site, module: str, arguments: Sequence[str], *, processes: int
    ) -> None:
        self._log = site.folder / f"{module}.log"
        self._command = [sys.executable, "-m", module, *arguments]
        self._count = processes
        self._processes: list[psutil.Popen] = []

    @classmethod
    def of_workers(
        cls, site: Site, url: str, *, sleep_ms: float = 0, run_on: bool = True
    ) -> "Crew":
        """Our workers on the database ``url``. ``run_on``: as they are; else no stage run follows
        another without a message of its own."""
        return cls(
            site,
            "bench.queue.worker",
            [
                f"--broker={site.broker}",
                f"--database={url}",
                f"--folder={site.folder}",
                f"--slots={SLOTS}",
                f"--sleep-ms={sleep_ms}",
                "--run-on" if run_on else "--no-run-on",
            ],
            processes=PROCESSES,
        )

    def __enter__(self) -> Self:
        with self._log.open("ab") as log:
            self._processes = [
                psutil.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
                for _ in range(self._count)
            ]
        return self

    def __exit__(self, *exc: object) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            try:
                process.wait(30)
            except psutil.TimeoutExpired:
                process.kill()
                process.wait()

    def check(self) -> None:
        """Raises RuntimeError with the end of the log if a process has ended."""
        if any(process.poll() is not None for process in self._processes):
            tail = self._log.read_text(errors="replace")[-3000:]
            raise RuntimeError(f"a process of the bench ended by itself:\n{tail}")

    @property
    def cpu_seconds(self) -> float:
        self.check()
        times = [process.cpu_times() for process in self._processes]
        return float(sum(each.user + each.system for each in times))


def succeeded(database: Database, job_id: int) -> int:
    """How many of the job's runs through the chain have succeeded; one look into an index."""
    query = text(
        "SELECT count(*) FROM stage_run "
        "WHERE job_id = :job AND stage = ANY(:names) AND state = 'succeeded'"
    )
    with database.reading() as connection:
        return int(connection.execute(query, {"job": job_id, "names": list(NAMES)}).scalar_one())


def ended_at(database: Database, job_id: int) -> list[float]:
    """When the job's succeeded runs ended, in order, in seconds by the database's clock."""
    query = text(
        "SELECT CAST(extract(epoch FROM finished_at) AS float) FROM stage_run "
        "WHERE job_id = :job AND stage = ANY(:names) AND state = 'succeeded' ORDER BY 1"
    )
    with database.reading() as connection:
        return [
            float(value)
            for value in connection.execute(query, {"job": job_id, "names": list(NAMES)}).scalars()
        ]


def rate_between(ends: Sequence[float], first: float, last: float) -> float:
    """Ends per second between two shares of them: without the start and without the last ones."""
    low, high = int(len(ends) * first), int(len(ends) * last) - 1
    return (high - low) / (ends[high] - ends[low])
