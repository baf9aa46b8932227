"""Keeps the leases of the stage runs this process works on."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from pipeline.db import runs
from pipeline.db.engine import Database
from pipeline.errors import DatabaseUnavailableError

log = structlog.get_logger()


class LeaseKeeper:
    """One thread per process that renews every lease held, three times per lease's life.

    A database that is away is no reason to stop: the lease is the judge.
    """

    def __init__(self, database: Database, lease_seconds: float) -> None:
        self._database = database
        self._lease_seconds = lease_seconds
        self._held: set[str] = set()
        self._lock = threading.Condition()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease-keeper", daemon=True)
        self._thread.start()

    @contextmanager
    def holding(self, token: str) -> Iterator[None]:
        """Renew ``token``'s lease until the block ends."""
        with self._lock:
            self._held.add(token)
        try:
            yield
        finally:
            with self._lock:
                self._held.discard(token)
                self._lock.notify_all()

    @property
    def held(self) -> list[str]:
        with self._lock:
            return sorted(self._held)

    def wait_until_idle(self, timeout_seconds: float) -> bool:
        """Wait until nothing is held; gives whether that came about in time."""
        with self._lock:
            return self._lock.wait_for(lambda: not self._held, timeout_seconds)

    def give_back(self) -> int:
        """Queue everything still held for others, uncounted; gives how many runs that were."""
        tokens = self.held
        for token in tokens:
            with self._database.transaction() as connection:
                runs.give_back(connection, token)
        return len(tokens)

    def close(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _renew(self) -> None:
        while not self._stopping.wait(self._lease_seconds / 3):
            tokens = self.held
            if not tokens:
                continue
            try:
                with self._database.transaction() as connection:
                    runs.renew(connection, tokens, lease_seconds=self._lease_seconds)
            except DatabaseUnavailableError as error:
                log.warning("lease_not_renewed", reason=str(error))
