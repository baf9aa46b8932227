"""Stories of jobs: in whatever order things happen to them, nothing is lost and nothing done twice.

Each story is a few dozen random steps by clients, workers, dispatchers and the files themselves,
with tiny stages and the real database; hypothesis shortens one that goes wrong. The same stories
are told each time; ``STORIES=2000`` in the environment tells that many new ones.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)
from hypothesis.strategies import booleans, integers, none, sampled_from
from story_steps import FILES, MAX_ATTEMPTS, PLACE, TROUBLE, Stage, StorySteps
from tiny_stages import tiny_stages

from pipeline.config import Settings
from pipeline.db import job_control, runs
from pipeline.db.engine import Database
from pipeline.db.invariants import Limits, check_invariants
from pipeline.plan.graph import stages_for
from pipeline.runner import control, expand, intake
from pipeline.runner.leases import LeaseKeeper
from pipeline.runner.runtime import Runtime
from schemas.messages import JobMessage
from schemas.tables import EXPAND, INGEST

STEPS = 40
#: PostgreSQL differs in what it locks and stores, which few stories show as well as many.
STORIES = {"sqlite": 40, "postgresql": 4}

SOURCES = ((".",), ("one",), ("two",), ("one/a.mp4",), ("one", "."))
#: Which of those there are: any number, taken modulo how many there are.
PICK = integers(0, 11)


class WorkerDiedError(Exception):
    """The process ends here."""


class Story(StorySteps, RuleBasedStateMachine):
    """What clients, workers, dispatchers and files do, one transaction after the other.

    A run that was claimed stays in ``claims`` when its worker is taken for dead: it may end late.
    """

    jobs: Bundle[int] = Bundle("jobs")
    claims: Bundle[runs.ClaimedRun] = Bundle("claims")

    def __init__(self, stage: Stage) -> None:
        RuleBasedStateMachine.__init__(self)
        StorySteps.__init__(self, stage)

    # Clients

    @initialize(target=jobs, sources=sampled_from(SOURCES), here=booleans())
    def begin(self, sources: tuple[str, ...], here: bool) -> Any:
        return self.submit(sources, "plain", priority=0, only_new=False, key=None, here=here)

    @rule(
        target=jobs,
        sources=sampled_from(SOURCES),
        words=sampled_from(("plain", "longer")),
        priority=sampled_from((0, 5)),
        only_new=booleans(),
        key=none() | sampled_from(("k", "l")),
        here=booleans(),
    )
    def submit(
        self,
        sources: tuple[str, ...],
        words: str,
        priority: int,
        only_new: bool,
        key: str | None,
        here: bool,
    ) -> Any:
        message = JobMessage(
            sources=tuple(str(self.stage.folder / source) for source in sources),
            parameters={"split": {"words": words}},
            priority=priority,
            only_new=only_new,
            job_key=key,
        )
        known = self.job_of_key.get(key) if key is not None else None
        before = self.stage.everything() if known is not None else {}
        if here:
            listed = self._listed()
            job = intake.submit(self.runtime, message)
            for run in self._listed() - listed:
                self.successes[run] += 1
        else:
            accepted = intake.accept(self.runtime, message, origin="queue")
            job = accepted.job_id
            assert accepted.is_new == (known is None)
            assert known is None or self.stage.everything() == before
        if known is not None:
            assert job == known
            return multiple()
        if key is not None:
            self.job_of_key[key] = job
        return job

    @rule(job=jobs)
    def pause(self, job: int) -> None:
        control.pause(self.database, job)

    @rule(job=jobs)
    def resume(self, job: int) -> None:
        control.resume(self.database, job)

    @rule(job=jobs, half_way=booleans())
    def cancel(self, job: int, half_way: bool) -> None:
        if half_way:
            with self.database.transaction() as connection:
                begun = job_control.begin_cancelling(connection, job)
        else:
            begun = control.cancel(self.database, job)
        if begun:
            self._drop(lambda run: run.stage == EXPAND and run.inputs["job"] == job)

    @rule(
        job=none() | jobs,
        error_class=sampled_from((None, "InvalidMediaError")),
        stage=sampled_from((None, "split", INGEST)),
    )
    def retry(self, job: int | None, error_class: str | None, stage: str | None) -> None:
        control.retry(self.database, job_id=job, error_class=error_class, stage=stage)

    @rule(
        name=sampled_from(sorted(FILES)),
        content=sampled_from(("video 1", "video 2", "image 1", "", None)),
        is_new=booleans(),
    )
    def change_file(self, name: str, content: str | None, is_new: bool) -> None:
        """``is_new``: by its time; else what it was once may be back, as with a restored backup."""
        self.touched += is_new
        self.stage.write(name, content, at=self.touched if is_new else 0)

    # Workers

    @precondition(lambda self: self.due)
    @rule(target=claims, pick=PICK, alone=booleans())
    def claim(self, pick: int, alone: bool) -> Any:
        due = self._due()
        run = self._claim(due[pick % len(due)], alone=alone) if due else None
        return run if run is not None else multiple()

    @precondition(lambda self: self.due)
    @rule(target=claims, count=integers(1, 6), pick=PICK, run_on=booleans())
    def work(self, count: int, pick: int, run_on: bool) -> Any:
        """Some runs one after the other, as one undisturbed worker does; the one that it would go
        on with then is still in its hands."""
        run = None
        for _ in range(count):
            due = self._due()
            if run is None and due:
                run = self._claim(due[pick % len(due)])
            if run is None:
                break
            run = self._end(run, run_on=run_on)
            self.no_rule_is_broken()
        return run if run is not None else multiple()

    @rule(target=claims, run=consumes(claims), run_on=booleans())
    def succeed(self, run: runs.ClaimedRun, run_on: bool) -> Any:
        following = self._end(run, run_on=run_on)
        return following if following is not None else multiple()

    @rule(run=consumes(claims), trouble=sampled_from(sorted(TROUBLE)))
    def fail(self, run: runs.ClaimedRun, trouble: str) -> None:
        self._end(run, trouble)

    @rule(run=claims)
    def lose(self, run: runs.ClaimedRun) -> None:
        """The worker stops renewing its lease: dead or only stalled, nobody knows."""
        self._lose(run)

    @precondition(lambda self: self.due)
    @rule(
        target=claims,
        pick=PICK,
        batches=integers(1, 2),
        event=sampled_from(("worker dies", "lease is lost", "another lists it", "cancelled")),
    )
    def list_and_stop(self, pick: int, batches: int, event: str) -> Any:
        """A listing to which something happens between two of its batches."""
        query = "SELECT id FROM stage_run WHERE stage = 'expand' AND state = 'queued' ORDER BY id"
        listings = [row.id for row in self.stage.rows(query)]
        run = self._claim(listings[pick % len(listings)]) if listings else None
        if run is None:
            return multiple()
        left, after = batches, dict[str, list[Any]]()

        def happen(found: int, skipped: int) -> None:
            nonlocal left, after
            left -= 1
            if left:
                return
            if event == "worker dies":
                raise WorkerDiedError
            if event == "cancelled":
                self.cancel(run.inputs["job"], half_way=False)
            else:
                self._lose(run)
            other = self._claim(run.stage_run_id) if event == "another lists it" else None
            if other is not None:
                self._end(other)
            after = self.stage.everything()

        with self.database.reading() as connection:
            listing = expand.Listing.of(connection, run.inputs["job"])
        try:
            assert expand.list_sources(self.runtime, run, listing, happen)
        except WorkerDiedError:
            return run
        except runs.LeaseLostError:
            assert left <= 0
            assert run.token not in self.held
            assert self.stage.everything() == after
        else:
            assert left > 0, "the fence did not hold"
            self._count(run)
        return multiple()

    # Dispatchers

    @rule(what=sampled_from(("look after", "publish", "publish again")))
    def dispatch(self, what: str) -> None:
        if what == "look after":
            self._look_after()
        elif what == "publish":
            self._publish(depth=2)
        else:
            self._republish()

    # What holds at any time, and in the end

    @invariant()
    def no_rule_is_broken(self) -> None:
        with self.database.reading() as connection:
            found = check_invariants(connection, limits=Limits.of(self.runtime.settings))
        assert [each.text for each in found if each.severity == "broken"] == []
        self.due = self._due()

    def teardown(self) -> None:
        if sys.exception() is not None:
            return
        for run in list(self.held.values()):
            self._end(run)
        self._work_off()
        unfinished = "SELECT id FROM job WHERE state IN ('expanding', 'running') AND paused_at "
        assert self.stage.rows(unfinished + "IS NULL") == [], "held up by a paused job"
        for job in self.stage.rows(unfinished + "IS NOT NULL"):
            control.resume(self.database, job.id)
        self._work_off()
        with self.database.reading() as connection:
            limits = Limits.of(self.runtime.settings)
            found = check_invariants(connection, settled=True, limits=limits)
        assert [each.text for each in found] == []
        self._nothing_was_done_twice()
        self._every_item_says_how_it_ended()

    def _nothing_was_done_twice(self) -> None:
        done = {
            (row.place, row.stage, row.fingerprint)
            for row in self.stage.rows(
                f"SELECT {PLACE} AS place, stage, fingerprint FROM stage_run "
                "WHERE state = 'succeeded'"
            )
        }
        assert done <= set(self.successes)
        # An ingest is done again where the place was found changed since: see `_claim`.
        again = {key: times for key, times in self.successes.items() if key[1] != INGEST}
        assert {key for key in done if key[1] != INGEST} == set(again)
        assert set(again.values()) <= {1}

    def _every_item_says_how_it_ended(self) -> None:
        for item in self.stage.rows(
            "SELECT i.state, i.asset_id, a.kind, i.error_class, i.error_text, j.cancelled_at, "
            "j.error_class AS job_error "
            "FROM job_item i JOIN job j ON j.id = i.job_id LEFT JOIN asset a ON a.id = i.asset_id"
        ):
            self.stage.ends[item.state] += 1
            if item.state == "done":
                shown = self.stage.rows(
                    "SELECT stage FROM head WHERE asset_id = :asset", asset=item.asset_id
                )
                wanted = {spec.name for spec in stages_for(item.kind, has_audio=False)}
                assert {row.stage for row in shown} == wanted
            elif item.state == "failed":
                assert item.error_class is not None, item
                assert item.error_text is not None, item
            else:
                assert item.state == "cancelled"
                assert item.cancelled_at is not None or item.job_error is not None, item


@pytest.fixture
def stage(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    for module in ("runner.expand", "runner.control", "db.dispatching"):
        monkeypatch.setattr(f"pipeline.{module}.BATCH", 2)
    runtime = Runtime(
        Settings(
            data_dir=tmp_path / "data",
            database=database.engine.url.render_as_string(hide_password=False),
            max_attempts=MAX_ATTEMPTS,
        )
    )
    keeper = LeaseKeeper(runtime.database, 3600)
    folder = tmp_path / "media"
    folder.mkdir()
    with tiny_stages(monkeypatch):
        yield Stage(runtime, keeper, folder)
    keeper.close()
    runtime.close()


def test_whatever_happens_nothing_is_lost_and_nothing_done_twice(stage: Stage) -> None:
    asked = os.environ.get("STORIES")
    run_state_machine_as_test(
        lambda: Story(stage),
        settings=settings(
            max_examples=int(asked or STORIES[stage.database.engine.dialect.name]),
            stateful_step_count=STEPS,
            derandomize=asked is None,
            database=None,
            deadline=None,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert stage.ends["done"] > stage.ends["failed"], "stories of work that goes well, too"
