"""Events over real brokers to a plain client."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import amqp  # type: ignore[import-untyped]
import pytest
import redis
import servers
from events import add_events, made_runtime, running, unsent, until
from kombu.utils.url import parse_url
from sqlalchemy import text, update
from structlog.testing import capture_logs

from pipeline.db import outbox
from pipeline.errors import BrokerUnavailableError, ConfigurationError
from pipeline.runner.runtime import Runtime
from schemas.operations import outbox as outbox_table
from workers.relay import Relay

EXCHANGE = "mediaweave.events"


class Listener:
    """A consumer that knows AMQP only: a durable queue bound to the exchange."""

    def __init__(self, url: str, key: str = "#") -> None:
        self._url = url
        self.queue = f"reader-{key}"
        with self._channel() as channel:
            channel.exchange_declare(EXCHANGE, "topic", durable=True, auto_delete=False)
            channel.queue_declare(self.queue, durable=True, auto_delete=False)
            channel.queue_bind(self.queue, EXCHANGE, key)
            channel.queue_purge(self.queue)
        self.messages: list[Any] = []

    @contextmanager
    def _channel(self) -> Iterator[Any]:
        parts = parse_url(self._url)
        host = f"{parts['hostname']}:{parts['port']}"
        with amqp.Connection(host, userid="guest", password="guest") as connection:
            yield connection.channel()

    def read(self) -> list[Any]:
        """All messages that have come so far."""
        with self._channel() as channel:
            while (message := channel.basic_get(self.queue, no_ack=True)) is not None:
                self.messages.append(message)
        return self.messages

    def ids(self) -> list[int]:
        return [int(message.properties["message_id"]) for message in self.read()]


def test_a_plain_client_of_rabbitmq_gets_each_event(rabbitmq_url: str, tmp_path: Path) -> None:
    everything, failures = Listener(rabbitmq_url), Listener(rabbitmq_url, "asset.failed")
    with made_runtime(tmp_path, rabbitmq_url) as runtime, running(runtime):
        ids = add_events(runtime, 120)
        ids += add_events(runtime, 2, topic="asset.failed")
        ids += add_events(runtime, topic="job.failed")
        until(lambda: unsent(runtime) == 0)
    assert everything.ids() == ids, "each once, in order"
    assert failures.ids() == ids[120:122]
    message = everything.messages[0]
    assert json.loads(message.body) == {"number": 0, "uri": "file:///é"}
    assert message.properties["content_type"] == "application/json"
    assert message.properties["delivery_mode"] == 2
    assert message.delivery_info["routing_key"] == "asset.done"
    assert everything.messages[-1].delivery_info["routing_key"] == "job.failed"


def test_an_event_that_nobody_marked_comes_again_under_its_id(
    rabbitmq_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = Listener(rabbitmq_url)
    with made_runtime(tmp_path, rabbitmq_url) as runtime:
        ids = add_events(runtime, 3)
        doomed, successor = Relay(runtime), Relay(runtime)
        with monkeypatch.context() as patch:

            def die(*_: Any) -> None:
                raise KeyboardInterrupt

            patch.setattr(outbox, "mark_sent", die)
            with pytest.raises(KeyboardInterrupt):
                doomed.publish_batch()
        assert successor.publish_batch() == 3
        assert successor.publish_batch() == 0
        assert listener.ids() == ids * 2
        for relay in (doomed, successor):
            relay.stop()


def test_a_broker_that_stops_in_between_loses_no_event(tmp_path: Path) -> None:
    with (
        servers.rabbitmq_server() as server,
        made_runtime(tmp_path, server.url) as runtime,
        capture_logs() as logs,
    ):
        listener = Listener(server.url)
        with running(runtime):
            ids = add_events(runtime, 150)
            until(lambda: unsent(runtime) < 150)
            server.process.stop()
            ids += add_events(runtime, 150)
            until(lambda: any(log["event"] == "events_wait_for_the_broker" for log in logs))
            assert unsent(runtime) >= 150
            server.process.start()
            until(lambda: unsent(runtime) == 0)
        assert sorted(set(listener.ids())) == ids
        assert sum(log["event"] == "events_wait_for_the_broker" for log in logs) == 1
        assert "guest:guest" not in str(logs)


def test_a_queue_that_takes_no_more_holds_up_no_other(rabbitmq_url: str, tmp_path: Path) -> None:
    listener = Listener(rabbitmq_url)
    with made_runtime(tmp_path, rabbitmq_url) as runtime:
        relay = Relay(runtime)
        with listener._channel() as channel:
            arguments = {"x-max-length": 1, "x-overflow": "reject-publish"}
            channel.queue_declare("full", exclusive=True, arguments=arguments)
            channel.queue_bind("full", EXCHANGE, "asset.failed")
            ids = add_events(runtime, 3, topic="asset.failed") + add_events(runtime, 2)
            assert relay.publish_batch() == 5
        with runtime.database.reading() as connection:
            waiting = outbox.unsent(connection, only_failed=False, limit=10)
        assert {row.id for row in waiting} < set(ids[:3])
        assert waiting[-1].error_text == "a queue took no more"
        assert set(listener.ids()) >= set(ids[3:])
        relay.stop()


def test_an_exchange_of_another_kind_is_one_sentence(rabbitmq_url: str, tmp_path: Path) -> None:
    parts = parse_url(rabbitmq_url)
    with amqp.Connection(f"{parts['hostname']}:{parts['port']}") as connection:
        connection.channel().exchange_declare("taken", "fanout", auto_delete=False)
    with made_runtime(tmp_path, rabbitmq_url, exchange="taken") as runtime:
        add_events(runtime)
        relay = Relay(runtime)
        with pytest.raises(ConfigurationError, match="refuses to let us publish"):
            relay.publish_batch()
        assert unsent(runtime) == 1
        relay.stop()


@pytest.mark.parametrize("broker", ["amqp://u:pass@127.0.0.1:9//", "redis://:pass@127.0.0.1:9"])
def test_a_broker_that_is_away_keeps_the_events(broker: str, tmp_path: Path) -> None:
    with made_runtime(tmp_path, broker) as runtime:
        add_events(runtime)
        relay = Relay(runtime)
        with pytest.raises(BrokerUnavailableError, match="cannot be reached") as caught:
            relay.publish_batch()
        assert "pass" not in str(caught.value)
        assert unsent(runtime) == 1
        relay.stop()


def test_redis_has_each_event_in_its_stream(tmp_path: Path) -> None:
    with servers.redis_server() as server, made_runtime(tmp_path, server.url) as runtime:
        with running(runtime), redis.Redis.from_url(server.url, decode_responses=True) as client:
            ids = add_events(runtime, 120)
            until(lambda: unsent(runtime) == 0)
            entries: Any = client.xrange(EXCHANGE)
            assert [int(fields["id"]) for _, fields in entries] == ids
            assert json.loads(entries[0][1]["body"]) == {"number": 0, "uri": "file:///é"}
            assert entries[0][1]["topic"] == "asset.done"
            server.process.kill()
            ids = add_events(runtime, 120)
            server.process.start()
            until(lambda: unsent(runtime) == 0)
        with redis.Redis.from_url(server.url, decode_responses=True) as client:
            again: Any = client.xrange(EXCHANGE)
            assert sorted({int(fields["id"]) for _, fields in again}) == ids


def test_nobody_listens_to_an_embedded_broker(tmp_path: Path) -> None:
    with made_runtime(tmp_path) as runtime, running(runtime):
        add_events(runtime, 5)
        until(lambda: unsent(runtime) == 0)


def test_old_events_are_forgotten_by_the_relay(tmp_path: Path) -> None:
    with made_runtime(tmp_path) as runtime:
        add_events(runtime, 3)
        with runtime.database.transaction() as connection:
            past = text("'2020-01-01 00:00:00.000000'")
            connection.execute(update(outbox_table).values(sent_at=past))
        with running(runtime):
            until(lambda: _count(runtime) == 0)


def _count(runtime: Runtime) -> int:
    with runtime.database.reading() as connection:
        return int(connection.execute(text("SELECT COUNT(*) FROM outbox")).scalar_one())
