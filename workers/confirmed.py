"""Publishing from one thread, on a connection of its own that no broker can hang.

Whatever is read or written is bounded in time, and a connection that failed is dropped without the
farewell that a hanging broker would let us wait for.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from amqp.exceptions import (  # type: ignore[import-untyped]
    AccessRefused,
    PreconditionFailed,
)
from kombu import Connection, Producer  # type: ignore[attr-defined]
from kombu.exceptions import KombuError

from pipeline.errors import BrokerUnavailableError, ConfigurationError

CONNECT_SECONDS = 5
#: How long a broker may take to confirm a batch.
CONFIRM_SECONDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A message. ``id``: what its sender calls it; ``options``: of kombu's ``Producer.publish``."""

    id: int
    body: Any
    options: dict[str, Any]


@dataclass(kw_only=True)
class Published:
    """What came of a batch. Neither confirmed nor refused: unknown, to be sent again."""

    confirmed: list[int] = field(default_factory=list)
    #: Ids that the broker would not take, and why.
    refused: dict[int, str] = field(default_factory=dict)
    error: BrokerUnavailableError | None = None


class KombuPublisher(ABC):
    """The connection, and the translation of its errors.

    :meth:`connect` may be called at any time, and does nothing if it is done.
    """

    def __init__(self, url: str, **transport_options: Any) -> None:
        self._url = url
        self._transport_options = transport_options
        self._connection: Any = None
        self._is_open = False

    def _new_connection(self) -> Any:
        return Connection(  # type: ignore[no-untyped-call]
            self._url, connect_timeout=CONNECT_SECONDS, transport_options=self._transport_options
        )

    def connect(self) -> None:
        """May take :data:`CONNECT_SECONDS`.

        Raises:
            BrokerUnavailableError: the broker cannot be reached.
            ConfigurationError: it refuses us, or what we declare.
        """
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
                f"the broker {self._connection.as_uri()} refuses to let us publish: {error}"
            ) from error
        except self._errors() as error:
            raise self._away(error) from error
        self._is_open = True

    @abstractmethod
    def _open(self) -> None:
        """Prepare what publishing needs on a connection that stands."""

    def close(self) -> None:
        self._is_open = False
        if self._connection is not None:
            # What cannot be closed in order is gone already.
            with suppress(*self._errors()):
                self._connection.close()

    def _drop(self) -> None:
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


class AmqpPublisher(KombuPublisher):
    """RabbitMQ, with publisher confirms: a batch is sent at once, then waited for."""

    def __init__(self, url: str) -> None:
        super().__init__(url, read_timeout=CONFIRM_SECONDS, write_timeout=CONFIRM_SECONDS)
        self._producer: Any = None
        self._last_tag = 0
        # Delivery tag → id of the message, of what is not confirmed yet.
        self._pending: dict[int, int] = {}
        self._published = Published()

    def _open(self) -> None:
        channel = self._connection.channel()
        # py-amqp's own way (confirm_publish) waits for every single message.
        channel.confirm_select()
        channel.events["basic_ack"].add(self._on_ack)
        channel.events["basic_nack"].add(self._on_nack)
        self._declare(channel)
        self._producer = Producer(channel, auto_declare=False)  # type: ignore[no-untyped-call]
        self._last_tag = 0

    @abstractmethod
    def _declare(self, channel: Any) -> None:
        """Declare what is published to."""

    def send(self, batch: Iterable[Outgoing]) -> Published:
        """Send in order, and wait for confirmation; tells of failure in what it gives."""
        self._pending = {}
        self._published = Published()
        try:
            for message in batch:
                self._last_tag += 1
                self._pending[self._last_tag] = message.id
                self._producer.publish(
                    message.body,
                    delivery_mode="persistent",
                    timeout=CONFIRM_SECONDS,
                    **message.options,
                )
            deadline = time.monotonic() + CONFIRM_SECONDS
            while self._pending:
                self._connection.drain_events(timeout=max(deadline - time.monotonic(), 0.001))
        except self._errors() as error:
            self._published.error = self._away(error)
        except BaseException:
            # Late confirmations would be taken for those of the next batch.
            self._drop()
            raise
        return self._published

    def _on_ack(self, delivery_tag: int, multiple: bool) -> None:
        self._published.confirmed += self._answered(delivery_tag, multiple)

    def _on_nack(self, delivery_tag: int, multiple: bool) -> None:
        for message_id in self._answered(delivery_tag, multiple):
            self._published.refused[message_id] = "a queue took no more"

    def _answered(self, delivery_tag: int, multiple: bool) -> list[int]:
        tags = [tag for tag in self._pending if tag <= delivery_tag] if multiple else [delivery_tag]
        return [self._pending.pop(tag) for tag in tags]
