"""Faults inside our own processes, by script: what dies where, how often.

``FAULTS`` in the environment names the script, a JSON file that :class:`faults.world.World` wrote;
``sitecustomize`` in ``inject/`` installs it in every process that is started with that folder on
its ``PYTHONPATH``. The stages become light ones (:mod:`faults.light`). The points where something
can happen, in their order:

* ``start``: the run is claimed, nothing is done;
* ``middle``: its work is half done: files in scratch, a first batch of a listing committed;
* ``stored``: its artifacts are stored, its rows written, and nothing is committed;
* ``committed``: all is committed, the message is not acknowledged.

Besides the stages there are ``dispatch`` (``middle``: rows are marked as published, messages not
sent; ``committed``: one is sent), ``intake`` and ``schedule`` (before and after a job is accepted;
``stored`` of both is called ``accept``).
"""

import json
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

SCRIPT_VARIABLE = "FAULTS"

Point = Literal["start", "middle", "stored", "committed"]
Action = Literal["kill", "segfault", "freeze", "hang", "wait", "hog"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """``stage`` and ``asset`` (a part of its URI) say which runs are meant, ``None``: any.

    ``kill`` and ``segfault`` end the process, ``freeze`` stops it and its supervisor, ``hang``
    never goes on, ``wait`` goes on when the file ``go`` is in the script's folder, ``hog`` takes
    300 MB and stays. ``times``: over all processes; ``None``: whenever the point is reached.
    """

    action: Action
    point: Point
    stage: str | None = None
    asset: str | None = None
    times: int | None = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What one process, or several, do wrong. ``folder`` keeps the record of what has happened."""

    folder: str
    faults: tuple[Fault, ...] = ()
    versions: dict[str, int] = field(default_factory=dict)
    clock_seconds: float = 0

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def load(cls, path: Path) -> "Script":
        given = json.loads(path.read_text())
        return cls(**{**given, "faults": tuple(Fault(**each) for each in given["faults"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class Fired:
    """One fault that has happened. ``held``: ids of the runs that its process had claimed;
    ``stage_run_id`` is 0 where the process was not working on a run."""

    fault: int
    action: str
    stage: str
    point: str
    stage_run_id: int
    pid: int
    held: tuple[int, ...]


def fired(folder: Path) -> list[Fired]:
    """What has happened so far, in order of the faults."""
    return [
        Fired(**{**json.loads(text), "held": tuple(json.loads(text)["held"])})
        for path in sorted(folder.glob("fired-*.json"))
        # One that is being written at this moment is not there yet.
        if (text := path.read_text())
    ]


class _Run(threading.local):
    """The run that this thread works on."""

    claimed: Any = None
    uris: str = ""
    batches: int = 0


class Injection:
    """Hooks into the runner of this process."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._folder = Path(script.folder)
        self._run = _Run()
        self._held: set[int] = set()

    def install(self) -> None:
        from faults import haste, light

        from pipeline.db import dispatching, runs
        from pipeline.media import api
        from pipeline.runner import attempt, execute, expand, intake, scheduling
        from workers import task_publishers
        from workers.intake import handler

        haste.install()
        light.install(self.reach, self._script.versions)
        self._wrap_claim(runs)
        self._wrap_work(execute)
        _hook(attempt, "write_rows", after=lambda: self.reach(self._run.claimed.stage, "stored"))
        _hook(attempt, "ingest", before=lambda: self.reach("ingest", "start"))
        # The child's own temporary folder is there, the child is not.
        _hook(api, "run_child", before=lambda: self.reach("ingest", "middle"))
        _hook(attempt, "store_ingested", after=lambda: self.reach("ingest", "stored"))
        for module in (attempt, intake):
            _hook(module, "list_sources", before=lambda: self.reach("expand", "start"))
        _hook(
            expand,
            "_add_batch",
            before=self._begin_batch,
            after=lambda: self.reach("expand", "stored"),
        )
        _hook(dispatching, "take_due", after=lambda: self.reach("dispatch", "stored"))
        for publisher in (task_publishers.AmqpTasks, task_publishers.OtherTasks):
            _hook(
                publisher,
                "publish",
                before=lambda: self.reach("dispatch", "middle"),
                after=lambda: self.reach("dispatch", "committed"),
            )
        for module, name in ((handler, "intake"), (scheduling, "schedule")):
            _hook(
                module,
                "accept",
                before=partial(self.reach, name, "start"),
                after=partial(self.reach, name, "committed"),
            )
        _hook(intake, "_write", after=lambda: self.reach("accept", "stored"))

    def _begin_batch(self) -> None:
        self._run.batches += 1
        if self._run.batches == 2:
            self.reach("expand", "middle")

    def _wrap_work(self, execute: Any) -> None:
        work = execute._hold_and_work

        def work_and_tell(runtime: Any, run: Any, *others: Any) -> Any:
            # Of the same asset as the one before, if it was not claimed but gone on with.
            self._run.claimed, self._run.batches = run, 0
            self._held.add(run.stage_run_id)
            following = None
            try:
                following = work(runtime, run, *others)
            finally:
                self._held.discard(run.stage_run_id)
                if following is not None:
                    self._held.add(following.stage_run_id)
                if sys.exc_info()[0] is None:
                    self.reach(run.stage, "committed")
            return following

        execute._hold_and_work = work_and_tell

    def _wrap_claim(self, runs: Any) -> None:
        from sqlalchemy import or_, select

        from schemas.tables import location

        claim = runs.claim

        def claim_and_tell(connection: Any, *arguments: Any, **named: Any) -> Any:
            run = claim(connection, *arguments, **named)
            if run is not None:
                # Comparing with 0 finds nothing; with NULL it would find all without an asset.
                query = select(location.c.uri).where(
                    or_(
                        location.c.id == (run.location_id or 0),
                        location.c.asset_id == (run.asset_id or 0),
                    )
                )
                self._run.claimed, self._run.batches = run, 0
                self._run.uris = " ".join(connection.execute(query).scalars())
                self._held.add(run.stage_run_id)
            return run

        runs.claim = claim_and_tell

    def reach(self, stage: str, point: str) -> None:
        """The run of this thread has come to a point."""
        for number, fault in enumerate(self._script.faults):
            if (
                fault.point == point
                and fault.stage in (None, stage)
                and (fault.asset is None or fault.asset in self._run.uris)
                and self._record(number, fault, stage, point)
            ):
                self._act(fault.action)

    def _record(self, number: int, fault: Fault, stage: str, point: str) -> bool:
        count = 0
        while fault.times is None or count < fault.times:
            path = self._folder / f"fired-{number}-{count:04}.json"
            try:
                with path.open("x") as file:
                    entry = Fired(
                        fault=number,
                        action=fault.action,
                        stage=stage,
                        point=point,
                        stage_run_id=getattr(self._run.claimed, "stage_run_id", 0),
                        pid=os.getpid(),
                        held=tuple(sorted(self._held)),
                    )
                    json.dump(asdict(entry), file)
                    file.flush()
                    return True
            except FileExistsError:
                count += 1
        return False

    def _act(self, action: Action) -> None:
        if action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif action == "segfault":
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            os.kill(os.getpid(), signal.SIGSEGV)
        elif action == "freeze":
            os.kill(os.getppid(), signal.SIGSTOP)
            os.kill(os.getpid(), signal.SIGSTOP)
        elif action == "hang":
            threading.Event().wait()
        elif action == "wait":
            while not (self._folder / "go").exists():
                time.sleep(0.02)
        elif action == "hog":
            taken = bytearray(os.urandom(1 << 20)) * 300
            threading.Event().wait()
            del taken


def _hook(
    module: Any,
    name: str,
    *,
    before: Callable[[], None] = lambda: None,
    after: Callable[[], None] = lambda: None,
) -> None:
    """Have something done around a function, for whoever looks it up in ``module``."""
    function = getattr(module, name)

    def hooked(*arguments: Any, **named: Any) -> Any:
        before()
        result = function(*arguments, **named)
        after()
        return result

    setattr(module, name, hooked)


def shift_clock(seconds: float) -> None:
    """Python's wall clock of this process goes ahead by so much; the monotonic one does not."""
    import datetime as dt

    now, now_ns = time.time, time.time_ns
    time.time = lambda: now() + seconds
    time.time_ns = lambda: now_ns() + int(seconds * 1e9)
    delta = dt.timedelta(seconds=seconds)

    class ShiftedDatetime(dt.datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return super().now(tz) + delta

        @classmethod
        def utcnow(cls) -> Any:
            return super().now(dt.UTC).replace(tzinfo=None) + delta

    dt.datetime = ShiftedDatetime  # type: ignore[misc]


def install_from_environment() -> None:
    """Called by ``sitecustomize``, before anything else of the process."""
    path = os.environ.get(SCRIPT_VARIABLE)
    if path is None:
        return
    script = Script.load(Path(path))
    if script.clock_seconds:
        shift_clock(script.clock_seconds)
    Injection(script).install()
