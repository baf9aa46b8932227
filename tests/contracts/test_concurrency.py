"""Many threads finish stages of the same assets while overlapping jobs are submitted.

The stages are tiny and pure, so that nearly all the time is spent where the races are: between
intake, claims, and the transactions that finish a run and queue the next ones.
"""

import random
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from jobs import until_ended_or_blocked
from sqlalchemy import text

from pipeline.config import Settings
from pipeline.db import job_control, jobs
from pipeline.db.migrate import ensure_schema
from pipeline.errors import InvalidMediaError
from pipeline.media.results import ChildUsage, ProbeResult
from pipeline.runner import attempt, control, execute, expand, ingest, intake
from pipeline.runner.leases import LeaseKeeper
from pipeline.runner.runtime import Runtime
from pipeline.stages.base import QUEUES, Models, StageInputs, StageOutput, StageSpec
from schemas.messages import JobMessage
from schemas.records import Caption, Cue, MediaInfo, Shot, StreamRecord, Tag
from schemas.tables import EXPAND, INGEST

WORKERS = 6
SPAN = {"shot_index": 0, "start_ms": 0, "end_ms": 1000}
INFO = MediaInfo(
    kind="video",
    container="mp4",
    duration_ms=1000,
    width_px=64,
    height_px=36,
    frame_rate=25.0,
    streams=(StreamRecord(stream_index=0, kind="audio", codec="aac"),),
)
NO_COST = ChildUsage(cpu_seconds=0, decoder_cpu_seconds=0, startup_cpu_seconds=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """The parameters of every tiny stage."""

    words: str = "plain"


@dataclass(frozen=True, slots=True)
class Bench:
    """A database, its tiny stages, and how often each of them has run."""

    runtime: Runtime
    keeper: LeaseKeeper
    calls: Counter[str]

    def submit(
        self, *sources: Path, on_batch: Callable[[], None] = lambda: None, **message: Any
    ) -> int:
        return intake.submit(
            self.runtime,
            JobMessage(sources=tuple(map(str, sources)), **message),
            on_progress=lambda found, skipped: on_batch(),
        )

    def execute(self, stage_run_id: int, run_on: Collection[str] = ()) -> bool:
        return execute.execute(self.runtime, stage_run_id, self.keeper, run_on=run_on)

    def sql(self, query: str) -> list[Any]:
        """Rows as tuples; as values where there is one column."""
        with self.runtime.database.reading() as connection:
            rows = [tuple(row) for row in connection.execute(text(query))]
        return [row[0] if len(row) == 1 else row for row in rows]

    def queued(self) -> list[int]:
        return self.sql("SELECT id FROM stage_run WHERE state = 'queued' ORDER BY id")

    def drain(self) -> None:
        while ids := self.queued():
            for run_id in ids:
                self.execute(run_id)


def tiny_stages(calls: Counter[str]) -> dict[str, StageSpec]:
    """split → ocr and speech, side by side → fuse → caption."""
    lock = threading.Lock()

    def stage(
        name: str, inputs: Any, outputs: Any, make: Callable[[StageInputs, Words], dict[Any, Any]]
    ) -> StageSpec:
        def run(stage_inputs: StageInputs, params: Words, models: Models) -> StageOutput:
            with lock:
                calls[name] += 1
            return StageOutput(records=make(stage_inputs, params))

        return StageSpec(
            name=name,
            queue="cpu",
            code_version=1,
            kinds=frozenset({"video"}),
            inputs=inputs,
            outputs=outputs,
            roles=(),
            params=Words,
            run=run,
        )

    def cues(origin: Any) -> Callable[[StageInputs, Words], dict[str, Any]]:
        return lambda inputs, params: {
            "cues": [Cue(origin=origin, start_ms=0, end_ms=1000, text=f"{origin} {params.words}")]
        }

    def tags(inputs: StageInputs, params: Words) -> dict[str, Any]:
        return {
            "tags": [
                Tag(**SPAN, label=cue.text, score=0.5, text_score=0.5) for cue in inputs.cues()
            ]
        }

    def captions(inputs: StageInputs, params: Words) -> dict[str, Any]:
        found = ", ".join(sorted(tag.label for tag in inputs.tags()))
        return {"captions": [Caption(**SPAN, text=f"{params.words}: {found}", language="en")]}

    specs = (
        stage("split", ("media", "sidecars"), ("shots",), lambda *_: {"shots": [Shot(**SPAN)]}),
        stage("ocr", ("shots",), ("cues",), cues("ocr")),
        stage("speech", ("shots",), ("cues",), cues("speech")),
        stage("fuse", ("cues",), ("tags",), tags),
        stage("caption", ("tags",), ("captions",), captions),
    )
    return {spec.name: spec for spec in specs}


@pytest.fixture(params=["sqlite", "postgresql"])
def bench(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bench]:
    calls: Counter[str] = Counter()
    stages = tiny_stages(calls)
    for module in ("plan.graph", "plan.profiles"):
        monkeypatch.setattr(f"pipeline.{module}.STAGES", stages)
    monkeypatch.setattr(
        ingest, "probe_media", lambda path, work_dir, limits: ProbeResult(info=INFO, usage=NO_COST)
    )
    url = None
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_database")
    runtime = Runtime(Settings(data_dir=tmp_path / "data", database=url, retry_seconds=0))
    ensure_schema(runtime.database)
    keeper = LeaseKeeper(runtime.database, 60)
    yield Bench(runtime, keeper, calls)
    keeper.close()
    runtime.close()


def make_folder(folder: Path, contents: list[str]) -> Path:
    folder.mkdir()
    for number, content in enumerate(contents):
        (folder / f"{number:03}.mp4").write_text(content)
    return folder


class Crew:
    """Threads that work until nothing is left; waits are for events, never for time."""

    def __init__(self, bench: Bench, run_on: Collection[str]) -> None:
        self._run_on = run_on
        self.errors: list[BaseException] = []
        self._bench = bench
        self._changed = threading.Condition()
        self._changes = 0
        self._active = 0

    def run(self, *submissions: Callable[[Callable[[], None]], object]) -> None:
        """Call every submission, which tells of each batch, while workers take what is queued."""
        together = threading.Barrier(len(submissions))

        def submit(submission: Callable[[Callable[[], None]], object]) -> None:
            try:
                together.wait()
                submission(self._notify)
            finally:
                self._notify(ended=1)

        work = [partial(submit, each) for each in submissions]
        work += [partial(self._work, random.Random(seed)) for seed in range(WORKERS)]
        threads = [threading.Thread(target=self._guarded, args=(each,)) for each in work]
        self._active = len(submissions)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _guarded(self, work: Callable[[], object]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001  asserted by the test
            self.errors.append(error)

    def _notify(self, *, ended: int = 0) -> None:
        with self._changed:
            self._changes += 1
            self._active -= ended
            self._changed.notify_all()

    def _work(self, chance: random.Random) -> None:
        while True:
            with self._changed:
                seen = self._changes
            ids = self._bench.queued()
            if ids:
                with self._changed:
                    self._active += 1
                try:
                    # Several workers often choose the same: only one may have it.
                    self._bench.execute(chance.choice(ids[:WORKERS]), self._run_on)
                finally:
                    self._notify(ended=1)
                continue
            with self._changed:
                if self._active == 0 and seen == self._changes:
                    return
                self._changed.wait_for(lambda seen=seen: self._changes != seen)


@pytest.mark.parametrize("run_on", [(), QUEUES])
def test_overlapping_jobs_do_everything_exactly_once(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_on: Collection[str]
) -> None:
    # Small batches: many transactions of the intake between those of the workers.
    monkeypatch.setattr(expand, "BATCH", 3)
    shared = [f"shared {n}" for n in range(5)]
    one = make_folder(tmp_path / "one", [*shared, *(f"one {n}" for n in range(5))])
    two = make_folder(tmp_path / "two", [*reversed(shared), *(f"two {n}" for n in range(5))])
    crew = Crew(bench, run_on)
    crew.run(
        lambda tell: bench.submit(one, two, on_batch=tell),
        lambda tell: bench.submit(two, one, on_batch=tell),
    )
    assert crew.errors == []
    assert (
        bench.sql("SELECT state, assets_total, assets_done, assets_failed FROM v_jobs")
        == [("done", 20, 20, 0)] * 2
    )
    assert bench.sql("SELECT DISTINCT state FROM job_item") == ["done"]
    assert bench.calls == dict.fromkeys(("split", "ocr", "speech", "fuse", "caption"), 15)
    runs = bench.sql("SELECT stage, COUNT(*) FROM stage_run GROUP BY stage")
    assert dict(runs) == {**bench.calls, EXPAND: 2, INGEST: 20}
    assert bench.sql("SELECT DISTINCT state, attempt FROM stage_run") == [("succeeded", 1)]
    assert bench.sql("SELECT COUNT(*) FROM v_stage_runs WHERE is_head = 1") == [5 * 15]
    assert bench.sql("SELECT DISTINCT text FROM v_captions") == ["plain: ocr plain, speech plain"]


def test_new_places_submitted_twice_at_once_in_opposite_order(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [make_folder(tmp_path / name, ["same"] * 200) for name in ("one", "two")]
    together = threading.Barrier(2)
    see_locations = jobs.see_locations

    def see(*arguments: Any) -> Any:
        if not bench.runtime.database.is_sqlite:  # there one waits for the other anyway
            together.wait()
        return see_locations(*arguments)

    monkeypatch.setattr(jobs, "see_locations", see)
    errors: list[Exception] = []

    def submit(sources: list[Path]) -> None:
        try:
            bench.submit(*sources)
        except Exception as error:  # noqa: BLE001  asserted below
            errors.append(error)

    threads = [threading.Thread(target=submit, args=(each,)) for each in (folders, folders[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert bench.sql("SELECT state, assets_total FROM v_jobs") == [("running", 400)] * 2


@pytest.mark.parametrize("moment", ["see_locations", "add_items"])
@pytest.mark.parametrize(
    ("problem", "state"), [(None, "done"), (InvalidMediaError("bad"), "failed")]
)
def test_a_job_that_meets_an_ingest_at_its_end_is_closed(
    bench: Bench,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
    problem: Exception | None,
    state: str,
) -> None:
    folder = make_folder(tmp_path / "one", ["bytes"])
    bench.submit(folder)
    (run_id,) = bench.queued()
    started, may_end = threading.Event(), threading.Event()
    real_ingest, real_moment = attempt.ingest, getattr(jobs, moment)

    def held_ingest(*arguments: Any) -> Any:
        started.set()
        may_end.wait()
        if problem is not None:
            raise problem
        return real_ingest(*arguments)

    monkeypatch.setattr(attempt, "ingest", held_ingest)
    worker = threading.Thread(target=bench.execute, args=(run_id,))
    worker.start()
    started.wait()

    def at_the_moment(*arguments: Any) -> Any:
        found = real_moment(*arguments)
        may_end.set()
        until_ended_or_blocked(worker, bench.runtime.database)
        return found

    monkeypatch.setattr(jobs, moment, at_the_moment)
    bench.submit(folder)
    worker.join()
    bench.drain()
    assert bench.sql("SELECT job_id, state FROM v_jobs ORDER BY job_id") == [(1, state), (2, state)]


def test_a_retry_beside_the_last_item_leaves_its_job_open(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.submit(make_folder(tmp_path / "one", ["bad", "good"]))
    with monkeypatch.context() as patch:
        patch.setattr(attempt, "ingest", Mock(side_effect=InvalidMediaError("bad")))
        bench.execute(bench.queued()[0])
    last = "SELECT stage FROM stage_run WHERE state = 'queued'"
    while bench.sql(last) != ["caption"]:
        bench.execute(bench.queued()[0])
    worker = threading.Thread(target=bench.execute, args=bench.queued())
    real_retry = job_control.retry_run

    def retry_run(*arguments: Any, **options: Any) -> bool:
        is_retried = real_retry(*arguments, **options)
        worker.start()
        until_ended_or_blocked(worker, bench.runtime.database)
        return is_retried

    monkeypatch.setattr(job_control, "retry_run", retry_run)
    assert control.retry(bench.runtime.database, error_class="InvalidMediaError") == 1
    worker.join()
    assert bench.sql("SELECT state FROM v_jobs") == ["running"]
    bench.drain()
    assert bench.sql("SELECT state, assets_done FROM v_jobs") == [("done", 2)]


@pytest.mark.parametrize("newest_first", [True, False])
def test_the_newest_jobs_results_are_shown_whichever_ends_last(
    bench: Bench, tmp_path: Path, newest_first: bool
) -> None:
    folder = make_folder(tmp_path / "one", ["bytes"])
    bench.submit(folder)
    bench.drain()
    for words in ("old", "new"):
        bench.submit(folder, parameters={"caption": {"words": words}})
    for run_id in sorted(bench.queued(), reverse=newest_first):
        bench.execute(run_id)
    assert bench.sql("SELECT state FROM v_jobs") == ["done"] * 3
    assert bench.sql("SELECT text FROM v_captions") == ["new: ocr plain, speech plain"]
