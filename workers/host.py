"""A worker process: Celery's consumer on threads, the dispatcher, and an orderly end.

Threads, not forks: a device that was touched must not be forked, and models are loaded once per
process. Untrusted media is opened in child processes either way.
"""

import contextlib
import os
import threading
import uuid
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import structlog
from celery.worker import WorkController, state

from pipeline.db import runs
from pipeline.errors import DatabaseUnavailableError
from pipeline.runner.leases import LeaseKeeper
from pipeline.runner.runtime import Runtime
from pipeline.stages.base import QUEUES
from workers.app import check_broker, make_app, queue_name
from workers.dispatcher import Dispatcher
from workers.tasks import register_tasks

log = structlog.get_logger()


class WorkerHost:
    """Runs a worker in threads of this process; the caller's thread stays free for signals.

    One per process: Celery keeps the state of its worker in a module.
    """

    def __init__(self, runtime: Runtime, *, queues: Sequence[str] = QUEUES) -> None:
        self._runtime = runtime
        self._queues = tuple(queues)
        self._app = make_app(runtime.settings)
        self.keeper = LeaseKeeper(runtime.database, runtime.settings.lease_seconds)
        self.dispatcher = Dispatcher(runtime, self._app, QUEUES)
        register_tasks(self._app, runtime, self.keeper, self.dispatcher)
        self._thread = threading.Thread(target=self._consume, name="consumer", daemon=True)

    def start(self) -> None:
        """Connect and begin to work.

        Raises:
            BrokerUnavailableError: the broker cannot be reached.
        """
        check_broker(self._app)
        # Celery's threads look their task up in the default app.
        self._app.set_default()
        if self._runtime.settings.is_broker_embedded:
            # Messages in memory ended with the process that published them.
            with self._runtime.database.transaction() as connection:
                runs.forget_published(connection)
        self._thread.start()
        self.dispatcher.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive() and self.dispatcher.alive

    def stop(self, *, grace_seconds: float) -> bool:
        """Take no more work, wait for what runs, then give back what is left.

        Gives whether everything that ran has ended; where it is false, the process should exit
        without waiting for its threads: their runs belong to others already.
        """
        self.dispatcher.stop()
        state.should_stop = os.EX_OK
        idle = self.keeper.wait_until_idle(grace_seconds)
        if not idle:
            try:
                log.warning("work_given_back", runs=self.keeper.give_back())
            except DatabaseUnavailableError as error:
                log.warning("work_not_given_back", reason=str(error))
        self.keeper.close()
        return idle

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

    def _consume(self) -> None:
        controller = WorkController(
            app=self._app,
            pool_cls="threads",
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
