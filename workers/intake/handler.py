"""What is done with one message, whatever carried it.

A message is settled once its outcome is committed: the job exists, or its refusal is in the table
of dead letters. Only then may the carrier forget it. A carrier may deliver the same message again
at any time: its key makes that harmless.
"""

import hashlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Literal

import structlog
from sqlalchemy.exc import DBAPIError

from pipeline.db import dead_letters
from pipeline.errors import (
    ConfigurationError,
    DatabaseUnavailableError,
    InvalidMessageError,
    SourceError,
    TransientError,
)
from pipeline.runner.intake import Accepted, accept, read_message
from pipeline.runner.runtime import Runtime
from workers.intake.bucket_events import handle_bucket_message
from workers.outage import Outage

log = structlog.get_logger()

Kind = Literal["queue", "event"]
#: A message on which mediaweave itself fails so often is refused: a bug must not go round for ever.
MAX_DELIVERIES = 3
#: The pause after such a failure.
GIVEN_BACK_SECONDS = 2.0
#: Job keys of clients are no longer; made ones need not be either.
_MAX_KEY_LENGTH = 200

#: Trying the same message again is of no use until somebody changes something.
REFUSED_ERRORS = (ConfigurationError, SourceError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """One delivery of a message.

    ``kind``: ``queue`` is a job, ``event`` something that happened in a bucket. ``key`` is the same
    whenever this message is delivered; ``None`` where the carrier gives none. ``deliveries``: how
    often it was delivered, this time included.
    """

    kind: Kind
    body: bytes
    key: str | None
    deliveries: int = 1


class Verdict(Enum):
    """What the carrier does with a message next."""

    ACCEPTED = auto()
    """Forget it."""
    REFUSED = auto()
    """Forget it; where it has a queue for dead letters, put it there first."""
    AGAIN = auto()
    """Deliver it again later: mediaweave failed on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """``reason`` is set where the message was refused."""

    verdict: Verdict
    reason: str = ""


def settle(runtime: Runtime, incoming: Incoming) -> Outcome:
    """Handle a message, or refuse it and write why; committed either way.

    Raises:
        TransientError: the database, or what else it takes, is away: keep the message, try later.
    """
    try:
        reason = _refusal(runtime, incoming)
    except TransientError:
        raise
    except Exception as error:  # a bug must neither lose the message nor end the process
        log.exception("message_failed", kind=incoming.kind, deliveries=incoming.deliveries)
        if incoming.deliveries < MAX_DELIVERIES:
            return Outcome(verdict=Verdict.AGAIN)
        reason = (
            f"mediaweave failed on it {incoming.deliveries} times, see the log of the intake: "
            f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        )
    if reason is None:
        return Outcome(verdict=Verdict.ACCEPTED)
    log.warning("message_refused", kind=incoming.kind, reason=reason)
    _write_refusal(runtime, incoming, reason)
    return Outcome(verdict=Verdict.REFUSED, reason=reason)


def handle(runtime: Runtime, incoming: Incoming) -> None:
    """Handle a message.

    Raises:
        ConfigurationError, SourceError: it cannot be taken as it is.
        TransientError: try again later.
    """
    if len(incoming.body) > runtime.settings.intake.max_message_bytes:
        raise InvalidMessageError(
            f"the message has {len(incoming.body)} bytes; more than "
            f"{runtime.settings.intake.max_message_bytes} are not taken "
            "(setting intake.max_message_bytes)"
        )
    _HANDLERS[incoming.kind](runtime, incoming)


def handle_job_message(
    runtime: Runtime, body: bytes, origin: str, *, key: str | None = None
) -> Accepted:
    """Write the job that ``body`` asks for, in one transaction.

    ``key`` stands in for a ``job_key`` that the message does not give.

    Raises:
        ConfigurationError, SourceError: the message is not valid, or nothing here can do what it
            asks for.
        DatabaseUnavailableError: nothing was written.
    """
    message = read_message(body)
    if message.job_key is None and key is not None:
        message = message.model_copy(update={"job_key": key})
    accepted = accept(runtime, message, origin=origin)
    log.info("job_accepted", job_id=accepted.job_id, is_new=accepted.is_new, origin=origin)
    return accepted


def message_key(carrier: str, message_id: str, body: bytes) -> str:
    """A key for a message that its carrier knows by ``message_id``.

    The body is part of it: clients that number their messages from 1 at every start lose none.
    """
    return bounded_key(f"{carrier}:{message_id}:{hashlib.sha256(body).hexdigest()[:16]}")


def bounded_key(key: str) -> str:
    """``key``, or a digest of it where it is too long for a job's key."""
    if len(key) <= _MAX_KEY_LENGTH:
        return key
    return f"{key[:20]}…sha256:{hashlib.sha256(key.encode()).hexdigest()}"


def _handle_job(runtime: Runtime, incoming: Incoming) -> None:
    handle_job_message(runtime, incoming.body, "queue", key=incoming.key)


def _handle_event(runtime: Runtime, incoming: Incoming) -> None:
    handle_bucket_message(runtime, incoming.body)


_HANDLERS: Mapping[Kind, Callable[[Runtime, Incoming], None]] = {
    "queue": _handle_job,
    "event": _handle_event,
}


def _refusal(runtime: Runtime, incoming: Incoming) -> str | None:
    try:
        handle(runtime, incoming)
    except REFUSED_ERRORS as error:
        return str(error)
    return None


def _write_refusal(runtime: Runtime, incoming: Incoming, reason: str) -> None:
    try:
        with runtime.database.transaction() as connection:
            dead_letters.record(
                connection,
                origin=incoming.kind,
                reason=reason,
                body=incoming.body,
                max_bytes=runtime.settings.intake.max_message_bytes,
            )
    except DBAPIError as error:
        # Such as a database that is read-only for a while; the message stays with its carrier.
        raise DatabaseUnavailableError(
            f"the database takes no dead letters: {error.orig}"
        ) from error


def settle_patiently(
    runtime: Runtime, incoming: Incoming, stopping: threading.Event
) -> Outcome | None:
    """Like :func:`settle`, but waits while something is away; ``None``: stopped meanwhile."""
    outage = Outage()
    while not stopping.is_set():
        try:
            outcome = settle(runtime, incoming)
        except TransientError as error:
            stopping.wait(outage.met("intake_paused", error))
        else:
            outage.over()
            return outcome
    return None
