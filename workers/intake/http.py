"""Serves the HTTP intake: ``POST /v1/jobs`` and what belongs to it."""

import asyncio
import socket
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from pipeline.errors import ConfigurationError
from pipeline.runner.runtime import Runtime
from workers.intake.api import make_api
from workers.intake.listener import Listener

#: From the connection, or from the last answer, to the end of the next request's head.
HEAD_SECONDS = 10
KEEP_ALIVE_SECONDS = 5
#: Connections at once; more are told 503.
MAX_CONNECTIONS = 500
GRACE_SECONDS = 5


class HttpListener(Listener):
    """Serves on ``listen``, ``host:port``, from before :meth:`start` returns."""

    def __init__(self, runtime: Runtime, *, listen: str) -> None:
        super().__init__(runtime, f"http {listen}")
        options = runtime.settings.intake
        self._host, self._port = _parse(listen)
        if not options.http_tokens or not all(t.get_secret_value() for t in options.http_tokens):
            raise ConfigurationError(
                "the HTTP intake takes nothing from strangers: set intake.http_tokens, none of "
                "them empty"
            )
        self._sockets: list[socket.socket] = []
        self._server = uvicorn.Server(
            uvicorn.Config(
                make_api(runtime),
                http=_ImpatientProtocol,
                loop="asyncio",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                limit_concurrency=MAX_CONNECTIONS,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=GRACE_SECONDS,
            )
        )

    def stop(self) -> None:
        super().stop()
        self._server.should_exit = True

    def _prepare(self) -> None:
        address = (self._host, self._port)
        try:
            family = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)[0][0]
            self._sockets = [socket.create_server(address, family=family)]
        except OSError as error:
            raise ConfigurationError(
                f"cannot listen on {self._host}:{self._port} (setting intake.http_listen): "
                f"{error.strerror}"
            ) from error

    def _listen(self) -> None:
        self._server.run(sockets=self._sockets)


class _ImpatientProtocol(H11Protocol):
    """Closes connections whose request does not come; uvicorn itself waits for it for ever."""

    _head_deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._head_deadline is not None:
            self._head_deadline.cancel()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._expect_head()

    def _expect_head(self) -> None:
        if self._head_deadline is not None:
            self._head_deadline.cancel()
        self._head_deadline = self.loop.call_later(HEAD_SECONDS, self._close_unless_busy)

    def _close_unless_busy(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()


def _parse(listen: str) -> tuple[str, int]:
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise ConfigurationError(
            f"intake.http_listen is {listen!r}; write host:port, such as 0.0.0.0:8080"
        )
    return host.strip("[]") or "0.0.0.0", int(port)  # noqa: S104 (":8080" asks for it)
