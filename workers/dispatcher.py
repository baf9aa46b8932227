"""Publishes just enough of what is due to keep the workers' queues shallow, and brings back what
was lost.

Any number of dispatchers may run: each takes its rows with a conditional update.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version

import structlog
from amqp.exceptions import ChannelError  # type: ignore[import-untyped]
from celery import Celery
from kombu.exceptions import OperationalError
from sqlalchemy import Connection

from pipeline.db import dispatching, job_control, runs, workers
from pipeline.errors import DatabaseUnavailableError
from pipeline.plan.advance import lock_asset
from pipeline.runner.control import finish_cancelling
from pipeline.runner.execute import close_failed
from pipeline.runner.runtime import Runtime
from pipeline.stages.base import QUEUES
from schemas.tables import INGEST
from workers.app import RUN_STAGE, is_amqp, queue_name

log = structlog.get_logger()

#: How often a dispatcher looks for work that nobody has woken it for (another process's).
POLL_SECONDS = 0.5
#: Least time between two rounds: what ends meanwhile is dealt with in one.
ROUND_SECONDS = 0.02
#: How often it looks for what was lost.
RECOVER_EVERY_SECONDS = 5.0
#: How much work the broker may hold beyond what the workers' slots need: so much of what they get
#: done in this time. Short stages are not held up by rounds, urgent ones not by what is published.
AHEAD_SECONDS = 0.1
#: How often runs of paused jobs are given to jobs that wait for them too.
HAND_OVER_EVERY_SECONDS = 600.0
#: How long a broker may take to confirm a message, and a stop may wait for this thread.
CONFIRM_SECONDS = 10
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
        return max(per_slot * self.slots, int(self.rate * AHEAD_SECONDS))


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
        self._own_queues = tuple(queues)
        self._own_slots = slots
        self._renew = renew
        self._on_silence = on_silence
        self._send_options = (
            {"confirm_timeout": CONFIRM_SECONDS} if is_amqp(runtime.settings.broker) else {}
        )
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

    def hand_back(self, stage_run_id: int) -> None:
        """A message that came while we stop: its run is due at once, for other workers."""
        try:
            with self._runtime.database.transaction() as connection:
                dispatching.unpublish(connection, [stage_run_id])
        except DatabaseUnavailableError as error:
            log.warning("database_away", reason=str(error))

    def stop(self) -> None:
        self.stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            # No longer: a broker that hangs must not keep the process.
            self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        recovered_at = -RECOVER_EVERY_SECONDS
        while not self.stopping.is_set():
            self._wake.clear()
            try:
                if time.monotonic() - recovered_at >= RECOVER_EVERY_SECONDS:
                    recovered_at = time.monotonic()
                    self.look_after()
                self.publish()
            except DatabaseUnavailableError as error:
                self._database_back_at = time.monotonic()
                log.warning("database_away", reason=str(error))
                self.stopping.wait(POLL_SECONDS)
            except Exception:
                # A bug must be loud, and must not leave the workers without work.
                log.exception("dispatcher_bug")
                self.stopping.wait(POLL_SECONDS)
            self.stopping.wait(ROUND_SECONDS)
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
        queue = self._queues[name]
        with self._runtime.database.light() as connection:
            ids, queue.served = dispatching.take_due(
                connection,
                name,
                depth=queue.depth(self._runtime.settings.queue_depth),
                after=queue.served,
            )
        queue.count(len(ids))
        for position, run_id in enumerate(ids):
            try:
                self._app.send_task(
                    RUN_STAGE, args=[run_id], queue=queue_name(name), **self._send_options
                )
            except Exception as error:
                self._unpublish(ids[position:])
                if not isinstance(error, OperationalError | OSError):
                    raise
                log.warning("broker_away", reason=str(error))
                self.stopping.wait(POLL_SECONDS)
                return position
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
                queues=self._own_queues,
                slots=self._own_slots,
                version=version("mediaweave"),
            )
            workers.forget_silent(connection)
            slots = workers.slots_by_queue(connection)
            stuck = dispatching.queues_published(connection, LOST_SECONDS)
            cancelling = job_control.cancelling(connection)
        for name, queue in self._queues.items():
            queue.slots = slots.get(name, 1)
        if stuck:
            self._republish(stuck)
            if set(stuck) & set(self._own_queues):
                self._on_silence()
        self.recover()
        self._finish_cancelling(cancelling)
        if time.monotonic() - self._handed_over_at >= HAND_OVER_EVERY_SECONDS:
            self._handed_over_at = time.monotonic()
            self._hand_over()

    def _finish_cancelling(self, jobs: Sequence[int]) -> None:
        """Go on with what somebody began and did not end; not for long, other work is due."""
        began = time.monotonic()

        def check(closed: int) -> None:
            if time.monotonic() - began > CANCEL_SECONDS or self.stopping.is_set():
                raise _EnoughError

        with contextlib.suppress(_EnoughError):
            for job_id in jobs:
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
        with self._runtime.database.transaction() as connection:
            count = dispatching.republish(
                connection,
                seconds=settings.republish_seconds,
                empty_queues=[queue for queue in queues if self._is_empty(queue)],
                empty_seconds=LOST_SECONDS,
            )
        if count:
            log.info("published_again", runs=count)

    def _is_empty(self, queue: str) -> bool:
        """Whether the broker says that it holds no message of the queue."""
        try:
            with self._app.connection_for_write() as connection, connection.channel() as channel:
                found = channel.queue_declare(queue_name(queue), passive=True)
        except ChannelError as error:
            # No such queue: then it is empty.
            return str(error.reply_code) == "404"
        except (OperationalError, OSError):
            return False
        return bool(found.message_count == 0)

    def recover(self) -> None:
        """Bring back the runs of workers that are gone."""
        settings = self._runtime.settings
        self._renew()
        # While the database was away nobody could renew a lease: they get the time to do so.
        waited = time.monotonic() - self._database_back_at >= settings.lease_seconds
        with self._runtime.database.reading() as connection:
            lost = dispatching.Lost(dead_owners=_dead_owners(connection), with_expired=waited)
            for_good = dispatching.lost_for_good(
                connection, lost, max_attempts=settings.max_attempts
            )
        for run in for_good:
            # A run fails together with the items that wait for it, or not at all; its asset is
            # locked before the run, as everybody does.
            with self._runtime.database.transaction() as connection:
                if run.asset_id is not None and run.stage != INGEST:
                    lock_asset(connection, run.asset_id)
                if dispatching.fail_lost(
                    connection, run.id, lost, max_attempts=settings.max_attempts
                ):
                    close_failed(connection, self._runtime, run.id)
        with self._runtime.database.transaction() as connection:
            queued = dispatching.requeue_lost(connection, lost, max_attempts=settings.max_attempts)
        if queued or for_good:
            log.info("leases_recovered", queued=queued, out_of_attempts=len(for_good))


def _dead_owners(connection: Connection) -> list[str]:
    """Owners of leases on this host whose process is gone: no need to wait for the lease."""
    dead = []
    for owner in dispatching.running_owners(connection):
        space, _, pid = owner.rpartition("/")
        if space == runs.process_space() and not _alive(int(pid)):
            dead.append(owner)
    return dead


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
