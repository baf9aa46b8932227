"""How events reach whoever listens: RabbitMQ's topic exchange, a Redis stream, or nobody."""

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import structlog
from amqp.exceptions import (  # type: ignore[import-untyped]
    AccessRefused,
    PreconditionFailed,
)
from kombu import Connection, Exchange, Producer  # type: ignore[attr-defined]
from kombu.exceptions import KombuError

from pipeline.config import Settings
from pipeline.db.outbox import Event
from pipeline.errors import BrokerUnavailableError, ConfigurationError

log = structlog.get_logger()

CONNECT_SECONDS = 5
#: How long a broker may take to confirm a batch. A transaction is held meanwhile.
CONFIRM_SECONDS = 5
#: A stream keeps about so many events, however few read it.
STREAM_LENGTH = 100_000


@dataclass(kw_only=True)
class Published:
    """What came of a batch. Neither confirmed nor refused: unknown, to be sent again."""

    confirmed: list[int] = field(default_factory=list)
    #: Ids that the broker would not take, and why.
    refused: dict[int, str] = field(default_factory=dict)
    error: BrokerUnavailableError | None = None


class Publisher(Protocol):
    """Of one thread. :meth:`connect` may be called at any time, and does nothing if it is done."""

    def connect(self) -> None:
        """May take :data:`CONNECT_SECONDS`.

        Raises:
            BrokerUnavailableError: the broker cannot be reached.
            ConfigurationError: it refuses us, or our exchange.
        """

    def publish(self, events: Sequence[Event]) -> Published:
        """Send in order, and wait for confirmation; tells of failure in what it gives."""

    def close(self) -> None: ...


def make_publisher(settings: Settings) -> Publisher:
    """What fits the settings' broker. Nothing is connected yet."""
    scheme = settings.broker.partition(":")[0].partition("+")[0]
    if scheme in ("amqp", "amqps", "pyamqp"):
        return AmqpPublisher(settings.broker, settings.events.exchange)
    if scheme in ("redis", "rediss", "sentinel"):
        return RedisPublisher(settings.broker, settings.events.exchange)
    if not settings.is_broker_embedded:
        log.warning("events_not_published", reason=f"not with a broker of the kind {scheme}")
    return Nobody()


class Nobody:
    """The embedded broker: no other process can listen, so that every event counts as sent."""

    def connect(self) -> None:
        pass

    def publish(self, events: Sequence[Event]) -> Published:
        return Published(confirmed=[event.id for event in events])

    def close(self) -> None:
        pass


class _KombuPublisher(ABC):
    """The connection, and the translation of its errors."""

    def __init__(self, url: str, **transport_options: Any) -> None:
        self._url = url
        self._transport_options = transport_options
        self._connection = self._new_connection()
        self._is_open = False

    def _new_connection(self) -> Any:
        return Connection(  # type: ignore[no-untyped-call]
            self._url, connect_timeout=CONNECT_SECONDS, transport_options=self._transport_options
        )

    def connect(self) -> None:
        if self._is_open:
            return
        self._connection = self._new_connection()
        try:
            self._connection.ensure_connection(
                max_retries=1, interval_start=0, timeout=CONNECT_SECONDS
            )
            self._open()
        except (AccessRefused, PreconditionFailed) as error:
            self._drop()
            raise ConfigurationError(
                f"the broker {self._connection.as_uri()} refuses to let events be published: "
                f"{error}"
            ) from error
        except self._errors() as error:
            raise self._away(error) from error
        self._is_open = True

    @abstractmethod
    def _open(self) -> None:
        """Prepare what publishing needs on a connection that stands."""

    def close(self) -> None:
        self._is_open = False
        # What cannot be closed in order is gone already.
        with suppress(*self._errors()):
            self._connection.close()

    def _drop(self) -> None:
        """Without the farewell that a broker which hangs would let us wait for."""
        self._is_open = False
        with suppress(*self._errors()):
            self._connection.collect()

    def _errors(self) -> tuple[type[Exception], ...]:
        known = (*self._connection.connection_errors, *self._connection.channel_errors)
        return (*known, KombuError, OSError)

    def _away(self, error: Exception) -> BrokerUnavailableError:
        self._drop()
        reason = str(error) or type(error).__name__
        return BrokerUnavailableError(
            f"the broker {self._connection.as_uri()} cannot be reached: {reason}"
        )


class AmqpPublisher(_KombuPublisher):
    """RabbitMQ, with publisher confirms: a batch is sent at once, then waited for."""

    def __init__(self, url: str, exchange: str) -> None:
        super().__init__(url, read_timeout=CONFIRM_SECONDS, write_timeout=CONFIRM_SECONDS)
        self._exchange = Exchange(exchange, type="topic", durable=True)  # type: ignore[no-untyped-call]
        self._producer: Any = None
        self._last_tag = 0
        # Delivery tag → id of the event, of what is not confirmed yet.
        self._pending: dict[int, int] = {}
        self._published = Published()

    def _open(self) -> None:
        channel = self._connection.channel()
        # py-amqp's own way (confirm_publish) waits for every single message.
        channel.confirm_select()
        channel.events["basic_ack"].add(self._on_ack)
        channel.events["basic_nack"].add(self._on_nack)
        self._exchange(channel).declare()  # type: ignore[no-untyped-call]
        self._producer = Producer(  # type: ignore[no-untyped-call]
            channel, self._exchange, auto_declare=False
        )
        self._last_tag = 0

    def publish(self, events: Sequence[Event]) -> Published:
        self._pending = {}
        self._published = Published()
        try:
            for event in events:
                self._last_tag += 1
                self._pending[self._last_tag] = event.id
                self._producer.publish(
                    event.payload,
                    routing_key=event.topic,
                    content_type="application/json",
                    content_encoding="utf-8",
                    delivery_mode="persistent",
                    message_id=str(event.id),
                    timeout=CONFIRM_SECONDS,
                )
            deadline = time.monotonic() + CONFIRM_SECONDS
            while self._pending:
                self._connection.drain_events(timeout=max(deadline - time.monotonic(), 0.001))
        except self._errors() as error:
            self._published.error = self._away(error)
        return self._published

    def _on_ack(self, delivery_tag: int, multiple: bool) -> None:
        self._published.confirmed += self._answered(delivery_tag, multiple)

    def _on_nack(self, delivery_tag: int, multiple: bool) -> None:
        for event_id in self._answered(delivery_tag, multiple):
            self._published.refused[event_id] = "a queue of the exchange took no more"

    def _answered(self, delivery_tag: int, multiple: bool) -> list[int]:
        tags = [tag for tag in self._pending if tag <= delivery_tag] if multiple else [delivery_tag]
        return [self._pending.pop(tag) for tag in tags]


class RedisPublisher(_KombuPublisher):
    """A Redis stream with the fields ``id``, ``topic`` and ``body``."""

    def __init__(self, url: str, stream: str) -> None:
        super().__init__(
            url,
            socket_timeout=CONFIRM_SECONDS,
            socket_connect_timeout=CONNECT_SECONDS,
            socket_keepalive=True,
        )
        self._stream = stream
        self._client: Any = None

    def _open(self) -> None:
        # kombu's client, not one of our own: the URL means the same as for the queues.
        self._client = self._connection.default_channel.client
        self._client.ping()

    def publish(self, events: Sequence[Event]) -> Published:
        pipeline = self._client.pipeline(transaction=False)
        for event in events:
            entry = {"id": event.id, "topic": event.topic, "body": event.payload}
            pipeline.xadd(self._stream, entry, maxlen=STREAM_LENGTH, approximate=True)
        published = Published()
        try:
            answers = pipeline.execute(raise_on_error=False)
        except self._errors() as error:
            published.error = self._away(error)
            return published
        for event, answer in zip(events, answers, strict=True):
            if isinstance(answer, Exception):
                published.refused[event.id] = str(answer)
            else:
                published.confirmed.append(event.id)
        return published
