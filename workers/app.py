"""The Celery app: JSON only, late acknowledgement, one queue per kind of work.

Celery carries ids of stage runs, nothing else: what is due, and what came of it, is in the
database.
"""

from typing import Any

from celery import Celery
from kombu import Queue  # type: ignore[attr-defined]
from kombu.exceptions import OperationalError

from pipeline.config import Settings
from pipeline.errors import BrokerUnavailableError, ConfigurationError
from pipeline.stages.base import QUEUES

RUN_STAGES = "mediaweave.run_stages"
#: A day and a half: longer than what a message carries may take.
CONSUMER_TIMEOUT_MS = 36 * 3600 * 1000
#: A broker that does not answer for so long is away.
BROKER_SECONDS = 10


def queue_name(queue: str) -> str:
    """The broker's name of one of our queues."""
    return f"mediaweave.{queue}"


def make_app(settings: Settings) -> Celery:
    """A Celery app for the settings' broker. Nothing is connected yet."""
    app = Celery("mediaweave", broker=settings.broker, set_as_current=False)
    app.conf.update(
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        task_queues=[_queue(queue, settings.broker) for queue in QUEUES],
        task_default_queue=queue_name("io"),
        task_create_missing_queues=False,
        broker_connection_timeout=5,
        broker_connection_retry_on_startup=True,
        # For ever: a broker may be away for a night.
        broker_connection_max_retries=None,
        broker_transport_options=_transport_options(settings.broker),
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        # Nobody listens: what runs is a query, not a broadcast.
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
    )
    return app


def is_amqp(broker: str) -> bool:
    """Whether the broker's URL is of RabbitMQ."""
    return broker.partition(":")[0] in ("amqp", "amqps", "pyamqp")


def _queue(queue: str, broker: str) -> Any:
    arguments = (
        # Replicated where there are several nodes; a stage may take longer than the half hour
        # after which RabbitMQ would take its message away (and the worker's connection with it).
        {"x-queue-type": "quorum", "x-consumer-timeout": CONSUMER_TIMEOUT_MS}
        if is_amqp(broker)
        else {}
    )
    return Queue(queue_name(queue), durable=True, queue_arguments=arguments)  # type: ignore[no-untyped-call]


def _transport_options(broker: str) -> dict[str, Any]:
    scheme = broker.partition(":")[0].partition("+")[0]
    if scheme == "memory":
        return {"polling_interval": 0.01}
    if is_amqp(broker):
        # A broker that hangs is one that is away.
        return {"read_timeout": BROKER_SECONDS, "write_timeout": BROKER_SECONDS}
    if scheme in ("redis", "rediss"):
        # The lease in the database brings lost work back; redelivery is only a second net.
        return {
            "visibility_timeout": 3600,
            "socket_timeout": BROKER_SECONDS,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
        }
    return {}


def check_broker(app: Celery) -> None:
    """Raises BrokerUnavailableError unless the broker answers."""
    try:
        connection = app.connection_for_write()
    except (KeyError, ImportError, NameError, ValueError) as error:
        raise ConfigurationError(
            "the broker setting is no URL of a broker that is installed; write "
            "amqp://user:password@host/ or redis://host:6379/0"
        ) from error
    try:
        connection.ensure_connection(max_retries=1, interval_start=0, timeout=5)
    except (OperationalError, OSError) as error:
        raise BrokerUnavailableError(
            f"the broker {connection.as_uri()} cannot be reached: {error}"
        ) from error
    finally:
        connection.release()
