"""Webhooks to a real receiver."""

import base64
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import servers
from events import add_events, made_runtime, running, unsent, until
from sqlalchemy import text
from structlog.testing import capture_logs
from typer.testing import CliRunner

from pipeline.db import outbox
from pipeline.db.engine import Database
from pipeline.errors import ConfigurationError
from pipeline.runner.runtime import Runtime
from workers import webhooks
from workers.cli.events import events_app
from workers.relay import Relay

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
KEY_IN_BASE64 = SECRET.removeprefix("whsec_")


def row(database: Database) -> Any:
    """The only row of the outbox."""
    with database.reading() as connection:
        return connection.execute(text("SELECT * FROM outbox")).one()


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
