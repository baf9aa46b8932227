"""A server on loopback that answers as S3 does, or not quite, and stores that ask it."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import servers

from pipeline.storage.s3 import S3Settings, S3Store

DATA = bytes(range(251)) * 20_000  # several chunks, not a multiple of one

Answer = Callable[[BaseHTTPRequestHandler, int], None]


def store_at(endpoint_url: str, max_attempts: int = 2, **settings: Any) -> S3Store:
    return S3Store(
        S3Settings(
            endpoint_url=endpoint_url,
            max_attempts=max_attempts,
            connect_timeout_seconds=2,
            **{"read_timeout_seconds": 10, **settings},
        )
    )


@contextmanager
def http_server(answer: Answer) -> Iterator[str]:
    """A server that answers every request by ``answer(handler, number of the request)``."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(self.path)
            self.close_connection = True
            answer(self, len(requests))

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """Clients that hang up are what some tests are about."""

    requests: list[str] = []
    with Server((servers.HOST, 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://{servers.HOST}:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def range_of(handler: BaseHTTPRequestHandler) -> tuple[int, int] | None:
    """The first byte asked for and the one after the last, of :data:`DATA`."""
    match = re.fullmatch(r"bytes=(\d+)-(\d*)", handler.headers.get("Range", ""))
    if match is None:
        return None
    return int(match[1]), int(match[2]) + 1 if match[2] else len(DATA)


def send_object(
    handler: BaseHTTPRequestHandler, *, only: int | None = None, etag: str = "v1"
) -> None:
    """What S3 answers to a GET; with ``only`` the body is cut after so many bytes."""
    if handler.headers.get("If-Match", f'"{etag}"') != f'"{etag}"':
        send_error(handler, 412, "PreconditionFailed")
        return
    asked = range_of(handler)
    start, stop = asked or (0, len(DATA))
    handler.send_response(206 if asked else 200)
    handler.send_header("ETag", f'"{etag}"')
    handler.send_header("Content-Length", str(stop - start))
    if asked:
        handler.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(DATA)}")
    handler.end_headers()
    handler.wfile.write(DATA[start : stop if only is None else min(stop, start + only)])


def send_error(handler: BaseHTTPRequestHandler, status: int, code: str) -> None:
    body = f"<Error><Code>{code}</Code><Message>secret</Message></Error>".encode()
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)
