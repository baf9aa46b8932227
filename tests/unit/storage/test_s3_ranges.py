"""Large objects in ranges: the same bytes as in one stream, or an error, and nothing left over."""

import hashlib
import os
import signal
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from threading import Barrier, Event, Lock

import pytest
import servers
from s3_answers import DATA, http_server, range_of, send_error, send_object, store_at
from s3_proxy import S3Rule, s3_proxy
from small_disk import small_disk

from pipeline.errors import (
    AccessDeniedError,
    ObjectNotFoundError,
    PipelineError,
    ResourceExhaustedError,
    StoreUnavailableError,
)
from pipeline.storage.base import ObjectInfo
from pipeline.storage.s3 import S3Store

RANGE_BYTES = 500_009
IN_RANGES = {"range_bytes": RANGE_BYTES, "range_connections": 4}


@pytest.fixture(params=["seaweedfs", "moto"])
def server(request: pytest.FixtureRequest) -> servers.S3Server:
    name = "s3" if request.param == "seaweedfs" else "moto_s3"
    found: servers.S3Server = request.getfixturevalue(name)
    return found


def put(server: servers.S3Server, body: bytes, *, versioned: bool = False) -> str:
    bucket = server.create_bucket()
    if versioned:
        server.client.put_bucket_versioning(
            Bucket=bucket, VersioningConfiguration={"Status": "Enabled"}
        )
    server.client.put_object(Bucket=bucket, Key="a", Body=body)
    return f"s3://{bucket}/a"


def test_every_size_gives_the_same_bytes(server: servers.S3Server, tmp_path: Path) -> None:
    store = store_at(server.endpoint_url, range_bytes=100_003, range_connections=3)
    for size in (1, 100_003, 300_009, 300_010, 400_012, 400_013, 1_234_567):
        fetched = store.fetch(put(server, DATA[:size]), tmp_path / "fetched")
        assert fetched.path.read_bytes() == DATA[:size]
        assert fetched.sha256 == hashlib.sha256(DATA[:size]).hexdigest()
        assert fetched.size_bytes == size
    assert [path.name for path in tmp_path.iterdir()] == ["fetched"]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"range_bytes": len(DATA) // 2, "range_connections": 2}, [None]),
        ({"range_bytes": 1, "range_connections": 1}, [None]),
        (
            {"range_bytes": len(DATA) // 2 - 1, "range_connections": 2},
            [None, f"bytes=2509999-{2 * 2509999 - 1}", "bytes=5019998-"],
        ),
    ],
)
def test_nothing_is_asked_for_twice(
    tmp_path: Path, settings: dict[str, int], expected: list[str | None]
) -> None:
    asked: list[str | None] = []

    def answer(handler: BaseHTTPRequestHandler, _: int) -> None:
        asked.append(handler.headers.get("Range"))
        send_object(handler)

    with http_server(answer) as url:
        store_at(url, **settings).fetch("s3://bucket/a", tmp_path / "fetched")
    assert asked == expected
    assert (tmp_path / "fetched").read_bytes() == DATA


def test_several_ranges_are_under_way_at_once(tmp_path: Path) -> None:
    meeting = Barrier(4, timeout=30)

    def answer(handler: BaseHTTPRequestHandler, number: int) -> None:
        if number > 2 and (range_of(handler) or (0, 0))[0] < 6 * RANGE_BYTES:
            meeting.wait()
        send_object(handler)

    with http_server(answer) as url:
        store_at(url, **IN_RANGES).fetch("s3://bucket/a", tmp_path / "fetched")
    assert (tmp_path / "fetched").read_bytes() == DATA


def test_cut_ranges_are_resumed(server: servers.S3Server, tmp_path: Path) -> None:
    uri = put(server, DATA)
    with s3_proxy(server.endpoint_url) as proxy:
        proxy.add(S3Rule(action="reset", times=7, at_byte=100_000))
        fetched = store_at(proxy.endpoint_url, **IN_RANGES).fetch(uri, tmp_path / "fetched")
        assert len(proxy.log) == 7
    assert fetched.path.read_bytes() == DATA
    assert fetched.sha256 == hashlib.sha256(DATA).hexdigest()


def test_a_range_cut_for_ever_is_transient(tmp_path: Path) -> None:
    def answer(handler: BaseHTTPRequestHandler, _: int) -> None:
        start = (range_of(handler) or (0, 0))[0]
        send_object(handler, only=max(0, 3 * RANGE_BYTES + 7 - start))

    with (
        http_server(answer) as url,
        pytest.raises(StoreUnavailableError, match=r"broke after \d+ of 5020000 bytes, 2 times"),
    ):
        store_at(url, **IN_RANGES).fetch("s3://bucket/a", tmp_path / "fetched")
    assert list(tmp_path.iterdir()) == []


def overwriting(server: servers.S3Server, uri: str, body: bytes | None) -> Callable[..., None]:
    """What changes the object after the first answer and before the ranges."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")

    def change(_: ObjectInfo) -> None:
        if body is None:
            server.client.delete_object(Bucket=bucket, Key=key)
        else:
            server.client.put_object(Bucket=bucket, Key=key, Body=body)

    return change


@pytest.mark.parametrize(
    ("body", "kind"), [(DATA[::-1], StoreUnavailableError), (None, ObjectNotFoundError)]
)
def test_contents_are_never_mixed(
    server: servers.S3Server, tmp_path: Path, body: bytes | None, kind: type[PipelineError]
) -> None:
    uri = put(server, DATA)
    change = overwriting(server, uri, body)
    with pytest.raises(kind, match=r"changed while it was read|does not exist"):
        store_at(server.endpoint_url, **IN_RANGES).fetch(
            uri, tmp_path / "fetched", on_answer=change
        )
    assert list(tmp_path.iterdir()) == []


def test_a_version_is_read_to_its_end(server: servers.S3Server, tmp_path: Path) -> None:
    uri = put(server, DATA, versioned=True)
    store = store_at(server.endpoint_url, **IN_RANGES)
    change = overwriting(server, uri, DATA[::-1])
    fetched = store.fetch(uri, tmp_path / "fetched", on_answer=change)
    assert fetched.path.read_bytes() == DATA
    assert fetched.version not in {None, store.head(uri).version}


def test_servers_without_if_match_do_not_mix_contents(tmp_path: Path) -> None:
    def answer(handler: BaseHTTPRequestHandler, number: int) -> None:
        del handler.headers["If-Match"]
        send_object(handler, etag="v1" if number < 4 else "v2")

    with http_server(answer) as url, pytest.raises(StoreUnavailableError, match="changed while"):
        store_at(url, **IN_RANGES).fetch("s3://bucket/a", tmp_path / "fetched")
    assert list(tmp_path.iterdir()) == []


def test_damage_on_the_way_is_found(s3: servers.S3Server, tmp_path: Path) -> None:
    uri = put(s3, DATA)
    with s3_proxy(s3.endpoint_url) as proxy:
        proxy.add(S3Rule(action="flip", after=3, at_byte=1000))
        store = store_at(proxy.endpoint_url, **IN_RANGES)
        with pytest.raises(StoreUnavailableError, match="arrived damaged"):
            store.fetch(uri, tmp_path / "fetched")
        assert list(tmp_path.iterdir()) == []
        assert store.fetch(uri, tmp_path / "fetched").path.read_bytes() == DATA


def test_servers_without_ranges_are_read_in_one_stream(tmp_path: Path) -> None:
    asked: list[str | None] = []

    def answer(handler: BaseHTTPRequestHandler, _: int) -> None:
        asked.append(handler.headers.get("Range"))
        del handler.headers["Range"]
        send_object(handler)

    with http_server(answer) as url:
        fetched = store_at(url, **IN_RANGES).fetch("s3://bucket/a", tmp_path / "fetched")
    assert fetched.path.read_bytes() == DATA
    assert fetched.sha256 == hashlib.sha256(DATA).hexdigest()
    assert len(asked) == 2


@pytest.mark.parametrize("change", ["bytes=7-", "bytes=0-99"])
def test_other_bytes_than_asked_for_are_refused(tmp_path: Path, change: str) -> None:
    def answer(handler: BaseHTTPRequestHandler, number: int) -> None:
        if number == 5:
            handler.headers.replace_header("Range", change)
        send_object(handler)

    with http_server(answer) as url, pytest.raises(StoreUnavailableError, match="asked for"):
        store_at(url, **IN_RANGES).fetch("s3://bucket/a", tmp_path / "fetched")
    assert list(tmp_path.iterdir()) == []


class Hanging:
    """Sends half of every range and then nothing, until released; acts when so many hang."""

    def __init__(self, count: int, act: Callable[[BaseHTTPRequestHandler], None]) -> None:
        self._count, self._act = count, act
        self._lock, self._hanging, self._released = Lock(), 0, Event()

    def __call__(self, handler: BaseHTTPRequestHandler, _: int) -> None:
        with self._lock:
            self._hanging += 1
            is_last = self._hanging == self._count
        if is_last:
            self._act(handler)
            return
        send_object(handler, only=RANGE_BYTES // 2)
        self._released.wait()

    def release(self) -> None:
        self._released.set()


def fetch_hanging(store: S3Store, tmp_path: Path, hanging: Hanging) -> None:
    try:
        store.fetch("s3://bucket/a", tmp_path / "fetched")
    finally:
        hanging.release()


def test_an_error_in_one_range_ends_the_others(tmp_path: Path) -> None:
    # Without being interrupted the others would read for ten minutes.
    hanging = Hanging(4, lambda handler: send_error(handler, 403, "AccessDenied"))
    with http_server(hanging) as url, pytest.raises(AccessDeniedError, match="refuses"):
        fetch_hanging(store_at(url, read_timeout_seconds=600, **IN_RANGES), tmp_path, hanging)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_fetch_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(handler: BaseHTTPRequestHandler) -> None:
        send_object(handler, only=10)
        os.kill(os.getpid(), signal.SIGINT)

    hanging = Hanging(4, interrupt)
    # A shell starts what runs in the background with interrupts ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with http_server(hanging) as url, pytest.raises(KeyboardInterrupt):
            fetch_hanging(store_at(url, read_timeout_seconds=600, **IN_RANGES), tmp_path, hanging)
    finally:
        signal.signal(signal.SIGINT, before)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_found_before_the_download(tmp_path: Path) -> None:
    numbers: list[int] = []

    def answer(handler: BaseHTTPRequestHandler, number: int) -> None:
        numbers.append(number)
        send_object(handler)

    with http_server(answer) as url, small_disk(tmp_path / "disk") as disk:
        for settings in (IN_RANGES, {"range_connections": 1}):
            with pytest.raises(ResourceExhaustedError, match="no space left"):
                store_at(url, **settings).fetch("s3://bucket/a", disk.folder / "in" / "fetched")
            assert list((disk.folder / "in").iterdir()) == []
        assert os.statvfs(disk.folder).f_bfree * os.statvfs(disk.folder).f_frsize > 1_900_000
    assert numbers == [1, 2]
