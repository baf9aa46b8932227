"""A small cluster of real processes that is to be hurt."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import pytest
from faults.brokers import messages_left
from faults.checks import artifacts_referred_to, attempts_of, check_rows, check_scratch
from faults.content import Content, read_content
from faults.injection import SCRIPT_VARIABLE, Fault, Fired, Script, fired
from faults.processes import PATIENCE_SECONDS, Process, until, with_environment
from sqlalchemy import select, text
from tenacity import RetryError

from pipeline.config import Settings
from pipeline.db.engine import Database, open_database
from pipeline.db.invariants import check_invariants
from pipeline.db.migrate import ensure_schema
from pipeline.db.rule import Limits
from pipeline.errors import PipelineError
from pipeline.runner.intake import accept
from pipeline.runner.leftovers import clean
from pipeline.runner.runtime import Runtime
from schemas import tables
from schemas.messages import JobMessage
from schemas.operations import outbox

ROOT = Path(__file__).parents[2]
OPEN_RUN_STATES = ("waiting", "queued", "running")


@dataclass(kw_only=True)
class World:
    """``settings`` as in ``mediaweave.toml``; every process gets them in its environment.

    ``database_url`` and ``broker_url`` are the test's own way to the servers, past every proxy.
    """

    folder: Path
    settings: dict[str, Any]
    database_url: str
    broker_url: str | None
    processes: list[Process] = field(default_factory=list)
    _stack: ExitStack = field(default_factory=ExitStack)

    @classmethod
    def create(
        cls,
        folder: Path,
        *,
        database: str,
        broker: str | None,
        database_proxy: str | None = None,
        broker_proxy: str | None = None,
        **settings: Any,
    ) -> Self:
        """A world without processes; its tables are made. Processes use the proxies' URLs."""
        for name in ("tmp", "faults", "logs"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        world = cls(
            folder=folder,
            database_url=database,
            broker_url=broker,
            settings={
                "data_dir": str(folder / "data"),
                "database": database_proxy or database,
                **({"broker": broker_proxy or broker} if broker else {}),
                "artifacts": str(folder / "artifacts"),
                "scratch_dir": str(folder / "scratch"),
                "concurrency": 2,
                "lease_seconds": 2,
                "retry_seconds": 0.2,
                "republish_seconds": 4,
                "shutdown_seconds": 5,
                **settings,
            },
        )
        ensure_schema(world.database)
        return world

    @cached_property
    def database(self) -> Database:
        opened = open_database(self.database_url)
        self._stack.callback(opened.close)
        return opened

    @cached_property
    def runtime(self) -> Runtime:
        """To submit and cancel from inside the test."""
        made = Runtime(Settings(**{**self.settings, "database": self.database_url}))
        self._stack.callback(made.close)
        return made

    def environment(self, script: Script, settings: Mapping[str, Any]) -> dict[str, str]:
        """Of a process: its settings, credentials, and the faults that it is to have."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("MEDIAWEAVE_")}
        number = len(list(self.folder.glob("script-*.json")))
        path = self.folder / f"script-{number}.json"
        script.save(path)
        return {
            **kept,
            "PYTHONPATH": os.pathsep.join(
                str(ROOT / part) for part in ("tests/faults/inject", "tests", "")
            ),
            "PYTHONWARNINGS": "ignore",
            "TMPDIR": str(self.folder / "tmp"),
            SCRIPT_VARIABLE: str(path),
            **_flat("MEDIAWEAVE", {**self.settings, **settings}),
        }

    def start(
        self,
        *command: str,
        faults: Sequence[Fault] = (),
        versions: Mapping[str, int] | None = None,
        clock_seconds: float = 0,
        **settings: Any,
    ) -> Process:
        """Start ``mediaweave COMMAND``; ``settings`` are for this process alone."""
        script = Script(
            folder=str(self.folder / "faults"),
            faults=tuple(faults),
            versions=dict(versions or {}),
            clock_seconds=clock_seconds,
        )
        log = self.folder / "logs" / f"{len(self.processes):02}-{command[0]}.log"
        with log.open("wb") as output:
            popen = subprocess.Popen(
                [sys.executable, "-m", "workers.cli", *command],
                env=self.environment(script, settings),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        process = Process(popen=popen, log=log)
        self.processes.append(process)
        return process

    def workers(self, count: int = 1, **options: Any) -> list[Process]:
        return [self.start("worker", **options) for _ in range(count)]

    def submit(self, *sources: Any, **message: Any) -> int:
        """Write a job as the intake does; gives its id."""
        wanted = JobMessage(sources=tuple(map(str, sources)), **message)
        return accept(self.runtime, wanted, origin="client").job_id

    def fired(self) -> list[Fired]:
        """The faults that have happened by now."""
        return fired(self.folder / "faults")

    def go(self) -> None:
        """Let those that wait go on."""
        (self.folder / "faults" / "go").touch()

    def sql(self, query: str, **values: Any) -> list[dict[str, Any]]:
        with self.database.reading() as connection:
            return [dict(row) for row in connection.execute(text(query), values).mappings()]

    def open_work(self) -> dict[str, Any]:
        """What is not over; empty when all is."""
        run, job = tables.stage_run, tables.job
        with self.database.reading() as connection:
            runs = [
                dict(row)
                for row in connection.execute(
                    select(
                        run.c.id, run.c.stage, run.c.state, run.c.attempt, run.c.job_id,
                        run.c.published_at, run.c.republished, run.c.not_before,
                        run.c.lease_expires_at, run.c.error_class, run.c.error_text,
                    ).where(run.c.state.in_(OPEN_RUN_STATES)).order_by(run.c.id)
                ).mappings()
            ]  # fmt: skip
            jobs = [
                dict(row)
                for row in connection.execute(
                    select(job.c.id, job.c.state, job.c.paused_at).where(
                        job.c.state.in_(("expanding", "running"))
                    )
                ).mappings()
            ]
            unsent = connection.execute(
                select(outbox.c.id).where(outbox.c.sent_at.is_(None), outbox.c.failed_at.is_(None))
            ).all()
        found = {"runs": runs, "jobs": jobs, "events": [row.id for row in unsent]}
        return {name: what for name, what in found.items() if what}

    def messages(self) -> dict[str, int]:
        """Messages that wait in the broker."""
        return messages_left(self.broker_url) if self.broker_url else {}

    def settle(self, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until all jobs are closed, all events sent and all messages taken."""
        seen: list[Any] = [None]
        looks = 0

        def is_settled() -> bool:
            nonlocal looks
            try:
                seen[0] = self.open_work() or self.messages()
            except (PipelineError, OSError) as error:
                seen[0] = error
            # A message in a worker's hands is in no queue for a moment.
            looks = 0 if seen[0] else looks + 1
            return looks == 3

        try:
            until(is_settled, seconds=seconds, every=0.2)
        except RetryError:
            pytest.fail(f"after {seconds} s there is still: {seen[0]}\n{self.logs()}")

    def logs(self, at_most: int = 6000) -> str:
        return "\n".join(
            f"--- {process.log.name} ({process.popen.poll()})\n"
            + process.log.read_text(errors="replace")[-at_most:]
            for process in self.processes
        )

    def stop(self) -> None:
        """Stop what still runs; it must end well."""
        alive = [process for process in self.processes if process.alive]
        for process in alive:
            process.signal(signal.SIGCONT)
            process.popen.terminate()
        codes = [process.popen.wait(60) for process in alive]
        assert not any(codes), f"exit codes {codes}\n{self.logs()}"

    def close(self) -> None:
        for process in self.processes:
            process.kill()
        self._stack.close()

    def check(
        self,
        expected: Content,
        *,
        exact: bool = False,
        failed: Mapping[str, str] | None = None,
        cancelled: bool = False,
        outdated: bool = False,
        deadly: Sequence[str] = ("kill",),
    ) -> None:
        """Settle, stop, and look at everything that is promised.

        ``exact``: every attempt is known: those that died by our ``deadly`` faults, and one more.
        ``failed``: files that fail besides those that always do, with the class of the error.
        ``cancelled``: whether a job was. ``outdated``: whether older versions left results.
        """
        self.settle()
        self.stop()
        limits = Limits.of(self.runtime.settings)
        try:
            with self.database.reading() as connection:
                assert check_invariants(connection, settled=True, limits=limits) == []
                check_rows(
                    connection,
                    expected,
                    attempts=attempts_of(self.fired(), deadly=deadly) if exact else None,
                    failed=failed or {},
                    cancelled=cancelled,
                    outdated=outdated,
                )
            leftovers = list(clean(self.runtime, older_than_seconds=0, force=True))
            assert not leftovers or self.has_lost_processes(), leftovers
            root = Path(self.settings["artifacts"])
            if root.is_dir():
                self.check_artifacts({path.name for path in root.rglob("*") if path.is_file()})
            check_scratch(Path(self.settings["scratch_dir"]), self.folder / "tmp")
            assert self.messages() == {}
            assert with_environment(str(self.folder)) == []
            assert "_bug" not in self.logs(at_most=1 << 30)
        except AssertionError as error:
            error.add_note(self.logs())
            raise

    def has_lost_processes(self) -> bool:
        """Whether one ended without being able to tidy up: it may leave half a file."""
        return any((process.popen.returncode or 0) < 0 for process in self.processes) or any(
            process.says(words)
            for process in self.processes
            for words in ("worker_killed", "worker_replaced")
        )

    def check_artifacts(self, stored: set[str]) -> None:
        """``stored``: the names of all that is in the store."""
        with self.database.reading() as connection:
            assert stored == artifacts_referred_to(connection)

    def content(self) -> Content:
        with self.database.reading() as connection:
            return read_content(connection)


@contextmanager
def world(folder: Path, **options: Any) -> Iterator[World]:
    """A world that is gone at the end, whatever happened."""
    made = World.create(folder, **options)
    try:
        yield made
    finally:
        made.close()


def undisturbed(folder: Path, media: Path, **settings: Any) -> Content:
    """What a run that nothing disturbs makes of the media, embedded on SQLite."""
    made = World.create(
        folder, database=f"sqlite:///{folder}/data/mediaweave.db", broker=None, **settings
    )
    try:
        process = made.start("run", str(media), "--json")
        process.popen.wait(PATIENCE_SECONDS)
        said = process.log.read_text()
        assert json.loads(said[said.index("{") :])["state"] in ("done", "failed"), said
        return made.content()
    finally:
        made.close()


def _flat(prefix: str, settings: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in settings.items():
        key = f"{prefix}_{name}".upper() if prefix == "MEDIAWEAVE" else f"{prefix}__{name}".upper()
        if isinstance(value, dict) and name in ("s3", "media", "intake", "events"):
            found |= _flat(key, value)
        elif isinstance(value, dict | list | tuple):
            found[key] = json.dumps(value)
        else:
            found[key] = str(value)
    return found
