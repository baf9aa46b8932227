"""Shows how a job gets on: bars with an ETA on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from pipeline.plan.graph import INGEST, STAGES

#: All ranges of long videos together.
SCAN = "scan"
_SHOWN = (INGEST, SCAN, *STAGES)
#: Plain lines are written no more often than this, unless the job is over.
LINE_EVERY_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatus:
    """A look at a job. ``stages``: (stage, or :data:`SCAN`, state) → stage runs of this job."""

    state: str
    items: Mapping[str, int]
    stages: Mapping[tuple[str, str], int]
    #: Stage runs finished and expected in all, as far as the plan tells by now.
    steps_done: int
    steps_expected: int

    @property
    def total(self) -> int:
        return sum(self.items.values())

    @property
    def done(self) -> int:
        return self.items.get("done", 0)

    @property
    def failed(self) -> int:
        return self.items.get("failed", 0)

    def stage_counts(self, stage: str) -> tuple[int, int, int]:
        """(succeeded, failed, all) stage runs of one stage."""
        total = sum(count for (name, _), count in self.stages.items() if name == stage)
        return (
            self.stages.get((stage, "succeeded"), 0),
            self.stages.get((stage, "failed"), 0),
            total,
        )


class JobDisplay(AbstractContextManager["JobDisplay"]):
    """Progress on standard error, so that standard output holds results only."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._live = self._console.is_terminal
        self._bars = Progress(
            TextColumn("{task.description:>9}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=False),
            console=self._console,
        )
        self._tasks: dict[str, TaskID] = {}
        self._started = time.monotonic()
        self._last_line = 0.0
        self._last_text = ""

    def __enter__(self) -> Self:
        if self._live:
            self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live:
            self._bars.stop()

    def listing(self, found: int, skipped: int) -> None:
        """The sources are being listed."""
        text = f"listed {found} files" + (f", {skipped} that are no media" if skipped else "")
        if self._live:
            self._set("job", 0, 0, text)
        else:
            self._line(text, force=False)

    def update(self, status: JobStatus) -> None:
        """A new look at the job."""
        if not self._live:
            self._line(self._plain(status), force=status.state not in ("expanding", "running"))
            return
        for stage in _SHOWN:
            succeeded, failed, total = status.stage_counts(stage)
            if total:
                self._set(stage, succeeded + failed, total, f"{failed} failed" if failed else "")
        note = f"assets {status.done + status.failed}/{status.total}"
        if status.failed:
            note += f", {status.failed} failed"
        self._set("job", status.steps_done, status.steps_expected, note)

    def _set(self, name: str, done: int, total: int, note: str) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=None, note="")
        self._bars.update(self._tasks[name], completed=done, total=total or None, note=note)

    def _plain(self, status: JobStatus) -> str:
        parts = [f"assets {status.done + status.failed}/{status.total}"]
        if status.failed:
            parts.append(f"{status.failed} failed")
        for stage in _SHOWN:
            succeeded, failed, total = status.stage_counts(stage)
            if total:
                parts.append(f"{stage} {succeeded + failed}/{total}")
        left = self._seconds_left(status)
        if left is not None:
            parts.append(f"about {left:.0f} s left")
        return " · ".join(parts)

    def _seconds_left(self, status: JobStatus) -> float | None:
        if not status.steps_done or status.steps_done >= status.steps_expected:
            return None
        elapsed = time.monotonic() - self._started
        return elapsed * (status.steps_expected - status.steps_done) / status.steps_done

    def _line(self, text: str, *, force: bool) -> None:
        now = time.monotonic()
        if text == self._last_text or (not force and now - self._last_line < LINE_EVERY_SECONDS):
            return
        self._last_line, self._last_text = now, text
        print(text, file=self._console.file or sys.stderr, flush=True)
