"""``POST /v1/jobs`` and what belongs to it, as any HTTP client sees it."""

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import servers
from intake_process import IntakeProcess, count, intake, postgres_cli, until
from openapi_spec_validator import validate

from pipeline.config import load_settings
from pipeline.db.engine import Database, open_database
from pipeline.db.migrate import ensure_schema
from pipeline.errors import ConfigurationError
from pipeline.runner.runtime import Runtime
from workers.intake import api, http

TOKEN = "a token of the tests"
JSON = {"Content-Type": "application/json"}
JOBS = "SELECT COUNT(*) FROM job"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    status: int
    headers: dict[str, str]
    json: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """A client of an intake on ``port``."""

    port: int
    database: Database
    process: IntakeProcess

    def __call__(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: dict[str, str] | None = None,
        token: str | None = TOKEN,
    ) -> Answer:
        sent = {} if headers is None else dict(headers)
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        with closing(HTTPConnection(servers.HOST, self.port, timeout=60)) as connection:
            connection.request(method, path, body, sent)
            response = connection.getresponse()
            text = response.read()
            names = {name.lower(): value for name, value in response.getheaders()}
            return Answer(status=response.status, headers=names, json=json.loads(text))

    def submit(self, body: Any, **headers: str) -> Answer:
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return self("POST", "/v1/jobs", text, headers=JSON | sent)


@contextmanager
def serving(folder: Path, database_url: str) -> Iterator[Api]:
    (port,) = servers.free_ports(1)
    cli = postgres_cli(
        folder,
        database_url,
        INTAKE__HTTP_LISTEN=f"{servers.HOST}:{port}",
        INTAKE__HTTP_TOKENS=json.dumps(["another", TOKEN]),
        INTAKE__MAX_MESSAGE_BYTES="4096",
    )
    with intake(cli) as process, closing(open_database(database_url)) as database:
        yield Api(port=port, database=database, process=process)


@pytest.fixture(scope="module")
def client(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with (
        servers.postgres_database(postgres_url) as database_url,
        serving(tmp_path_factory.mktemp("http"), database_url) as api,
    ):
        yield api
        assert api.process.stop() == 0


def test_a_job_is_submitted_once(client: Api) -> None:
    before = count(client.database, JOBS)
    new = client.submit({"sources": ["s3://archive/a"], "job_key": "once"})
    assert new.status == 202
    job_id = new.json["job_id"]
    assert new.json == {"job_id": job_id, "is_new": True}
    assert new.headers["location"] == f"/v1/jobs/{job_id}"
    known = client.submit({"sources": ["s3://archive/a"], "job_key": "once"})
    assert (known.status, known.json) == (200, {"job_id": job_id, "is_new": False})

    first = client.submit({"sources": ["s3://archive/b"]}, Idempotency_Key="k" * 300)
    again = client.submit({"sources": ["s3://archive/b"]}, Idempotency_Key="k" * 300)
    assert (first.status, again.status) == (202, 200)
    assert again.json["job_id"] == first.json["job_id"]
    assert count(client.database, JOBS) == before + 2

    shown = client("GET", new.headers["location"])
    assert shown.status == 200
    assert shown.json["name"] == "s3://archive/a"
    assert shown.json["origin"] == "http"
    assert shown.json["state"] == "expanding"
    assert shown.json["assets_total"] == 0
    assert datetime.fromisoformat(shown.json["submitted_at"]).tzinfo is not None


def test_a_job_is_looked_after(client: Api) -> None:
    location = client.submit({"sources": ["s3://archive/a"]}).headers["location"]
    for action, state in (("pause", "paused"), ("resume", "expanding"), ("cancel", "cancelled")):
        done = client("POST", f"{location}/{action}")
        assert (done.status, done.json["state"]) == (200, state)
    assert client("POST", f"{location}/retry").status == 200
    for method, path in (
        ("GET", "/v1/jobs/999999"),
        ("GET", f"/v1/jobs/{10**30}"),
        ("POST", "/v1/jobs/999999/cancel"),
        ("POST", f"{location}/explode"),
        ("GET", "/v1/nothing"),
    ):
        missing = client(method, path)
        assert missing.status == 404, path
        assert isinstance(missing.json["error"], str)
    assert client("PUT", "/v1/jobs").status == 405


@pytest.mark.parametrize("token", [None, "", "wrong", TOKEN + "x", "ä"])
def test_strangers_are_refused(client: Api, token: str | None) -> None:
    before = count(client.database, JOBS)
    for method, path in (("POST", "/v1/jobs"), ("GET", "/v1/jobs/1"), ("POST", "/v1/jobs/1/retry")):
        refused = client(method, path, b'{"sources": ["x"]}', headers=JSON, token=token)
        assert refused.status == 401
        assert refused.headers["www-authenticate"] == "Bearer"
        assert "token" in refused.json["error"]
    assert count(client.database, JOBS) == before


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        (b"no json", 400, "the message is not JSON"),
        (b"", 400, "the message is not JSON"),
        (b"[" * 4000, 400, "nested too deeply"),
        (b'{"sources": []}', 400, "sources"),
        (b'{"sources": ["s3://archive/a"], "profile": "none"}', 400, "there is no profile 'none'"),
        (b'{"sources": ["s3://archive/a"], "name": "\\u0000"}', 400, "NUL"),
        (b'{"sources": ["gopher://archive/a"]}', 400, "gopher://"),
        (b"x" * 4097, 413, "longer than 4096 bytes"),
    ],
)
def test_what_is_wrong_is_said(client: Api, body: bytes, status: int, sentence: str) -> None:
    before = count(client.database, JOBS)
    refused = client.submit(body)
    assert refused.status == status
    assert sentence in refused.json["error"]
    assert count(client.database, JOBS) == before
    assert count(client.database, "SELECT COUNT(*) FROM dead_letter") == 0, "the client was told"


def test_a_body_without_an_announced_length_is_bounded_too(client: Api) -> None:
    def chunks() -> Iterator[bytes]:
        yield from (b"x" * 1000 for _ in range(5))

    refused = client("POST", "/v1/jobs", chunks(), headers=JSON)
    assert refused.status == 413


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_other_types_are_refused(client: Api, content_type: str) -> None:
    refused = client("POST", "/v1/jobs", b"{}", headers={"Content-Type": content_type})
    assert refused.status == 415
    assert "application/json" in refused.json["error"]


def test_the_document_describes_it(client: Api) -> None:
    document = client("GET", "/v1/openapi.json", token=None).json
    validate(document)
    assert document["openapi"].startswith("3.1")
    assert set(document["paths"]) >= {"/v1/jobs", "/v1/jobs/{job_id}", "/v1/jobs/{job_id}/cancel"}
    message = document["components"]["schemas"]["JobMessage"]
    assert message["required"] == ["sources"]
    health = client("GET", "/healthz", token=None)
    assert (health.status, health.json) == (200, {"status": "ok"})


def test_slow_clients_are_in_nobodys_way(client: Api) -> None:
    head = f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
    body = f"{head}Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{{"
    with ExitStack() as slow:
        for begun in (head, body) * 60:
            each = socket.create_connection((servers.HOST, client.port))
            slow.enter_context(each)
            each.sendall(begun.encode())
        assert client.submit({"sources": ["s3://archive/a"]}).status == 202


def test_slow_clients_are_shown_the_door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "HEAD_SECONDS", 0.3)
    monkeypatch.setattr(api, "BODY_SECONDS", 0.3)
    runtime = Runtime(
        load_settings(data_dir=tmp_path, intake={"http_tokens": [TOKEN], "http_listen": "x:1"})
    )
    ensure_schema(runtime.database)
    (port,) = servers.free_ports(1)
    listener = http.HttpListener(runtime, listen=f"{servers.HOST}:{port}")
    listener.start()
    head = f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
    rest = "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
    try:
        for begun, answer in (
            ("", b""),
            (head, b""),
            (head + rest, b"HTTP/1.1 408"),
            # A second request that does not come, after one that was answered.
            (f"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n{head}", b"HTTP/1.1 200"),
        ):
            with socket.create_connection((servers.HOST, port), timeout=60) as each:
                each.sendall(begun.encode())
                received = b"".join(iter(lambda: each.recv(1 << 16), b""))
                assert received.startswith(answer), "and the connection was ended"
                assert bool(received) == bool(answer)
    finally:
        listener.stop()
        assert listener.join(30)
        runtime.close()


def test_a_database_that_is_away_is_told_and_waited_for(tmp_path: Path) -> None:
    message = {"sources": ["s3://archive/a"], "job_key": "k"}
    with servers.postgres_server() as postgres, serving(tmp_path, postgres.url) as client:
        postgres.process.stop()
        for answer in (client.submit(message), client("GET", "/v1/jobs/1")):
            assert answer.status == 503
            assert int(answer.headers["retry-after"]) > 0
            assert "the database" in answer.json["error"]
        assert client("GET", "/healthz").status == 200
        postgres.process.start()
        until(lambda: client.submit(message).status in {200, 202})
        assert count(client.database, JOBS) == 1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"http_listen": "127.0.0.1:8080"}, "set intake.http_tokens"),
        ({"http_listen": "127.0.0.1:8080", "http_tokens": ["good", ""]}, "none of them empty"),
        ({"http_listen": "8080", "http_tokens": ["good"]}, "write host:port"),
        ({"http_listen": "127.0.0.1:http", "http_tokens": ["good"]}, "write host:port"),
    ],
)
def test_wrong_settings_are_refused(tmp_path: Path, options: dict[str, Any], sentence: str) -> None:
    runtime = Runtime(load_settings(data_dir=tmp_path, intake=options))
    with pytest.raises(ConfigurationError, match=sentence):
        http.HttpListener(runtime, listen=options["http_listen"])
    runtime.close()


def test_an_address_in_use_is_refused(client: Api, tmp_path: Path, postgres_database: str) -> None:
    cli = postgres_cli(
        tmp_path,
        postgres_database,
        INTAKE__HTTP_LISTEN=f"{servers.HOST}:{client.port}",
        INTAKE__HTTP_TOKENS='["x"]',
    )
    refused = cli("intake")
    assert refused.code == 2
    assert f"cannot listen on {servers.HOST}:{client.port}" in refused.err
