"""Events over real brokers to a plain client, and webhooks to a real receiver."""

import base64
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import amqp  # type: ignore[import-untyped]
import pytest
import redis
import servers
from kombu.utils.url import parse_url
from sqlalchemy import insert, text, update
from structlog.testing import capture_logs
from tenacity import retry, retry_if_result, stop_after_delay, wait_fixed
from typer.testing import CliRunner

from pipeline.config import EventOptions, Settings
from pipeline.db import outbox
from pipeline.db.engine import Database
from pipeline.db.migrate import ensure_schema
from pipeline.errors import BrokerUnavailableError, ConfigurationError
from pipeline.runner.runtime import Runtime
from schemas.operations import outbox as outbox_table
from workers import webhooks
from workers.cli.events import events_app
from workers.relay import Relay

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
KEY_IN_BASE64 = SECRET.removeprefix("whsec_")
EXCHANGE = "mediaweave.events"


@retry(
    retry=retry_if_result(lambda done: not done),
    stop=stop_after_delay(60),
    wait=wait_fixed(0.02),
)
def until(condition: Callable[[], bool]) -> bool:
    """Ask until it is so; RetryError after a minute."""
    return condition()


@contextmanager
def made_runtime(folder: Path, broker: str = "memory://", **events: Any) -> Iterator[Runtime]:
    made = Runtime(Settings(data_dir=folder / "data", broker=broker, events=EventOptions(**events)))
    ensure_schema(made.database)
    yield made
    made.close()


@contextmanager
def running(runtime: Runtime) -> Iterator[Relay]:
    relay = Relay(runtime)
    relay.start()
    try:
        yield relay
        assert relay.alive
    finally:
        relay.stop()
    assert not relay.alive


def add_events(
    runtime: Runtime, count: int = 1, *, webhook: str | None = None, topic: str = "asset.done"
) -> list[int]:
    with runtime.database.transaction() as connection:
        query = insert(outbox_table).returning(outbox_table.c.id, sort_by_parameter_order=True)
        rows = [
            {"topic": topic, "body": {"number": number, "uri": "file:///é"}, "webhook": webhook}
            for number in range(count)
        ]
        return list(connection.execute(query, rows).scalars())


def row(database: Database) -> Any:
    """The only row of the outbox."""
    with database.reading() as connection:
        return connection.execute(text("SELECT * FROM outbox")).one()


def unsent(runtime: Runtime) -> int:
    with runtime.database.reading() as connection:
        query = text("SELECT COUNT(*) FROM outbox WHERE sent_at IS NULL")
        return int(connection.execute(query).scalar_one())


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


@dataclass(kw_only=True)
class Receiver:
    """Answers calls with ``answers`` in turn, then with 204; notes all it got."""

    url: str
    answers: list[Callable[[BaseHTTPRequestHandler], None]] = field(default_factory=list)
    calls: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    #: Set when the test is over: whoever hangs lets go.
    over: threading.Event = field(default_factory=threading.Event)


def status(code: int, body: bytes = b"", **headers: str) -> Callable[[Any], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("content-length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            found.calls.append((self.path, headers, body))
            number = len(found.calls) - 1
            answer = found.answers[number] if number < len(found.answers) else status(204)
            answer(self)

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: Any) -> None:
            pass  # callers hang up on purpose here

    with Server((servers.HOST, 0), Handler) as server:
        found = Receiver(url=f"http://{servers.HOST}:{server.server_port}/hook?token=hush")
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield found
        found.over.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def caller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runtime]:
    """May call webhooks on the loopback, and is in a hurry."""
    monkeypatch.setattr(webhooks, "FIRST_PAUSE_SECONDS", 0)
    monkeypatch.setattr(webhooks, "POLL_SECONDS", 0.01)
    with made_runtime(
        tmp_path,
        webhook_hosts=(servers.HOST,),
        webhook_secret=SECRET,
        webhook_timeout_seconds=0.5,
        webhook_attempts=3,
    ) as runtime:
        yield runtime


def verify_of_the_documentation() -> Callable[[bytes, dict[str, str], bytes], None]:
    """What ``docs/events.md`` tells receivers to do."""
    page = Path(__file__).parents[2] / "docs" / "events.md"
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    (code,) = [block for block in blocks if "def verify" in block]
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102  our own documentation
    verify: Callable[[bytes, dict[str, str], bytes], None] = names["verify"]
    return verify


def test_a_webhook_is_signed_and_called_until_it_answers(
    caller: Runtime, receiver: Receiver
) -> None:
    receiver.answers = [status(500), status(500)]
    (event_id,) = add_events(caller, webhook=receiver.url, topic="job.done")
    with capture_logs() as logs, running(caller):
        until(lambda: unsent(caller) == 0)
    verify = verify_of_the_documentation()
    key = base64.b64decode(KEY_IN_BASE64)
    assert len(receiver.calls) == 3
    for path, headers, body in receiver.calls:
        assert path == "/hook?token=hush"
        assert json.loads(body) == {"number": 0, "uri": "file:///é"}
        assert headers["content-type"] == "application/json"
        assert headers["webhook-id"] == f"msg_{event_id}"
        verify(key, headers, body)
        for wrong in (
            (b"another key", headers, body),
            (key, headers, body + b" "),
            (key, {**headers, "webhook-timestamp": str(int(time.time()) - 3600)}, body),
            (key, {**headers, "webhook-id": "msg_0"}, body),
        ):
            with pytest.raises(ValueError, match=r"too old|changed on the way"):
                verify(*wrong)
    assert "hush" not in str(logs)
    assert KEY_IN_BASE64 not in str(logs)
    assert row(caller.database).attempt == 3


def given_up(runtime: Runtime) -> bool:
    return row(runtime.database).failed_at is not None


def hang(receiver: Receiver) -> Callable[[Any], None]:
    return lambda handler: receiver.over.wait()


def trickle(receiver: Receiver) -> Callable[[Any], None]:
    """One byte of an endless header at a time, each well within any timeout of one read."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nx: ")
        while not receiver.over.wait(0.02):
            handler.wfile.write(b"x")

    return answer


@pytest.mark.parametrize(
    ("answer", "attempts", "reason"),
    [
        (lambda _: status(410, b"gone\x1b[31m for\ngood" + b"!" * 10_000), 1, "answered 410: gone"),
        (lambda _: status(302, location="http://127.0.0.1/"), 1, "answered 302; redirects"),
        (lambda _: status(400), 1, "answered 400"),
        (lambda _: status(503), 3, "answered 503"),
        (lambda _: status(408), 3, "answered 408"),
        (lambda _: status(500, b"x" * 5_000_000), 3, "answered 500: xxx"),
        (lambda _: lambda handler: handler.wfile.write(b"SSH-2.0\r\n"), 3, ""),
        (lambda _: lambda handler: None, 3, "disconnected"),
        (hang, 3, "no answer within 0.5 seconds"),
        (trickle, 3, "no answer within 0.5 seconds"),
    ],
)
def test_what_never_answers_well_is_given_up_with_the_reason(
    caller: Runtime,
    receiver: Receiver,
    answer: Callable[[Receiver], Any],
    attempts: int,
    reason: str,
) -> None:
    receiver.answers = [answer(receiver)] * 3
    add_events(caller, webhook=receiver.url)
    with running(caller):
        until(lambda: given_up(caller))
    assert len(receiver.calls) == attempts
    found = row(caller.database)
    assert reason in found.error_text
    assert len(found.error_text) < 250
    assert (found.attempt, found.sent_at) == (attempts, None)


def test_a_receiver_says_when_to_call_again(caller: Runtime, receiver: Receiver) -> None:
    receiver.answers = [status(429, retry_after="3600")]
    add_events(caller, webhook=receiver.url)
    with running(caller):
        until(lambda: row(caller.database).error_text is not None)
    with caller.database.reading() as connection:
        (waiting,) = outbox.unsent(connection, only_failed=False, limit=2)
    assert waiting.failed_at is None
    assert (waiting.not_before - waiting.created_at).total_seconds() > 3500


def test_a_host_that_is_allowed_no_more_is_not_called(caller: Runtime, receiver: Receiver) -> None:
    add_events(caller, webhook=receiver.url.replace("http://127.0.0.1", "http://127.0.0.2"))
    with running(caller):
        until(lambda: given_up(caller))
    assert receiver.calls == []
    assert "no webhooks are called on 127.0.0.2" in row(caller.database).error_text


def test_a_receiver_that_is_not_there(caller: Runtime) -> None:
    (port,) = servers.free_ports(1)
    add_events(caller, webhook=f"http://{servers.HOST}:{port}/")
    with running(caller):
        until(lambda: given_up(caller))
    assert row(caller.database).attempt == 3


def test_one_that_hangs_delays_neither_others_nor_the_exchange(
    caller: Runtime, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver.answers = [hang(receiver)] * 5
    for _ in range(5):
        add_events(caller, webhook=receiver.url)
    with running(caller):
        until(lambda: len(receiver.calls) == 5)
        quick = add_events(caller, 3, webhook=receiver.url) + add_events(caller, 3)
        until(lambda: set(quick) <= _sent(caller))


def _sent(runtime: Runtime) -> set[int]:
    with runtime.database.reading() as connection:
        query = text("SELECT id FROM outbox WHERE sent_at IS NOT NULL")
        return set(connection.execute(query).scalars())


def test_a_stopped_relay_gives_back_what_it_was_calling(
    caller: Runtime, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "STOP_SECONDS", 0.01)
    receiver.answers = [hang(receiver)]
    add_events(caller, webhook=receiver.url)
    with running(caller):
        until(lambda: len(receiver.calls) == 1)
    assert (row(caller.database).attempt, row(caller.database).not_before) == (0, None)
    with running(caller):
        until(lambda: unsent(caller) == 0)
    assert len(receiver.calls) == 2


def test_a_process_that_may_call_nobody_leaves_webhooks_to_others(
    tmp_path: Path, receiver: Receiver
) -> None:
    with made_runtime(tmp_path) as runtime, running(runtime):
        add_events(runtime, webhook=receiver.url)
        add_events(runtime)
        until(lambda: unsent(runtime) == 1)
    assert receiver.calls == []
    with (
        made_runtime(tmp_path / "other", webhook_hosts=("a.example",)) as runtime,
        pytest.raises(ConfigurationError, match="WEBHOOK_SECRET"),
    ):
        Relay(runtime)


def test_the_command_lists_and_sends_again(caller: Runtime, receiver: Receiver) -> None:
    receiver.answers = [status(410, b"gone")]
    (event_id,) = add_events(caller, webhook=receiver.url, topic="job.done")
    with running(caller):
        until(lambda: given_up(caller))
    url = ["--database", caller.settings.database_url]
    command = CliRunner()
    listed = json.loads(command.invoke(events_app, ["list", "--json", *url]).output)
    assert [(each["id"], each["state"], each["topic"]) for each in listed] == [
        (event_id, "failed", "job.done")
    ]
    assert listed[0]["to"] == receiver.url.partition("?")[0]
    assert listed[0]["error_text"] == "answered 410: gone"
    shown = command.invoke(events_app, ["list", "--failed", *url])
    assert "answered 410" in shown.output
    assert "hush" not in shown.output
    unclear = command.invoke(events_app, ["retry", *url])
    assert isinstance(unclear.exception, ConfigurationError)
    again = command.invoke(events_app, ["retry", str(event_id), *url])
    assert again.output == "events to be sent again: 1\n"
    with running(caller):
        until(lambda: unsent(caller) == 0)
    assert json.loads(command.invoke(events_app, ["list", "--json", *url]).output) == []
    assert command.invoke(events_app, ["retry", "--failed", *url]).output.endswith(" 0\n")
