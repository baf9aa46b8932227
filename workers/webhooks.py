"""Calls webhooks, many at a time, in one thread with an event loop of its own.

asyncio, because a receiver that answers one byte at a time outlives every timeout but one around
the whole call.
"""

import asyncio
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2
import structlog
from sqlalchemy import Connection

from pipeline.config import Settings
from pipeline.db import outbox
from pipeline.db.engine import Database
from pipeline.db.outbox import Event
from pipeline.db.webhooks import check_webhook, signed_headers, signing_key
from pipeline.errors import ConfigurationError, DatabaseUnavailableError
from workers.outage import Outage

log = structlog.get_logger()

#: Calls under way at once.
CALLS_AT_ONCE = 32
#: How often the thread looks for webhooks that are due.
POLL_SECONDS = 1.0
#: How long a stopping relay waits for calls under way.
STOP_SECONDS = 3
#: Pause after the first failure; each further one is four times as long: with the eight attempts
#: of the default they take 23 hours.
FIRST_PAUSE_SECONDS = 15
PAUSE_FACTOR = 4
MAX_PAUSE_SECONDS = 86_400
#: Of an answer that is no success, so much is read, and so much of it told.
ANSWER_BYTES, ANSWER_CHARACTERS = 1024, 200
#: Answers below 500 that may be different next time.
RETRIED_STATUSES = frozenset({408, 429})


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a call failed. ``retry_after``: seconds the receiver asked for."""

    reason: str
    is_final: bool = False
    retry_after: float = 0


class WebhookSender:
    """Takes due webhooks, calls them, and marks what came of it."""

    def __init__(self, database: Database, settings: Settings, stop: threading.Event) -> None:
        """Raises ConfigurationError: there is no secret to sign with."""
        self._database = database
        self._settings = settings
        self._stop = stop
        self._key = signing_key(settings)
        # Long enough to write down what came of the call, whatever the database is busy with.
        self._lease_seconds = settings.events.webhook_timeout_seconds + 60
        self._outage = Outage()

    def run(self) -> None:
        """Until stopped."""
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        # One thread for each lookup of a host name, which cannot be interrupted, and some for us.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(CALLS_AT_ONCE + 4))
        calls: set[asyncio.Task[None]] = set()
        async with self._client() as client:
            while not self._stop.is_set():
                room = CALLS_AT_ONCE - len(calls)
                events, pause = await asyncio.to_thread(self._take, room)
                for event in events:
                    call = asyncio.create_task(self._deliver(client, event))
                    calls.add(call)
                    call.add_done_callback(calls.discard)
                if events:
                    continue
                if calls:
                    await asyncio.wait(calls, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
                else:
                    await asyncio.to_thread(self._stop.wait, pause)
            await _finish(calls)

    def _client(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(
            timeout=self._settings.events.webhook_timeout_seconds,
            follow_redirects=False,
            limits=httpx2.Limits(max_connections=CALLS_AT_ONCE, max_keepalive_connections=0),
            # An answer is not unpacked: a small one could become large.
            headers={"user-agent": "mediaweave", "accept-encoding": "identity"},
        )

    def _take(self, room: int) -> tuple[list[Event], float]:
        """Due webhooks, and how long to wait where there are none."""
        if room == 0:
            return [], POLL_SECONDS
        try:
            with self._database.reading() as connection:
                due = outbox.any_due(connection, "webhook")
            events = []
            if due:
                with self._database.transaction() as connection:
                    events = outbox.take_batch(
                        connection, room, "webhook", lease_seconds=self._lease_seconds
                    )
        except DatabaseUnavailableError as error:
            return [], self._outage.met("database_away", error)
        except Exception:
            log.exception("webhooks_bug")
            return [], POLL_SECONDS
        self._outage.over()
        return events, POLL_SECONDS

    async def _deliver(self, client: httpx2.AsyncClient, event: Event) -> None:
        try:
            failure = await self._call(client, event)
        except asyncio.CancelledError:
            self._write(lambda connection: outbox.give_back(connection, event))
            raise
        except Exception:
            # Its time with us runs out, and the next attempt is as loud.
            log.exception("webhooks_bug", outbox_id=event.id)
            return
        await asyncio.to_thread(self._record, event, failure)

    async def _call(self, client: httpx2.AsyncClient, event: Event) -> Failure | None:
        seconds = self._settings.events.webhook_timeout_seconds
        try:
            url = check_webhook(event.webhook or "", self._settings)
        except ConfigurationError as error:
            return Failure(reason=str(error), is_final=True)
        body = event.payload.encode()
        headers = {
            "content-type": "application/json",
            **signed_headers(self._key, event_id=event.id, timestamp=int(time.time()), body=body),
        }
        try:
            async with (
                asyncio.timeout(seconds),
                client.stream("POST", url, content=body, headers=headers) as answer,
            ):
                return await _judge(answer)
        except (TimeoutError, httpx2.TimeoutException):
            return Failure(reason=f"no answer within {seconds:g} seconds")
        except (httpx2.HTTPError, OSError) as error:
            return Failure(reason=str(error) or type(error).__name__)

    def _record(self, event: Event, failure: Failure | None) -> None:
        host = httpx2.URL(event.webhook or "").host
        if failure is None:
            log.info("webhook_called", outbox_id=event.id, host=host, attempt=event.attempt)
            self._write(lambda connection: outbox.mark_sent(connection, [event.id]))
            return
        retry_in = self._pause(event, failure)
        log.warning(
            "webhook_failed" if retry_in is not None else "webhook_given_up",
            outbox_id=event.id,
            host=host,
            attempt=event.attempt,
            reason=failure.reason,
        )
        self._write(
            lambda connection: outbox.mark_failed(
                connection, event, failure.reason, retry_in=retry_in
            )
        )

    def _pause(self, event: Event, failure: Failure) -> float | None:
        """Seconds to the next attempt; ``None`` where it was the last."""
        if failure.is_final or event.attempt >= self._settings.events.webhook_attempts:
            return None
        # Beyond ten times four no pause is below the longest.
        pause: float = FIRST_PAUSE_SECONDS * PAUSE_FACTOR ** min(event.attempt - 1, 10)
        pause *= random.uniform(0.8, 1.2)  # noqa: S311  spreads, guards nothing
        return min(max(pause, failure.retry_after), MAX_PAUSE_SECONDS)

    def _write(self, mark: Callable[[Connection], Any]) -> None:
        try:
            with self._database.transaction() as connection:
                mark(connection)
        except DatabaseUnavailableError as error:
            # The lease runs out and the webhook is called again: at least once.
            self._outage.met("database_away", error)


async def _finish(calls: set[asyncio.Task[None]]) -> None:
    """Let calls end; what takes too long is given back."""
    if not calls:
        return
    _, late = await asyncio.wait(calls, timeout=STOP_SECONDS)
    for call in late:
        call.cancel()
    await asyncio.gather(*late, return_exceptions=True)


async def _judge(answer: httpx2.Response) -> Failure | None:
    status = answer.status_code
    if answer.is_success:
        return None
    reason = f"answered {status}"
    if answer.is_redirect:
        return Failure(reason=f"{reason}; redirects are not followed", is_final=True)
    if beginning := await _beginning(answer):
        reason = f"{reason}: {beginning}"
    if status < 500 and status not in RETRIED_STATUSES:
        return Failure(reason=reason, is_final=True)
    return Failure(reason=reason, retry_after=_retry_after(answer.headers.get("retry-after", "")))


async def _beginning(answer: httpx2.Response) -> str:
    """The first words of an answer, on one line."""
    read = b""
    async for chunk in answer.aiter_raw(ANSWER_BYTES):
        read += chunk
        if len(read) >= ANSWER_BYTES:
            break
    return " ".join(read.decode(errors="replace").split())[:ANSWER_CHARACTERS]


def _retry_after(value: str) -> float:
    """Seconds from now; 0 where the header is absent or makes no sense."""
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return 0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max((moment - datetime.now(UTC)).total_seconds(), 0)
