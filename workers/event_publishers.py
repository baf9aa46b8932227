"""How events reach whoever listens: RabbitMQ's topic exchange, a Redis stream, or nobody."""

from collections.abc import Sequence
from typing import Any, Protocol

import structlog
from kombu import Exchange  # type: ignore[attr-defined]

from pipeline.config import Settings
from pipeline.db.outbox import Event
from workers.confirmed import (
    CONFIRM_SECONDS,
    CONNECT_SECONDS,
    AmqpPublisher,
    KombuPublisher,
    Outgoing,
    Published,
)

log = structlog.get_logger()

#: A stream keeps about so many events, however few read it.
STREAM_LENGTH = 100_000


class EventPublisher(Protocol):
    """Of one thread."""

    def connect(self) -> None:
        """As :meth:`workers.confirmed.KombuPublisher.connect`."""

    def publish(self, events: Sequence[Event]) -> Published:
        """Send in order, and wait for confirmation; tells of failure in what it gives."""

    def close(self) -> None: ...


def make_event_publisher(settings: Settings) -> EventPublisher:
    """What fits the settings' broker. Nothing is connected yet."""
    scheme = settings.broker.partition(":")[0].partition("+")[0]
    if scheme in ("amqp", "amqps", "pyamqp"):
        return AmqpEvents(settings.broker, settings.events.exchange)
    if scheme in ("redis", "rediss", "sentinel"):
        return RedisEvents(settings.broker, settings.events.exchange)
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


class AmqpEvents(AmqpPublisher):
    """A topic exchange; the routing key is the event's topic."""

    def __init__(self, url: str, exchange: str) -> None:
        super().__init__(url)
        self._exchange = Exchange(exchange, type="topic", durable=True)  # type: ignore[no-untyped-call]

    def _declare(self, channel: Any) -> None:
        self._exchange(channel).declare()  # type: ignore[no-untyped-call]

    def publish(self, events: Sequence[Event]) -> Published:
        return self.send(
            Outgoing(
                id=event.id,
                body=event.payload,
                options={
                    "exchange": self._exchange,
                    "routing_key": event.topic,
                    "content_type": "application/json",
                    "content_encoding": "utf-8",
                    "message_id": str(event.id),
                },
            )
            for event in events
        )


class RedisEvents(KombuPublisher):
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
