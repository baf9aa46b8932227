"""A proxy that stands before a private S3 server and breaks what passes, by script.

The client signs the proxy's host name, which is passed on as it is: signatures stay valid.
"""

import http.client
import re
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import unquote, urlsplit

HOST = "127.0.0.1"

S3Action = Literal["error", "slow_down", "denied", "reset", "flip", "hang"]

_XML = """<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>{code}</Code><Message>injected</Message><RequestId>0</RequestId></Error>"""
_ANSWERS: dict[S3Action, tuple[int, str]] = {
    "error": (500, "InternalError"),
    "slow_down": (503, "SlowDown"),
    "denied": (403, "AccessDenied"),
}


@dataclass(kw_only=True)
class S3Rule:
    """Does ``action`` to requests by ``method`` whose decoded path and query match ``path``.

    The first ``after`` matching requests pass, then ``times`` are hit (``None``: all). ``reset``
    breaks the connection after ``at_byte`` bytes of the answer's body, ``flip`` inverts the byte
    there, ``hang`` gives no answer until the proxy is released.
    """

    action: S3Action
    method: str = "GET"
    path: str = "."
    after: int = 0
    times: int | None = 1
    at_byte: int = 0
    seen: int = 0

    def hits(self, method: str, path: str) -> bool:
        if method not in self.method.split("|") or not re.search(self.path, path):
            return False
        self.seen += 1
        return self.seen > self.after and (
            self.times is None or self.seen <= self.after + self.times
        )


@dataclass
class S3Proxy:
    """An endpoint before an S3 server on loopback. The first rule that hits a request acts."""

    endpoint_url: str
    log: list[str] = field(default_factory=list)
    _rules: list[S3Rule] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _released: threading.Event = field(default_factory=threading.Event)

    def add(self, rule: S3Rule) -> S3Rule:
        """Rules are asked in the order in which they were added; those after the first that acts
        on a request do not see it."""
        with self._lock:
            self._rules.append(rule)
        return rule

    def clear(self) -> None:
        """No rules from now on, and no request hangs any more."""
        with self._lock:
            self._rules = []
        self._released.set()
        self._released = threading.Event()

    def rule_for(self, method: str, path: str) -> S3Rule | None:
        with self._lock:
            hit = next((rule for rule in self._rules if rule.hits(method, path)), None)
            if hit is not None:
                self.log.append(f"{hit.action} {method} {path}")
            return hit

    def wait_for_release(self) -> None:
        self._released.wait()


@contextmanager
def s3_proxy(upstream_url: str) -> Iterator[S3Proxy]:
    """A fault proxy before the S3 server at ``upstream_url``."""
    upstream = urlsplit(upstream_url)
    assert upstream.hostname is not None
    assert upstream.port is not None
    server = _Server((HOST, 0), _Handler)
    proxy = S3Proxy(endpoint_url=f"http://{HOST}:{server.server_address[1]}")
    server.proxy, server.upstream = proxy, (upstream.hostname, upstream.port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield proxy
    finally:
        proxy.clear()
        server.shutdown()
        thread.join()
        server.break_all()
        server.server_close()


class _Server(ThreadingHTTPServer):
    proxy: S3Proxy
    upstream: tuple[str, int]
    daemon_threads = False
    request_queue_size = 128

    def __init__(self, *arguments: object) -> None:
        self._open: set[socket.socket] = set()
        super().__init__(*arguments)  # type: ignore[arg-type]

    def process_request(self, request: socket.socket, address: object) -> None:  # type: ignore[override]
        self._open.add(request)
        super().process_request(request, address)  # type: ignore[arg-type]

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: object, address: object) -> None:
        """Broken connections are what this server is for."""

    def break_all(self) -> None:
        for each in list(self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_: object) -> None:
        """Only what is broken is logged."""

    def do_GET(self) -> None:
        rule = self.server.proxy.rule_for(self.command, unquote(self.path))
        body = self._request_body()
        if rule is None:
            self._forward(body, None)
        elif rule.action == "hang":
            self.server.proxy.wait_for_release()
            self._break()
        elif rule.action in _ANSWERS:
            self._answer(*_ANSWERS[rule.action])
        else:
            self._forward(body, rule)

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815

    def _request_body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            """Trailers are of no use here."""
        return body

    def _answer(self, status: int, code: str) -> None:
        body = b"" if self.command == "HEAD" else _XML.format(code=code).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _forward(self, body: bytes, rule: S3Rule | None) -> None:
        dropped = {"transfer-encoding", "expect", "connection", "content-length"}
        connection = http.client.HTTPConnection(*self.server.upstream, timeout=60)
        with closing(connection) as upstream:
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in dropped:
                    upstream.putheader(name, value)
            if body or self.command in ("PUT", "POST"):
                upstream.putheader("Content-Length", str(len(body)))
            try:
                upstream.endheaders(body or None)
                answer = upstream.getresponse()
                data = bytearray(answer.read())
            except (OSError, http.client.HTTPException):
                self._break()
                return
        self._reply(answer, data, rule)

    def _reply(
        self, answer: http.client.HTTPResponse, data: bytearray, rule: S3Rule | None
    ) -> None:
        if rule is not None and rule.action == "flip" and data:
            data[min(rule.at_byte, len(data) - 1)] ^= 0xFF
        self.send_response_only(answer.status, answer.reason)
        told_length = answer.getheader("Content-Length") if self.command == "HEAD" else None
        for name, value in answer.getheaders():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        if answer.status != 204:
            self.send_header("Content-Length", told_length or str(len(data)))
        self.end_headers()
        if rule is not None and rule.action == "reset":
            self.wfile.write(data[: rule.at_byte])
            self._break()
        else:
            self.wfile.write(data)

    def _break(self) -> None:
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True
