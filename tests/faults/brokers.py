"""What is left in a broker, unacknowledged messages included once their consumers are gone."""

from collections.abc import Sequence
from contextlib import closing, suppress

import redis
from amqp import Message
from amqp.exceptions import NotFound
from kombu import Connection

#: Of the workers, and of the intake.
QUEUES = ("mediaweave.io", "mediaweave.cpu", "mediaweave.device", "jobs", "jobs.dead")


def messages_left(url: str, queues: Sequence[str] = QUEUES) -> dict[str, int]:
    """Where messages lie: queue (or Redis key) → how many; empty where nothing does."""
    found = _in_redis(url) if url.startswith("redis") else _in_rabbitmq(url, queues)
    return {name: count for name, count in found.items() if count}


def _in_rabbitmq(url: str, queues: Sequence[str]) -> dict[str, int]:
    found = {}
    with Connection(url, connect_timeout=5) as connection:
        for queue in queues:
            # Asking for a queue that does not exist closes the channel.
            with connection.channel() as channel:
                try:
                    found[queue] = channel.queue_declare(queue, passive=True).message_count
                except NotFound:
                    found[queue] = 0
    return found


def _in_redis(url: str) -> dict[str, int]:
    found: dict[str, int] = {}
    with closing(redis.Redis.from_url(url)) as client:
        for key in client.scan_iter():
            name = key.decode()
            kind = client.type(key)
            if kind == b"list":
                found[name] = client.llen(key)
            elif name in ("unacked", "unacked_index"):
                found[name] = client.hlen(key) if kind == b"hash" else client.zcard(key)
            elif kind == b"stream" and name == "jobs":
                # Entries that were dealt with are deleted.
                found[name] = client.xlen(key)
    return found


def empty(url: str) -> None:
    """Remove what an earlier test has left."""
    if url.startswith("redis"):
        with closing(redis.Redis.from_url(url)) as client:
            client.flushall()
        return
    with Connection(url, connect_timeout=5) as connection:
        for queue in QUEUES:
            # Not deleted: RabbitMQ 3.10 loses quorum queues that are declared again before a crash.
            with suppress(NotFound), connection.channel() as channel:
                channel.queue_purge(queue)


def publish_job(url: str, body: bytes, message_id: str) -> None:
    """Send a job as any client would, without Celery; RabbitMQ's queue must be there."""
    if url.startswith("redis"):
        with closing(redis.Redis.from_url(url)) as client:
            client.xadd("jobs", {"message": body})
        return
    with Connection(url, connect_timeout=5) as connection, connection.channel() as channel:
        channel.basic_publish(
            Message(body, message_id=message_id, delivery_mode=2), routing_key="jobs"
        )


def has_queue(url: str, queue: str) -> bool:
    with Connection(url, connect_timeout=5) as connection, connection.channel() as channel:
        try:
            channel.queue_declare(queue, passive=True)
        except NotFound:
            return False
        return True
