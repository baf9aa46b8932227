"""Publishes just enough of what is due to keep the workers' queues shallow, and brings back what
was lost.

Any number of dispatchers may run: each takes its rows with a conditional update.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version

import structlog
from amqp.exceptions import ChannelError  # type: ignore[import-untyped]
from celery import Celery
from kombu.exceptions import OperationalError

from pipeline.db import dispatching, job_control, job_ends, runs, workers
from pipeline.errors import BrokerUnavailableError, ConfigurationError, DatabaseUnavailableError
from pipeline.runner.control import finish_cancelling
from pipeline.runner.failing import close_failed, lock_asset_of
from pipeline.runner.runtime import Runtime
from pipeline.stages.base import QUEUES
from workers.app import queue_name
from workers.outage import Outage
from workers.task_publishers import make_task_publisher

log = structlog.get_logger()

#: How often a dispatcher looks for work that nobody has woken it for (another process's).
POLL_SECONDS = 0.5
#: Least time between two rounds, and how much longer than the last round took: what ends
#: meanwhile is dealt with in one, and a dispatcher leaves its process to the work.
ROUND_SECONDS = 0.01
ROUND_SHARE = 4
#: How often it looks for what was lost.
RECOVER_EVERY_SECONDS = 5.0
#: How much work the broker may hold beyond what the workers' slots need: so much of what they get
#: done in this time. Short stages are not held up by rounds, urgent ones not by what is published.
AHEAD_SECONDS = 0.2
#: How long it is believed that runs go on to end as quickly as they did.
STALE_SECONDS = 1.0
#: How often runs of paused jobs are given to jobs that wait for them too.
HAND_OVER_EVERY_SECONDS = 600.0
#: How long a stop may wait for this thread.
STOP_SECONDS = 15.0
#: How long a round may be busy with the cancelling that somebody left unfinished.
CANCEL_SECONDS = 1.0
#: A run published this long ago, while the broker's queue is empty, was lost on the way.
LOST_SECONDS = 10.0


class _EnoughError(Exception):
    """Other work is due."""


class _Queue:
    """What a dispatcher remembers of a queue between its rounds."""

    def __init__(self) -> None:
        self.served: dispatching.Lane | None = None
        self.slots = 1
        #: Runs published per second, lately.
        self.rate = 0.0
        self._at = time.monotonic()

    def count(self, published: int) -> None:
        now = time.monotonic()
        elapsed = max(now - self._at, ROUND_SECONDS)
        self._at = now
        weight = min(1.0, elapsed)
        self.rate += weight * (published / elapsed - self.rate)

    def depth(self, per_slot: int) -> int:
        """Runs to keep in the broker."""
        if time.monotonic() - self._at > STALE_SECONDS:
            self.rate = 0.0
        return max(per_slot * self.slots, int(self.rate * AHEAD_SECONDS))

    def tasks(self, ids: Sequence[int], per_slot: int) -> list[Sequence[int]]:
        """``ids`` in messages, so that about ``per_slot`` of these are in the broker for a slot:
        long stages have each their own, short ones share some."""
        size = -(-self.depth(per_slot) // (per_slot * self.slots))
        return [ids[start : start + size] for start in range(0, len(ids), size)]


class Dispatcher:
    """One thread that moves due rows to the broker.

    ``queues`` and ``slots``: what this process works on itself, for everybody to know. ``renew``
    renews its leases: called before it looks for lost ones, so that a machine that was suspended
    does not take its own away. ``on_silence`` is called when runs of its own queues lie in the
    broker and nobody takes them.
    """

    def __init__(
        self,
        runtime: Runtime,
        app: Celery,
        *,
        queues: Sequence[str] = (),
        slots: int = 0,
        renew: Callable[[], None] = lambda: None,
        on_silence: Callable[[], None] = lambda: None,
    ) -> None:
        self._runtime = runtime
        self._app = app
        self.own_queues = tuple(queues)
        self._own_slots = slots
        self._renew = renew
        self._on_silence = on_silence
        self._publisher = make_task_publisher(app)
        self._broker_outage = Outage()
        self._queues: dict[str, _Queue] = {queue: _Queue() for queue in QUEUES}
        # Nobody knows what was before this process: leases get their time to be renewed.
        self._database_back_at = time.monotonic()
        self._handed_over_at = 0.0
        self._wake = threading.Event()
        self.stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dispatcher", daemon=True)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Something may have become due in this process."""
        self._wake.set()

    def hand_back(self, stage_run_ids: Sequence[int]) -> None:
        """A message that came while we stop: its runs are due at once, for other workers."""
        try:
            self._unpublish(stage_run_ids)
        except DatabaseUnavailableError as error:
            log.warning("database_away", reason=str(error))

    def stop(self) -> None:
        self.stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            # No longer: a broker that hangs must not keep the process.
            self._thread.join(STOP_SECONDS)
        if not self._thread.is_alive():
            self._publisher.close()

    def _run(self) -> None:
        recovered_at = -RECOVER_EVERY_SECONDS
        while not self.stopping.is_set():
            self._wake.clear()
            began = time.monotonic()
            try:
                if time.monotonic() - recovered_at >= RECOVER_EVERY_SECONDS:
                    recovered_at = time.monotonic()
                    self.look_after()
                self.publish()
            except DatabaseUnavailableError as error:
                self._database_back_at = time.monotonic()
                log.warning("database_away", reason=str(error))
                self.stopping.wait(POLL_SECONDS)
            except (BrokerUnavailableError, ConfigurationError) as error:
                pause = self._broker_outage.met("broker_away", error)
                self.stopping.wait(min(pause, RECOVER_EVERY_SECONDS))
            except Exception:
                # A bug must be loud, and must not leave the workers without work.
                log.exception("dispatcher_bug")
                self.stopping.wait(POLL_SECONDS)
            took = time.monotonic() - began
            self.stopping.wait(min(max(ROUND_SECONDS, ROUND_SHARE * took), POLL_SECONDS))
            self._wake.wait(POLL_SECONDS)
        self._leave()

    def _leave(self) -> None:
        try:
            with self._runtime.database.transaction() as connection:
                workers.leave(connection, runs.process_owner())
        except DatabaseUnavailableError as error:
            log.warning("database_away", reason=str(error))

    def publish(self) -> int:
        """One round: publish what is due, up to the depth of each queue; gives how many."""
        with self._runtime.database.reading() as connection:
            due, is_waking = dispatching.look(connection, QUEUES)
        if is_waking:
            with self._runtime.database.transaction() as connection:
                dispatching.wake_waiting(connection)
            due = list(QUEUES)
        return sum(self._publish_queue(queue) for queue in due)

    def _publish_queue(self, name: str) -> int:
        queue, per_slot = self._queues[name], self._runtime.settings.queue_depth
        # Before anything is marked: connecting may take long.
        self._publisher.connect()
        with self._runtime.database.light() as connection:
            ids, queue.served = dispatching.take_due(
                connection, name, depth=queue.depth(per_slot), after=queue.served
            )
        queue.count(len(ids))
        if not ids:
            return 0
        tasks = queue.tasks(ids, per_slot)
        try:
            published = self._publisher.publish(name, tasks)
        except Exception:
            self._unpublish(ids)
            raise
        sent = {*published.confirmed}
        if len(sent) < len(tasks):
            # Whether the others arrived is not known; what comes twice is claimed once.
            lost = [task for position, task in enumerate(tasks) if position not in sent]
            self._unpublish([run_id for task in lost for run_id in task])
        if published.refused:
            log.warning("tasks_refused", queue=queue_name(name), count=len(published.refused))
            self.stopping.wait(POLL_SECONDS)
        if published.error is not None:
            raise published.error
        self._broker_outage.over()
        return len(ids)

    def _unpublish(self, ids: Sequence[int]) -> None:
        with self._runtime.database.transaction() as connection:
            dispatching.unpublish(connection, ids)

    def look_after(self) -> None:
        """What is due now and then: say that we are here, and bring back what was lost."""
        with self._runtime.database.transaction() as connection:
            workers.announce(
                connection,
                runs.process_owner(),
                queues=self.own_queues,
                slots=self._own_slots,
                version=version("mediaweave"),
            )
            workers.forget_silent(connection)
            slots = workers.slots_by_queue(connection)
            stuck = dispatching.queues_published(connection, LOST_SECONDS)
            cancelling = job_control.cancelling(connection)
            complete = job_ends.complete_but_open(connection)
        for name, queue in self._queues.items():
            queue.slots = slots.get(name, 1)
        self.recover()
        for job_id in complete:
            with self._runtime.database.transaction() as connection:
                job_ends.close_if_complete(connection, job_id)
        self._finish_cancelling(cancelling)
        if stuck:
            # Last: a broker that hangs takes its time.
            self._republish(stuck)
            if set(stuck) & set(self.own_queues):
                self._on_silence()
        if time.monotonic() - self._handed_over_at >= HAND_OVER_EVERY_SECONDS:
            self._handed_over_at = time.monotonic()
            self._hand_over()

    def _finish_cancelling(self, job_ids: Sequence[int]) -> None:
        """Go on with what somebody began and did not end; not for long, other work is due."""
        began = time.monotonic()

        def check(closed: int) -> None:
            if time.monotonic() - began > CANCEL_SECONDS or self.stopping.is_set():
                raise _EnoughError

        with contextlib.suppress(_EnoughError):
            for job_id in job_ids:
                finish_cancelling(self._runtime.database, job_id, on_progress=check)

    def _hand_over(self) -> None:
        """What a paused job came to own since it was paused must not hold up others."""
        with self._runtime.database.reading() as connection:
            held = job_control.paused(connection)
        for job_id in held:
            with self._runtime.database.transaction() as connection:
                job_control.hand_over(connection, job_id)

    def _republish(self, queues: Sequence[str]) -> None:
        settings = self._runtime.settings
        empty = self._empty(queues)
        with self._runtime.database.transaction() as connection:
            count = dispatching.republish(
                connection,
                seconds=settings.republish_seconds,
                empty_queues=empty,
                empty_seconds=LOST_SECONDS,
            )
        if count:
            log.info("published_again", runs=count)

    def _empty(self, queues: Sequence[str]) -> list[str]:
        """Those of ``queues`` of which the broker says that it holds no message."""
        found: list[str] = []
        connection = self._app.connection_for_write()
        try:
            for queue in queues:
                try:
                    channel = connection.channel()
                    declared = channel.queue_declare(queue_name(queue), passive=True)
                except ChannelError as error:
                    # No such queue: then it is empty.
                    if str(error.reply_code) == "404":
                        found.append(queue)
                else:
                    if declared.message_count == 0:
                        found.append(queue)
                    channel.close()
            connection.release()
        except (OperationalError, OSError):
            # Without a farewell, which may hang as well.
            connection.collect()
        return found

    def recover(self) -> None:
        """Bring back the runs of workers that are gone."""
        settings = self._runtime.settings
        self._renew()
        # While the database was away nobody could renew a lease: they get the time to do so.
        waited = time.monotonic() - self._database_back_at >= settings.lease_seconds
        with self._runtime.database.reading() as connection:
            # On this host there is no need to wait for the leases of the dead.
            dead = filter(runs.is_gone, dispatching.running_owners(connection))
            lost = dispatching.Lost(dead_owners=list(dead), with_expired=waited)
            for_good = dispatching.lost_for_good(
                connection, lost, max_attempts=settings.max_attempts
            )
        for run in for_good:
            # A run fails together with the items that wait for it, or not at all; its asset is
            # locked before the run, as everybody does.
            with self._runtime.database.transaction() as connection:
                facts = lock_asset_of(connection, run)
                if dispatching.fail_lost(
                    connection, run.id, lost, max_attempts=settings.max_attempts
                ):
                    close_failed(connection, self._runtime, run.id, facts)
        with self._runtime.database.transaction() as connection:
            queued = dispatching.requeue_lost(connection, lost, max_attempts=settings.max_attempts)
        if queued or for_good:
            log.info("leases_recovered", queued=queued, out_of_attempts=len(for_good))
