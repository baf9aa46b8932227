"""What a dependency that is away costs: time, never an attempt."""

import threading
from collections.abc import Callable, Iterable
from random import SystemRandom
from typing import Any, TypeVar

import structlog
from sqlalchemy import Connection
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_when_event_set,
    wait_random_exponential,
)
from tenacity.nap import sleep_using_event

from pipeline.db.engine import Database, check_connection
from pipeline.errors import DatabaseUnavailableError, PipelineError, StoreUnavailableError
from pipeline.storage.stores import Stores

log = structlog.get_logger()

T = TypeVar("T")

#: Looks at a dependency that is away: soon at first, in the end every half minute or so.
WAIT = wait_random_exponential(multiplier=0.5, max=30)


def random_pause(seconds: float) -> float:
    """About so long, at most an hour: those that failed together come back one by one."""
    return min(3600.0, seconds) * SystemRandom().uniform(0.5, 1.5)


def _retrying(
    stopping: threading.Event,
    event: str,
    kind: type[PipelineError],
    on_look: Callable[[], Any],
) -> Retrying:
    def note(state: RetryCallState) -> None:
        on_look()
        if state.attempt_number == 1 and state.outcome is not None:
            log.warning(event, reason=str(state.outcome.exception()))

    return Retrying(
        retry=retry_if_exception_type(kind),
        wait=WAIT,
        stop=stop_when_event_set(stopping),
        sleep=sleep_using_event(stopping),
        before_sleep=note,
        reraise=True,
    )


def persist(
    database: Database,
    stopping: threading.Event,
    write: Callable[[Connection], T],
    on_look: Callable[[], Any] = lambda: None,
) -> T:
    """The outcome of ``write`` in a transaction, tried again while the database is away.

    A commit whose answer was lost is tried again too: what ``write`` does must be fenced.
    ``on_look`` is called after every look in vain.

    Raises:
        DatabaseUnavailableError: it is still away, and ``stopping`` was set.
    """

    def attempt() -> T:
        with database.transaction() as connection:
            return write(connection)

    return _retrying(stopping, "database_away", DatabaseUnavailableError, on_look)(attempt)


def wait_for_database(
    database: Database, stopping: threading.Event, on_look: Callable[[], Any] = lambda: None
) -> None:
    """Return when the database answers. ``on_look`` and what it raises: as :func:`persist`."""
    retrying = _retrying(stopping, "database_away", DatabaseUnavailableError, on_look)
    retrying(check_connection, database)


def wait_for_stores(
    stores: Stores,
    uris: Iterable[str],
    stopping: threading.Event,
    on_look: Callable[[], Any] = lambda: None,
) -> bool:
    """Return when all the stores of ``uris`` answer; gives whether one did not at first.

    ``on_look`` is called after every look in vain.

    Raises:
        StoreUnavailableError: one is still away, and ``stopping`` was set.
    """
    looks = 0

    def look() -> None:
        nonlocal looks
        looks += 1
        for uri in uris:
            try:
                stores.check(uri)
            except StoreUnavailableError:
                raise
            except PipelineError:
                # It answers, if only to refuse.
                continue

    _retrying(stopping, "store_away", StoreUnavailableError, on_look)(look)
    return looks > 1
