"""Fetching from S3: one stream against ranges, from the same server in turns.

``make bench-fetch`` runs it; ``JSON=path`` also writes the figures. A far store is played by a
proxy of ours before a private SeaweedFS: each connection has so much bandwidth and no more, each
request waits so long first. Then without a proxy, where ranges can help nobody: what they cost.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console

from bench.figures import Figure, show
from pipeline.storage.files import hash_file
from pipeline.storage.s3 import S3Settings, S3Store

TESTS = Path(__file__).parents[1] / "tests"
HOST = "127.0.0.1"
PIECE_BYTES = 64 << 10
MB = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """What a connection to a far store is like."""

    bytes_per_second: float
    latency_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One fetch. ``cpu_seconds``: of this process, user and system."""

    seconds: float
    cpu_seconds: float


class FarStore:
    """A proxy of TCP connections that makes the store behind it far away."""

    def __init__(self, upstream_port: int, link: Link, sent: Any) -> None:
        self._upstream_port = upstream_port
        self._link = link
        self._sent = sent

    async def serve(self, ports: Any) -> None:
        server = await asyncio.start_server(self._connected, HOST, 0, limit=PIECE_BYTES)
        ports.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    async def _connected(
        self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter
    ) -> None:
        server, to_server = await asyncio.open_connection(
            HOST, self._upstream_port, limit=PIECE_BYTES
        )
        # What waits here was fetched already, as far as a client that hangs up is concerned.
        to_client.transport.set_write_buffer_limits(high=PIECE_BYTES)
        try:
            await asyncio.gather(
                self._requests(client, to_server), self._answers(server, to_client)
            )
        except OSError:
            """One side has hung up: so does the other."""
        finally:
            to_client.close()
            to_server.close()

    async def _requests(
        self, client: asyncio.StreamReader, to_server: asyncio.StreamWriter
    ) -> None:
        while data := await client.read(PIECE_BYTES):
            await asyncio.sleep(self._link.latency_seconds)
            to_server.write(data)
            await to_server.drain()
        raise ConnectionAbortedError

    async def _answers(self, server: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        due = 0.0
        while data := await server.read(PIECE_BYTES):
            # A connection that was silent has not saved up bandwidth; but a sleep may be too long.
            due = max(due, time.monotonic() - 0.05) + len(data) / self._link.bytes_per_second
            to_client.write(data)
            await to_client.drain()
            self._sent.value += len(data)
            await asyncio.sleep(due - time.monotonic())
        raise ConnectionAbortedError


def _serve(upstream_port: int, link: Link, sent: Any, ports: Any) -> None:
    asyncio.run(FarStore(upstream_port, link, sent).serve(ports))


@contextmanager
def far(endpoint_url: str, link: Link) -> Iterator[tuple[str, Any]]:
    """The URL of the store seen from far away, and a count of the bytes sent from there. In a
    process of its own: its CPU is not the fetch's."""
    port = urlsplit(endpoint_url).port
    context = multiprocessing.get_context("spawn")
    sent = context.Value("q", 0, lock=False)
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(port, link, sent, sender), daemon=True)
    process.start()
    try:
        yield f"http://{HOST}:{receiver.recv()}", sent
    finally:
        process.terminate()
        process.join()


def fetch(store: S3Store, uri: str, sha256: str, folder: Path) -> Run:
    """One fetch of the object, into a file that goes at once."""
    cpu, wall = time.process_time(), time.monotonic()
    fetched = store.fetch(uri, folder / "fetched")
    run = Run(seconds=time.monotonic() - wall, cpu_seconds=time.process_time() - cpu)
    if fetched.sha256 != sha256:
        sys.exit("the bytes are not those that were put: the figures mean nothing")
    fetched.path.unlink()
    return run


def in_turns(
    endpoint_url: str, uri: str, sha256: str, folder: Path, *, runs: int
) -> tuple[list[Run], list[Run]]:
    """Runs of one stream and of ranges, by turns; not counted is the first, which connects."""
    stores = [
        S3Store(S3Settings(endpoint_url=endpoint_url, range_connections=connections))
        for connections in (1, S3Settings().range_connections)
    ]
    taken: list[tuple[Run, ...]] = [
        tuple(fetch(store, uri, sha256, folder) for store in stores) for _ in range(runs + 1)
    ]
    one, ranges = zip(*taken[1:], strict=True)
    return list(one), list(ranges)


def median(runs: list[Run], what: str) -> float:
    return statistics.median(getattr(run, what) for run in runs)


def notes_of(name: str, runs: list[Run], size_bytes: int) -> str:
    seconds, cpu = median(runs, "seconds"), median(runs, "cpu_seconds")
    every = ", ".join(f"{run.seconds:.2f}" for run in runs)
    return (
        f"{name}: median {seconds:.2f} s of {every}; {size_bytes / MB / seconds:.0f} MB/s, "
        f"{cpu:.2f} CPU s"
    )


def measure(endpoint_url: str, folder: Path, link: Link, *, mib: int, runs: int) -> list[Figure]:
    import boto3

    data = os.urandom(1 << 20) * mib
    client = boto3.session.Session().client("s3", endpoint_url=endpoint_url)
    client.create_bucket(Bucket="bench")
    path = folder / "object"
    path.write_bytes(data)
    S3Store(S3Settings(endpoint_url=endpoint_url)).write_file(
        "s3://bench/object", path, "video/mp4"
    )
    uri, size = "s3://bench/object", len(data)
    sha256 = hash_file(path)
    with far(endpoint_url, link) as (url, sent):
        one, ranges = in_turns(url, uri, sha256, folder, runs=runs)
        sent_bytes = sent.value
    faster = median(one, "seconds") / median(ranges, "seconds")
    what = (
        f"{size / MB:.0f} MB, {link.bytes_per_second / MB:.0f} MB/s per connection, "
        f"{link.latency_seconds * 1000:.0f} ms before each answer"
    )
    figures = [
        Figure(
            name="far store: seconds of one stream / of ranges",
            asked="at least 2",
            seen=faster,
            met=faster >= 2,
            notes=[
                what,
                notes_of("one stream", one, size),
                notes_of("ranges", ranges, size),
                f"bytes sent / bytes of the objects: {sent_bytes / size / 2 / (runs + 1):.3f}",
            ],
        )
    ]
    one, ranges = in_turns(endpoint_url, uri, sha256, folder, runs=runs)
    dearer = median(ranges, "cpu_seconds") / median(one, "cpu_seconds")
    figures.append(
        Figure(
            name="loopback: CPU of ranges / of one stream",
            asked="at most 1.5",
            seen=dearer,
            met=dearer <= 1.5,
            notes=[notes_of("one stream", one, size), notes_of("ranges", ranges, size)],
        )
    )
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.fetch", description=__doc__)
    parser.add_argument("--mib", type=int, default=160, help="size of the object")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--mbps", type=float, default=25, help="MB/s of a far connection")
    parser.add_argument("--latency", type=float, default=30, help="ms before a far answer")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    given = parser.parse_args()
    sys.path.append(str(TESTS))
    import servers

    os.environ |= {
        "AWS_ACCESS_KEY_ID": servers.ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": servers.SECRET_KEY,
        "AWS_DEFAULT_REGION": servers.REGION,
    }
    link = Link(bytes_per_second=given.mbps * MB, latency_seconds=given.latency / 1000)
    with (
        tempfile.TemporaryDirectory(prefix="mediaweave-bench-") as folder,
        servers.s3_server() as server,
    ):
        figures = measure(server.endpoint_url, Path(folder), link, mib=given.mib, runs=given.runs)
    show(figures, Console())
    if given.json:
        given.json.write_text(json.dumps([asdict(figure) for figure in figures], indent=2) + "\n")


if __name__ == "__main__":
    main()
