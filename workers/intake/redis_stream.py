"""Messages from a Redis Stream: entries with one field ``message``, read by a consumer group."""

import json
import os
import socket
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import redis
import structlog
from kombu.utils.url import maybe_sanitize_url
from redis.exceptions import RedisError, ResponseError

from pipeline.errors import BrokerUnavailableError, ConfigurationError
from pipeline.runner.runtime import Runtime
from workers.intake.handler import (
    GIVEN_BACK_SECONDS,
    Incoming,
    Kind,
    Outcome,
    Verdict,
    message_key,
    settle_patiently,
)
from workers.intake.listener import Listener
from workers.outage import Outage

log = structlog.get_logger()

GROUP = "mediaweave"
FIELD = "message"
PREFETCH = 10
#: Shorter than the socket's patience, and the longest that stopping has to wait.
BLOCK_MILLISECONDS = 2000
#: An entry that was delivered so long ago and is still there: its consumer has died.
RECLAIM_SECONDS = 60.0
#: A consumer of the group that asked for nothing for so long is gone.
FORGET_CONSUMER_SECONDS = 3600

Entry = tuple[bytes, Mapping[bytes, bytes] | None]


class RedisStreamListener(Listener):
    """Takes the entries of one stream; the refused ones go to the stream ``<name>.dead``."""

    def __init__(
        self,
        runtime: Runtime,
        *,
        stream: str,
        kind: Kind,
        reclaim_seconds: float = RECLAIM_SECONDS,
    ) -> None:
        super().__init__(runtime, f"stream {stream}")
        self._stream = stream
        self._kind: Kind = kind
        self._consumer = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._reclaim_seconds = reclaim_seconds
        self._reclaim_at = 0.0
        self._outage = Outage()
        try:
            self._redis = redis.Redis.from_url(
                runtime.settings.broker,
                # The shapes of the answers depend on it.
                protocol=2,
                socket_connect_timeout=5,
                socket_timeout=10,
                socket_keepalive=True,
                health_check_interval=30,
            )
        except ValueError as error:
            raise ConfigurationError(
                "the broker setting is no URL of a Redis; write redis://:password@host:6379/0"
            ) from error

    @property
    def dead_stream(self) -> str:
        return f"{self._stream}.dead"

    def _prepare(self) -> None:
        try:
            self._make_group()
        except ResponseError as error:
            raise ConfigurationError(
                f"the Redis stream {self._stream!r} cannot be read: {error}"
            ) from error
        except RedisError as error:
            where = maybe_sanitize_url(self._runtime.settings.broker)
            raise BrokerUnavailableError(
                f"the broker {where} cannot be reached: {error}"
            ) from error

    def _listen(self) -> None:
        while not self._stopping.is_set():
            try:
                taken = self._take()
                self._outage.over()
                for entry_id, fields, deliveries in taken:
                    if self._stopping.is_set() or not self._settle(entry_id, fields, deliveries):
                        break
            except RedisError as error:
                self._stopping.wait(self._outage.met("broker_lost", error))
                self._recover()
        self._redis.close()

    def _take(self) -> Sequence[tuple[bytes, Mapping[bytes, bytes] | None, int]]:
        """The next entries, each with how often it was delivered."""
        if time.monotonic() >= self._reclaim_at:
            if left := self._reclaim():
                return [(entry_id, fields, self._deliveries(entry_id)) for entry_id, fields in left]
            self._forget_consumers()
            self._reclaim_at = time.monotonic() + self._reclaim_seconds / 2
        answer: Any = self._redis.xreadgroup(
            GROUP, self._consumer, {self._stream: ">"}, count=PREFETCH, block=BLOCK_MILLISECONDS
        )
        return [
            (entry_id, fields, 1) for _, entries in answer or () for entry_id, fields in entries
        ]

    def _settle(
        self, entry_id: bytes, fields: Mapping[bytes, bytes] | None, deliveries: int
    ) -> bool:
        """Handle one entry; gives whether to go on with the next one."""
        if fields is None:  # deleted by somebody while a dead consumer held it
            self._forget(entry_id)
            return True
        body = fields.get(FIELD.encode())
        incoming = Incoming(
            kind=self._kind,
            body=_without_field(fields) if body is None else body,
            key=None if body is None else message_key("redis", entry_id.decode(), body),
            deliveries=deliveries,
        )
        outcome = settle_patiently(self._runtime, incoming, self._stopping)
        if outcome is None:
            return False
        if outcome.verdict is Verdict.AGAIN:
            # It stays pending, and is claimed again like that of a dead consumer.
            self._stopping.wait(GIVEN_BACK_SECONDS)
            return True
        self._forget(entry_id, fields, outcome)
        return True

    def _forget(
        self,
        entry_id: bytes,
        fields: Mapping[bytes, bytes] | None = None,
        outcome: Outcome | None = None,
    ) -> None:
        with self._redis.pipeline(transaction=True) as together:
            if fields is not None and outcome is not None and outcome.verdict is Verdict.REFUSED:
                letter: dict[Any, Any] = {**fields, b"reason": outcome.reason.encode()}
                together.xadd(self.dead_stream, letter)
            together.xack(self._stream, GROUP, entry_id)
            together.xdel(self._stream, entry_id)
            together.execute()

    def _reclaim(self) -> Sequence[Entry]:
        answer: Any = self._redis.xautoclaim(
            self._stream,
            GROUP,
            self._consumer,
            min_idle_time=int(1000 * self._reclaim_seconds),
            count=PREFETCH,
        )
        entries: Sequence[Entry] = answer[1]
        if entries:
            log.info("messages_reclaimed", source=self.name, count=len(entries))
        return entries

    def _deliveries(self, entry_id: bytes) -> int:
        found: Any = self._redis.xpending_range(
            self._stream, GROUP, min=entry_id, max=entry_id, count=1
        )
        return int(found[0]["times_delivered"]) if found else 1

    def _forget_consumers(self) -> None:
        consumers: Any = self._redis.xinfo_consumers(self._stream, GROUP)
        for each in consumers:
            if each["pending"] == 0 and each["idle"] > 1000 * FORGET_CONSUMER_SECONDS:
                self._redis.xgroup_delconsumer(self._stream, GROUP, each["name"])

    def _make_group(self) -> None:
        """From the first entry on: what was added before anybody listened is work too."""
        try:
            self._redis.xgroup_create(self._stream, GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    def _recover(self) -> None:
        """After a restart or a flush the group may be gone; Redis may still be away."""
        with suppress(RedisError):
            self._make_group()


def _without_field(fields: Mapping[bytes, bytes]) -> bytes:
    """What to show of an entry that does not follow the form; it is no valid message either."""
    shown = {
        name.decode(errors="backslashreplace"): value.decode(errors="backslashreplace")
        for name, value in fields.items()
    }
    return f"no field `{FIELD}`, but: {json.dumps(shown, ensure_ascii=False)}".encode()
