"""A worker process: Celery's consumer on threads, the services around it, and an orderly end.

Threads, not forks: a device that was touched must not be forked, and models are loaded once per
process. Untrusted media is opened in child processes either way.
"""

import contextlib
import os
import threading
import time
import uuid
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import structlog
from celery.worker import WorkController, state
from celery.worker.consumer import Consumer

from pipeline.db import dispatching, runs
from pipeline.errors import DatabaseUnavailableError
from pipeline.runner.leases import LeaseKeeper
from pipeline.runner.runtime import Runtime
from pipeline.stages.base import QUEUES
from workers.app import check_broker, make_app, queue_name
from workers.heartbeat import Reason
from workers.services import Services
from workers.tasks import register_tasks

log = structlog.get_logger()

#: Pause before a consumer that ended by itself is started again.
CONSUMER_PAUSE_SECONDS = 2.0
#: A consumer is given so long to take what lies in the broker before it is started anew.
DEAF_SECONDS = 20.0


class RunConsumer(Consumer):  # type: ignore[misc]
    """Celery's, without the 28 queues and exchanges that it makes in RabbitMQ for tasks with a
    delay: ours have none."""

    class Blueprint(Consumer.Blueprint):  # type: ignore[misc]
        default_steps = tuple(
            step for step in Consumer.Blueprint.default_steps if "delayed_delivery" not in step
        )


class WorkerHost:
    """Runs a worker in threads of this process; the caller's thread stays free for signals.

    One per process: Celery keeps the state of its worker in a module. ``with_scheduler``: whether
    this process fires schedules too.
    """

    def __init__(
        self, runtime: Runtime, *, queues: Sequence[str] = QUEUES, with_scheduler: bool = False
    ) -> None:
        self._runtime = runtime
        self._queues = tuple(queues)
        self._app = make_app(runtime.settings)
        self.keeper = LeaseKeeper(runtime.database, runtime.settings.lease_seconds)
        self._services = Services(
            runtime,
            self._app,
            queues=self._queues,
            slots=runtime.settings.concurrency,
            renew=self.keeper.renew_now,
            on_silence=self._listen_anew,
            with_scheduler=with_scheduler,
        )
        self._stopping = self._services.dispatcher.stopping
        register_tasks(self._app, runtime, self.keeper, self._services.dispatcher)
        self._listened_at = time.monotonic()
        self._thread = threading.Thread(target=self._consume, name="consumer", daemon=True)

    def start(self) -> None:
        """Connect and begin to work.

        Raises:
            BrokerUnavailableError: the broker cannot be reached.
        """
        check_broker(self._app)
        # Celery's threads look their task up in the default app.
        self._app.set_default()
        self._forget_published()
        self._thread.start()
        self._services.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive() and self._services.alive

    def wake(self) -> None:
        """Something became due in this process."""
        self._services.dispatcher.wake()

    def stop(self, *, grace_seconds: float) -> bool:
        """Take no more work, wait for what runs, then give back what is left.

        Gives whether everything that ran has ended; where it is false, the process should exit
        without waiting for its threads: their runs belong to others already.
        """
        self._stopping.set()
        state.should_stop = os.EX_OK
        idle = self.keeper.wait_until_idle(grace_seconds)
        try:
            if not idle:
                log.warning("work_given_back", runs=self.keeper.give_back())
            self._forget_published()
        except DatabaseUnavailableError as error:
            log.warning("work_not_given_back", reason=str(error))
        self._services.stop()
        self.keeper.close()
        return idle

    def hurry(self) -> None:
        """A second signal: :meth:`stop` waits no longer."""
        self.keeper.hurry()

    def replace(self, reason: Reason, tokens: Sequence[str]) -> None:
        """End this process's work so that it can be replaced: the attempts at fault are counted,
        the others given back."""
        log.warning("process_ends", reason=reason)
        self._stopping.set()
        state.should_stop = os.EX_OK
        if reason == "memory":
            # Who needs so much is not known: what ends in time did not.
            self.keeper.wait_until_idle(self._runtime.settings.shutdown_seconds)
            tokens = self.keeper.held
        with self._runtime.database.transaction() as connection:
            runs.expire(connection, tokens)
            for token in set(self.keeper.held) - set(tokens):
                runs.give_back(connection, token)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop(grace_seconds=self._runtime.settings.shutdown_seconds)
        # A process that goes on must be rid of this consumer before it starts another.
        self._thread.join()
        state.should_stop = None
        self._app.close()

    def _listen_anew(self) -> None:
        """Messages lie in the broker, and this process has slots for them: its consumer is deaf.

        Kombu's Redis consumer is, when the server comes back while an acknowledgement fails.
        """
        is_free = len(self.keeper.held) < self._runtime.settings.concurrency
        if is_free and time.monotonic() - self._listened_at > DEAF_SECONDS:
            self._listened_at = time.monotonic()
            log.warning("consumer_deaf")
            state.should_stop = os.EX_OK

    def _forget_published(self) -> None:
        """Messages in memory live and end with the process that published them."""
        if self._runtime.settings.is_broker_embedded:
            with self._runtime.database.transaction() as connection:
                dispatching.forget_published(connection)

    def _consume(self) -> None:
        """Run Celery's consumer; one that ends by itself (the broker closed its channel) is started
        again: what runs is not touched by that."""
        while not self._stopping.is_set():
            state.should_stop = state.should_terminate = None
            controller = WorkController(
                app=self._app,
                pool_cls="threads",
                consumer_cls=RunConsumer,
                concurrency=self._runtime.settings.concurrency,
                # A second worker of the same name would end the first one.
                hostname=f"mediaweave-{uuid.uuid4()}",
                queues=[queue_name(queue) for queue in self._queues],
                without_mingle=True,
                without_gossip=True,
                without_heartbeat=True,
                quiet=True,
            )
            with contextlib.suppress(SystemExit):
                controller.start()
            if not self._stopping.is_set():
                log.error("consumer_ended", exit_code=controller.exitcode)
                self._stopping.wait(CONSUMER_PAUSE_SECONDS)
