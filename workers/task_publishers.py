"""How stage runs reach the workers: as Celery tasks, published by one thread."""

import uuid
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from celery import Celery

from workers.app import RUN_STAGES, is_amqp, queue_name
from workers.confirmed import AmqpPublisher, KombuPublisher, Outgoing, Published

#: A task: the ids of the stage runs it carries.
Ids = Sequence[int]


class TaskPublisher(Protocol):
    """Of one thread."""

    def connect(self) -> None:
        """As :meth:`workers.confirmed.KombuPublisher.connect`."""

    def publish(self, queue: str, tasks: Sequence[Ids]) -> Published:
        """Send a task for each of ``tasks``; what comes of it is told by the tasks' positions."""

    def close(self) -> None: ...


def make_task_publisher(app: Celery) -> TaskPublisher:
    """What fits the app's broker. Nothing is connected yet."""
    return (AmqpTasks if is_amqp(app.conf.broker_url) else OtherTasks)(app)


def _messages(app: Celery, queue: str, tasks: Sequence[Ids]) -> Iterator[Outgoing]:
    # As Celery's send_task does, without its declaring and its waiting for every single one.
    for position, ids in enumerate(tasks):
        message = app.amqp.as_task_v2(str(uuid.uuid4()), RUN_STAGES, args=[list(ids)])
        yield Outgoing(
            id=position,
            body=message.body,
            options={
                # The default exchange: the routing key is the queue.
                "exchange": "",
                "routing_key": queue_name(queue),
                "serializer": "json",
                "headers": message.headers,
                **message.properties,
            },
        )


class AmqpTasks(AmqpPublisher):
    """RabbitMQ."""

    def __init__(self, app: Celery) -> None:
        super().__init__(app.conf.broker_url)
        self._app = app

    def _declare(self, channel: Any) -> None:
        for queue in self._app.amqp.queues.values():
            queue.bind(channel).declare()

    def publish(self, queue: str, tasks: Sequence[Ids]) -> Published:
        return self.send(_messages(self._app, queue, tasks))


class OtherTasks(KombuPublisher):
    """Redis, and the broker in memory: a message is there when sending it returns."""

    def __init__(self, app: Celery) -> None:
        super().__init__(app.conf.broker_url, **app.conf.broker_transport_options)
        self._app = app
        self._producer: Any = None

    def _open(self) -> None:
        self._producer = self._connection.Producer(auto_declare=False)

    def publish(self, queue: str, tasks: Sequence[Ids]) -> Published:
        published = Published()
        try:
            for message in _messages(self._app, queue, tasks):
                self._producer.publish(message.body, **message.options)
                published.confirmed.append(message.id)
        except self._errors() as error:
            published.error = self._away(error)
        return published
