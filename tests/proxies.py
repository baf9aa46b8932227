"""A proxy that stands before a private server and breaks connections, by script.

It knows connections, and PostgreSQL's COMMIT; what it broke is logged.
"""

import re
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

HOST = "127.0.0.1"
#: A simple query or a statement to parse that is COMMIT and no more, and PostgreSQL's answer.
_COMMIT = re.compile(rb"(Q....|P....[^\0]*\0)COMMIT\0", re.DOTALL)
_COMMITTED = re.compile(rb"C....COMMIT\0", re.DOTALL)


class _Pair:
    """One connection through the proxy."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client, self.server = client, server
        #: The answer to a COMMIT that went through is to be lost.
        self.loses_answer = threading.Event()

    def reset(self) -> None:
        """Both sides see the connection break, not end."""
        for each in (self.client, self.server):
            with suppress(OSError):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.client.close()
        self.server.close()


class TcpProxy:
    """Passes bytes on to ``127.0.0.1:port``, until told otherwise. Any thread may tell it."""

    def __init__(self, port: int) -> None:
        self._upstream = (HOST, port)
        self._lock = threading.Lock()
        self._pairs: set[_Pair] = set()
        self._threads: list[threading.Thread] = []
        self._commits: _CommitCuts | None = None
        #: What was done to connections, in order.
        self.log: list[str] = []
        self._listener = self._listen(0)
        self.port: int = self._listener.getsockname()[1]

    def refuse(self) -> None:
        """New connections are refused; open ones stay."""
        with self._lock:
            # Accepting ends at once by the shutdown, not by the close alone.
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self.log.append("refuse")

    def accept(self) -> None:
        """New connections are taken again."""
        with self._lock:
            self._listener = self._listen(self.port)
            self.log.append("accept")

    def cut(self) -> int:
        """Break all open connections; gives how many."""
        with self._lock:
            pairs = list(self._pairs)
            self.log.append(f"cut {len(pairs)}")
        for pair in pairs:
            pair.reset()
        return len(pairs)

    def cut_commits(
        self, when: Literal["before", "after"], *, every: int = 1, times: int = 1
    ) -> "_CommitCuts":
        """Break the connection of each ``every``-th COMMIT from now on, ``times`` times: before
        the server has seen it, or after it was executed and before its answer is passed on.
        """
        with self._lock:
            self._commits = _CommitCuts(when=when, every=every, left=times)
            return self._commits

    def close(self) -> None:
        with suppress(OSError):
            self.refuse()
        self.cut()
        for thread in self._threads:
            thread.join()

    def _listen(self, port: int) -> socket.socket:
        listener = socket.create_server((HOST, port), backlog=128)
        thread = threading.Thread(target=self._accept, args=[listener], daemon=True)
        self._threads.append(thread)
        thread.start()
        return listener

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._upstream, timeout=10)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            for each in (client, server):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            thread = threading.Thread(target=self._serve, args=[_Pair(client, server)], daemon=True)
            with self._lock:
                self._threads = [*(t for t in self._threads if t.is_alive()), thread]
                thread.start()

    def _serve(self, pair: _Pair) -> None:
        with self._lock:
            self._pairs.add(pair)
        answers = threading.Thread(target=self._pump_answers, args=[pair], daemon=True)
        answers.start()
        self._pump_requests(pair)
        answers.join()
        with self._lock:
            self._pairs.discard(pair)
        pair.close()

    def _pump_requests(self, pair: _Pair) -> None:
        with suppress(OSError):
            while data := pair.client.recv(1 << 16):
                if _COMMIT.search(data):
                    cut = self._cut_for_commit()
                    if cut == "before":
                        pair.reset()
                        return
                    if cut == "after":
                        pair.loses_answer.set()
                pair.server.sendall(data)
        with suppress(OSError):
            pair.server.shutdown(socket.SHUT_WR)

    def _pump_answers(self, pair: _Pair) -> None:
        with suppress(OSError):
            while data := pair.server.recv(1 << 16):
                if pair.loses_answer.is_set() and _COMMITTED.search(data):
                    pair.reset()
                    return
                pair.client.sendall(data)
        with suppress(OSError):
            pair.client.shutdown(socket.SHUT_WR)

    def _cut_for_commit(self) -> str | None:
        with self._lock:
            if self._commits is None or not self._commits.hits():
                return None
            self.log.append(f"cut {self._commits.when} commit")
            return self._commits.when


@dataclass(kw_only=True)
class _CommitCuts:
    """Counts commits down."""

    when: Literal["before", "after"]
    every: int
    left: int
    seen: int = 0

    def hits(self) -> bool:
        self.seen += 1
        if self.left == 0 or self.seen % self.every:
            return False
        self.left -= 1
        return True


@contextmanager
def tcp_proxy(url: str) -> Iterator[tuple[TcpProxy, str]]:
    """A proxy before the server of ``url``, and the URL that leads through it."""
    parts = urlsplit(url)
    assert parts.port is not None
    proxy = TcpProxy(parts.port)
    try:
        yield proxy, url.replace(f":{parts.port}", f":{proxy.port}")
    finally:
        proxy.close()
