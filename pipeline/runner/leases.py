"""Keeps the leases of the stage runs this process works on."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from pipeline.db import runs
from pipeline.db.engine import Database
from pipeline.errors import DatabaseUnavailableError, TransientError

log = structlog.get_logger()


class StoppingError(TransientError):
    """The worker takes no more work."""


@dataclass(slots=True)
class _Held:
    #: When it last got on, by the monotonic clock, and how much longer than others it may take.
    progress_at: float
    allowance_seconds: float


class LeaseKeeper:
    """One thread per process that renews every lease held, three times per lease's life.

    A database that is away is no reason to stop: the lease is the judge.
    """

    def __init__(self, database: Database, lease_seconds: float) -> None:
        self._database = database
        self._lease_seconds = lease_seconds
        self._held: dict[str, _Held] = {}
        self._lock = threading.Condition()
        self._is_closing = self._hurried = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease-keeper", daemon=True)
        self._thread.start()

    @contextmanager
    def holding(self, token: str, *, allowance_seconds: float = 0) -> Iterator[None]:
        """Renew ``token``'s lease until the block ends.

        Raises StoppingError once :meth:`wait_until_idle` was called.
        ``allowance_seconds``: how much longer than others it may be silent before it
        :meth:`stalled`; for work that is bounded otherwise.
        """
        with self._lock:
            if self._is_closing:
                raise StoppingError("the worker is stopping")
            self._held[token] = _Held(time.monotonic(), allowance_seconds)
        try:
            yield
        finally:
            with self._lock:
                self._held.pop(token, None)
                self._lock.notify_all()

    def touch(self, token: str) -> None:
        """The run got on."""
        with self._lock:
            if token in self._held:
                self._held[token].progress_at = time.monotonic()

    def stalled(self, limit_seconds: float) -> list[str]:
        """Tokens of runs that did not get on for longer than that (and their allowance)."""
        now = time.monotonic()
        with self._lock:
            return [
                token
                for token, held in self._held.items()
                if now - held.progress_at > limit_seconds + held.allowance_seconds
            ]

    @property
    def held(self) -> list[str]:
        with self._lock:
            return sorted(self._held)

    def wait_until_idle(self, timeout_seconds: float) -> bool:
        """Take nothing more, and wait until nothing is held; gives whether that came about in time,
        unhurried."""
        with self._lock:
            self._is_closing = True
            self._lock.wait_for(lambda: self._hurried or not self._held, timeout_seconds)
            return not self._held

    def hurry(self) -> None:
        """End :meth:`wait_until_idle` now. May be called by a signal's handler."""
        with self._lock:
            self._hurried = True
            self._lock.notify_all()

    def give_back(self) -> int:
        """Queue everything still held for others, uncounted; gives how many runs that were."""
        tokens = self.held
        with self._database.transaction() as connection:
            for token in tokens:
                runs.give_back(connection, token)
        return len(tokens)

    def close(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _renew(self) -> None:
        while not self._stopping.wait(self._lease_seconds / 3):
            try:
                self.renew_now()
            except DatabaseUnavailableError as error:
                log.warning("lease_not_renewed", reason=str(error))

    def renew_now(self) -> None:
        """Renew what is held; before anybody looks for leases that ran out.

        Raises:
            DatabaseUnavailableError: the database cannot be reached.
        """
        tokens = self.held
        if tokens:
            with self._database.transaction() as connection:
                runs.renew(connection, tokens, lease_seconds=self._lease_seconds)
