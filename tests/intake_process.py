"""``mediaweave intake`` as a process, and a proxy that loses what a process says from a word on."""

import select
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from command import Cli
from sqlalchemy import text
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from pipeline.db.engine import Database
from pipeline.errors import DatabaseUnavailableError

HOST = "127.0.0.1"
READY = "mediaweave intake: ready"


def until(condition: Callable[[], bool], *, seconds: float = 60) -> None:
    """Ask until it is so; RetryError after ``seconds``."""
    Retrying(
        retry=retry_if_result(lambda met: not met),
        wait=wait_fixed(0.05),
        stop=stop_after_delay(seconds),
    )(condition)


@dataclass(kw_only=True)
class IntakeProcess:
    """A running intake. What it says on standard error is collected."""

    popen: "subprocess.Popen[str]"
    lines: list[str] = field(default_factory=list)

    def says(self, words: str) -> bool:
        return any(words in line for line in list(self.lines))

    def kill(self) -> None:
        """As a power cut would."""
        self.popen.kill()
        self.popen.wait(30)

    def stop(self) -> int:
        """Ask it to end; gives its exit code."""
        self.popen.terminate()
        return self.popen.wait(30)


@contextmanager
def intake(cli: Cli) -> Iterator[IntakeProcess]:
    """An intake that listens; killed at the end if it still lives."""
    popen = cli.start("intake")
    process = IntakeProcess(popen=popen)

    def collect() -> None:
        assert popen.stderr is not None
        for line in popen.stderr:
            process.lines.append(line)

    reader = threading.Thread(target=collect, daemon=True)
    reader.start()
    try:
        until(lambda: process.says(READY) or popen.poll() is not None)
        assert popen.poll() is None, "".join(process.lines)
        yield process
    finally:
        popen.kill()
        popen.wait(30)
        reader.join()
        for stream in (popen.stdout, popen.stderr):
            assert stream is not None
            stream.close()


def rows(database: Database, query: str) -> list[dict[str, Any]]:
    with database.reading() as connection:
        return [dict(row) for row in connection.execute(text(query)).mappings()]


def count(database: Database, query: str) -> int:
    """Of a query for one number; -1 where the connection was cut that it came by."""
    try:
        with database.reading() as connection:
            return int(connection.execute(text(query)).scalar_one())
    except DatabaseUnavailableError:
        return -1


def postgres_cli(folder: Path, database: str, **settings: str) -> Cli:
    """A command line on PostgreSQL; ``settings`` as ``BROKER="…"`` for ``MEDIAWEAVE_BROKER``."""
    variables = {f"MEDIAWEAVE_{name}": value for name, value in settings.items()}
    return Cli(folder=folder, settings={"MEDIAWEAVE_DATABASE": database, **variables})


class DeafProxy:
    """Passes bytes between clients and ``127.0.0.1:port``, until a client says ``word``.

    That and all that follows on the connection is lost, while answers still come through: what the
    client did is done, and nobody hears of it.
    """

    def __init__(self, port: int, word: bytes) -> None:
        self._upstream, self._word = port, word
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self.lost = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=[client], daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with closing(client), socket.create_connection((HOST, self._upstream)) as server:
            is_deaf = False
            with suppress(OSError):
                while True:
                    for ready in select.select([client, server], [], [])[0]:
                        data = ready.recv(1 << 16)
                        if not data:
                            return
                        if ready is server:
                            client.sendall(data)
                            continue
                        if self._word in data:
                            is_deaf = True
                            self.lost.set()
                        if not is_deaf:
                            server.sendall(data)


@contextmanager
def deaf_proxy(url: str, word: bytes) -> Iterator[tuple[DeafProxy, str]]:
    """A proxy before the server of ``url``, and the URL that leads through it."""
    port = int(url.rsplit(":", 1)[1].partition("/")[0])
    proxy = DeafProxy(port, word)
    try:
        yield proxy, url.replace(f":{port}", f":{proxy.port}")
    finally:
        proxy.close()
