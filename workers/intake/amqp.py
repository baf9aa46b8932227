"""Messages from a RabbitMQ queue: plain bodies from any client, in a queue of our own.

Bodies are taken from py-amqp as raw bytes. kombu's own messages would decode and decompress them as
their headers say, so that a header could end this process.
"""

import time
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import structlog
from amqp import Message  # type: ignore[import-untyped]
from amqp.exceptions import (  # type: ignore[import-untyped]
    AccessRefused,
    MessageNacked,
    PreconditionFailed,
)
from kombu import Connection  # type: ignore[attr-defined]
from kombu.exceptions import OperationalError
from kombu.mixins import ConsumerMixin

from pipeline.errors import BrokerUnavailableError, ConfigurationError, TransientError
from pipeline.runner.runtime import Runtime
from workers.intake.handler import (
    GIVEN_BACK_SECONDS,
    Incoming,
    Kind,
    Outcome,
    Verdict,
    message_key,
    settle,
)
from workers.intake.listener import Listener
from workers.outage import Outage

log = structlog.get_logger()

#: Messages this process holds at once; the others stay for other intakes.
PREFETCH = 10
HEARTBEAT_SECONDS = 30
CONNECT_SECONDS = 5
CONFIRM_SECONDS = 30
#: A dead letter's reason, and the number of failed deliveries (set by RabbitMQ).
REASON_HEADER = "x-mediaweave-reason"
DELIVERY_COUNT_HEADER = "x-delivery-count"


class AmqpListener(Listener, ConsumerMixin):
    """Takes the messages of one durable quorum queue; the refused ones go to ``<queue>.dead``."""

    def __init__(self, runtime: Runtime, *, queue: str, kind: Kind) -> None:
        super().__init__(runtime, f"queue {queue}")
        self._queue = queue
        self._kind: Kind = kind
        self._held: deque[Any] = deque()
        self._outage = Outage()
        self._resume_at = 0.0
        try:
            self.connection: Any = Connection(  # type: ignore[no-untyped-call]
                runtime.settings.broker,
                heartbeat=HEARTBEAT_SECONDS,
                connect_timeout=CONNECT_SECONDS,
                transport_options={"confirm_publish": True},
            )
        except ValueError as error:
            raise ConfigurationError(
                "the broker setting is not a URL; write amqp://user:password@host/"
            ) from error

    @property
    def dead_queue(self) -> str:
        return f"{self._queue}.dead"

    def stop(self) -> None:
        super().stop()
        # kombu asks this between messages, and every second where there are none.
        self.should_stop = True

    def _prepare(self) -> None:
        with self.connection.clone() as connection:
            try:
                connection.ensure_connection(max_retries=1, interval_start=0)
                self._declare(connection.default_channel)
            except (
                OperationalError,
                *connection.connection_errors,
                *connection.channel_errors,
            ) as error:
                raise BrokerUnavailableError(
                    f"the broker {connection.as_uri()} cannot be reached: {error}"
                ) from error

    def _listen(self) -> None:
        lost = (
            *self.connection.connection_errors,
            *self.connection.channel_errors,
            MessageNacked,
        )
        while not self.should_stop:
            try:
                for _ in self.consume():  # type: ignore[no-untyped-call]
                    pass
            except lost as error:
                # The broker delivers again whatever was not acknowledged.
                log.warning("broker_lost", source=self.name, reason=str(error))
                self._stopping.wait(1)
            except _StoppedError:
                return

    def on_connection_error(self, exc: Exception, interval: float) -> None:
        """Called by kombu before each pause of the reconnecting."""
        log.warning("broker_away", source=self.name, reason=str(exc), seconds=interval)

    @contextmanager
    def establish_connection(self) -> Iterator[Connection]:
        """Called by kombu: a new connection, however long that takes."""
        with self.connection.clone() as connection:
            connection.ensure_connection(
                self.on_connection_error,
                interval_start=1,
                interval_step=1,
                interval_max=10,
                callback=self._check_still_wanted,
            )
            yield connection

    def _check_still_wanted(self) -> None:
        if self.should_stop:
            raise _StoppedError

    def get_consumers(
        self, consumer_class: object, channel: Any
    ) -> list[AbstractContextManager[None]]:
        """Called by kombu on each new connection."""
        del consumer_class  # it decodes
        self._held.clear()
        self._declare(channel)
        return [self._consuming(channel)]

    @contextmanager
    def _consuming(self, channel: Any) -> Iterator[None]:
        # Else py-amqp turns the body into text where the sender named an encoding.
        channel.auto_decode = False
        channel.basic_qos(0, PREFETCH, False)
        channel.basic_consume(self._queue, callback=self._held.append)
        yield

    def _declare(self, channel: Any) -> None:
        durable = {"durable": True, "auto_delete": False}
        quorum = {"x-queue-type": "quorum"}
        # What RabbitMQ itself gives up (its delivery limit, an operator's policy) is kept as well.
        gives_up_to = {
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": self.dead_queue,
        }
        for name, arguments in ((self.dead_queue, quorum), (self._queue, quorum | gives_up_to)):
            try:
                channel.queue_declare(name, arguments=arguments, **durable)
            except PreconditionFailed as error:
                raise ConfigurationError(
                    f"the queue {name!r} of the broker was made with other properties than "
                    f"durable and {arguments}; delete it, or name another in intake.jobs_queue "
                    "or intake.events_queue"
                ) from error
            except AccessRefused as error:
                raise ConfigurationError(
                    f"the broker does not let this user declare the queue {name!r}: "
                    f"{error.reply_text}"
                ) from error

    def on_iteration(self) -> None:
        """Called by kombu between messages, and every second where there are none.

        Messages are settled here and not as they arrive: so the connection stays alive, and they
        stay unacknowledged, however long the database is away.
        """
        while self._held and not self.should_stop and time.monotonic() >= self._resume_at:
            raw = self._held[0]
            try:
                outcome = settle(self._runtime, self._incoming(raw))
            except TransientError as error:
                self._pause(self._outage.met("intake_paused", error))
                return
            self._outage.over()
            self._held.popleft()
            self._answer(raw, outcome)

    def _incoming(self, raw: Any) -> Incoming:
        body = _raw_bytes(raw)
        message_id = raw.properties.get("message_id")
        headers = raw.properties.get("application_headers") or {}
        failed = headers.get(DELIVERY_COUNT_HEADER, 0)
        return Incoming(
            kind=self._kind,
            body=body,
            key=message_key("amqp", str(message_id), body) if message_id else None,
            deliveries=1 + (failed if isinstance(failed, int) else 0),
        )

    def _answer(self, raw: Any, outcome: Outcome) -> None:
        if outcome.verdict is Verdict.AGAIN:
            raw.channel.basic_reject(raw.delivery_tag, requeue=True)
            self._pause(GIVEN_BACK_SECONDS)
            return
        if outcome.verdict is Verdict.REFUSED:
            self._bury(raw, outcome.reason)
        raw.channel.basic_ack(raw.delivery_tag)

    def _bury(self, raw: Any, reason: str) -> None:
        """Put a copy into the queue of dead letters; returns once the broker has it."""
        known = {name: raw.properties.get(name) for name in ("content_type", "message_id")}
        letter = Message(
            _raw_bytes(raw),
            delivery_mode=2,
            application_headers={REASON_HEADER: reason[:2000]},
            **{name: value for name, value in known.items() if isinstance(value, str)},
        )
        raw.channel.basic_publish(
            letter,
            exchange="",
            routing_key=self.dead_queue,
            # A queue that somebody has deleted is an error, not an acknowledgement.
            mandatory=True,
            confirm_timeout=CONFIRM_SECONDS,
        )

    def _pause(self, seconds: float) -> None:
        self._resume_at = time.monotonic() + seconds


class _StoppedError(Exception):
    """Breaks off kombu's waiting for the broker."""


def _raw_bytes(raw: Any) -> bytes:
    # Where there is no body at all py-amqp gives an empty text.
    return raw.body.encode() if isinstance(raw.body, str) else bytes(raw.body)
