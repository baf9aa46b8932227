"""Publishes just enough of what is due to keep the workers' queues shallow.

Any number of dispatchers may run: each takes its rows with a conditional update.
"""

import os
import threading
import time
from collections.abc import Sequence

import structlog
from celery import Celery
from kombu.exceptions import OperationalError
from sqlalchemy import Connection

from pipeline.db import runs
from pipeline.errors import DatabaseUnavailableError
from pipeline.runner.execute import close_failed
from pipeline.runner.runtime import Runtime
from workers.app import RUN_STAGE, queue_name

log = structlog.get_logger()

#: How often a dispatcher looks for work that nobody has woken it for (another process's).
POLL_SECONDS = 0.5
#: How often it looks for leases that have run out.
RECOVER_EVERY_SECONDS = 5.0


class Dispatcher:
    """One thread that moves due rows to the broker."""

    def __init__(self, runtime: Runtime, app: Celery, queues: Sequence[str]) -> None:
        self._runtime = runtime
        self._app = app
        self._queues = tuple(queues)
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dispatcher", daemon=True)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Something may have become due in this process."""
        self._wake.set()

    def wait_for_database(self, error: DatabaseUnavailableError) -> None:
        """Hold the calling worker thread for a poll, so that it takes no work meanwhile."""
        log.warning("database_away", reason=str(error))
        self._stop.wait(POLL_SECONDS)

    def hand_back(self, stage_run_id: int) -> None:
        """A message that came while we stop: its run is due at once, for other workers."""
        try:
            with self._runtime.database.transaction() as connection:
                runs.unpublish(connection, [stage_run_id])
        except DatabaseUnavailableError as error:
            log.warning("database_away", reason=str(error))

    def stop(self) -> None:
        self._stop.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        recovered_at = -RECOVER_EVERY_SECONDS
        while not self._stop.is_set():
            self._wake.clear()
            try:
                if time.monotonic() - recovered_at >= RECOVER_EVERY_SECONDS:
                    recovered_at = time.monotonic()
                    self.recover()
                for queue in self._due_queues():
                    self.publish_due(queue)
            except DatabaseUnavailableError as error:
                log.warning("database_away", reason=str(error))
            except Exception:
                # A bug must be loud, and must not leave the workers without work.
                log.exception("dispatcher_bug")
            self._wake.wait(POLL_SECONDS)

    def _due_queues(self) -> list[str]:
        republish_seconds = self._runtime.settings.republish_seconds
        with self._runtime.database.reading() as connection:
            return runs.queues_with_due(connection, self._queues, republish_seconds)

    def publish_due(self, queue: str) -> int:
        """Publish what is due in one queue, up to its depth; gives how many."""
        settings = self._runtime.settings
        with self._runtime.database.transaction() as connection:
            ids = runs.take_due(
                connection,
                queue,
                depth=settings.queue_depth,
                republish_seconds=settings.republish_seconds,
            )
        for position, run_id in enumerate(ids):
            try:
                self._app.send_task(RUN_STAGE, args=[run_id], queue=queue_name(queue))
            except (OperationalError, OSError) as error:
                log.warning("broker_away", reason=str(error))
                with self._runtime.database.transaction() as connection:
                    runs.unpublish(connection, ids[position:])
                return position
        return len(ids)

    def recover(self) -> None:
        """Bring back the runs of workers that are gone."""
        settings = self._runtime.settings
        with self._runtime.database.reading() as connection:
            if not runs.any_lost(connection, _dead_owners(connection)):
                return
        out_of_attempts = 0
        while True:
            # A run fails together with the items that wait for it, or not at all.
            with self._runtime.database.transaction() as connection:
                failed = runs.recover_expired(
                    connection,
                    max_attempts=settings.max_attempts,
                    dead_owners=_dead_owners(connection),
                )
                for run_id in failed:
                    close_failed(connection, self._runtime, run_id)
            if not failed:
                break
            out_of_attempts += 1
        log.info("leases_recovered", out_of_attempts=out_of_attempts)


def _dead_owners(connection: Connection) -> list[str]:
    """Owners of leases on this host whose process is gone: no need to wait for the lease."""
    dead = []
    for owner in runs.running_owners(connection):
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
