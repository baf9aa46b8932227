"""What only object stores do: versions, pages, refusals, broken connections."""

import hashlib
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from itertools import islice
from pathlib import Path

import pytest
import servers
from hypothesis import given
from hypothesis import strategies as st
from s3_answers import DATA, http_server, send_error, send_object, store_at

from pipeline.errors import (
    AccessDeniedError,
    ConfigurationError,
    ObjectNotFoundError,
    PipelineError,
    SourceError,
    StoreUnavailableError,
)
from pipeline.storage.s3 import S3Settings, S3Store, parse_s3_uri
from pipeline.storage.sources import SourceItem, expand
from pipeline.storage.stores import Stores

MOTO_ACCOUNT = "123456789012"


@pytest.fixture(params=["seaweedfs", "moto"])
def server(request: pytest.FixtureRequest) -> servers.S3Server:
    name = "s3" if request.param == "seaweedfs" else "moto_s3"
    found: servers.S3Server = request.getfixturevalue(name)
    return found


def test_listing_goes_on_over_pages(moto_s3: servers.S3Server) -> None:
    from moto.s3.models import s3_backends

    bucket = moto_s3.create_bucket()
    backend = s3_backends[MOTO_ACCOUNT]["aws"]
    names = [f"part/{number:05}.mp4" for number in range(10_050)]
    for name in names:
        backend.put_object(bucket, name, b"")
    store = store_at(moto_s3.endpoint_url)
    uris = [f"s3://{bucket}/{name}" for name in names]
    assert [info.uri for info in store.list(f"s3://{bucket}/part/")] == uris
    few = islice(expand(f"s3://{bucket}/part", store), 3)
    assert [entry.uri for entry in few] == uris[:3]


def test_old_versions_stay_readable(server: servers.S3Server, tmp_path: Path) -> None:
    bucket = server.create_bucket()
    server.client.put_bucket_versioning(
        Bucket=bucket, VersioningConfiguration={"Status": "Enabled"}
    )
    store, uri = store_at(server.endpoint_url), f"s3://{bucket}/a.mp4"
    store.write_bytes(uri, b"first", "video/mp4")
    first = store.head(uri)
    store.write_bytes(uri, b"second", "video/mp4")
    assert first.version is not None
    assert store.head(uri).version not in {None, first.version}

    old = store.fetch(uri, tmp_path / "old", version=first.version)
    assert (old.path.read_bytes(), old.version, old.etag) == (b"first", first.version, first.etag)
    new = store.fetch(uri, tmp_path / "new")
    assert (new.path.read_bytes(), new.version) == (b"second", store.head(uri).version)
    with pytest.raises(SourceError, match=r"a\.mp4"):
        store.fetch(uri, tmp_path / "none", version="0123456789abcdef0123456789abcdef")

    (item,) = expand(uri, store)
    assert isinstance(item, SourceItem)
    assert item.version == new.version


def test_stores_keep_the_media_type(server: servers.S3Server, tmp_path: Path) -> None:
    bucket, store = server.create_bucket(), store_at(server.endpoint_url)
    (tmp_path / "file").write_bytes(b"x")
    store.write_file(f"s3://{bucket}/file", tmp_path / "file", "image/jpeg")
    store.write_bytes(f"s3://{bucket}/bytes", b"x", "image/png")
    kept = [
        server.client.head_object(Bucket=bucket, Key=key)["ContentType"]
        for key in ("file", "bytes")
    ]
    assert kept == ["image/jpeg", "image/png"]


def test_large_files_are_uploaded_in_parts(server: servers.S3Server, tmp_path: Path) -> None:
    uri, store = f"s3://{server.create_bucket()}/large", store_at(server.endpoint_url)
    (tmp_path / "large").write_bytes(DATA * 4)
    store.write_file(uri, tmp_path / "large", "video/mp4")
    fetched = store.fetch(uri, tmp_path / "fetched")
    assert fetched.sha256 == hashlib.sha256(DATA * 4).hexdigest()
    assert fetched.etag.endswith("-3")  # three parts


def test_many_threads_share_a_store(moto_s3: servers.S3Server, tmp_path: Path) -> None:
    bucket, store = moto_s3.create_bucket(), store_at(moto_s3.endpoint_url)
    uri = f"s3://{bucket}/a"
    moto_s3.client.put_object(Bucket=bucket, Key="a", Body=DATA)
    with ThreadPoolExecutor(8) as pool:
        digests = pool.map(lambda n: store.fetch(uri, tmp_path / str(n)).sha256, range(16))
    assert set(digests) == {hashlib.sha256(DATA).hexdigest()}


def calls(store: S3Store, uri: str, tmp_path: Path) -> list[Callable[[], object]]:
    return [
        lambda: store.head(uri),
        lambda: store.exists(uri),
        lambda: store.read_bytes(uri),
        lambda: store.fetch(uri, tmp_path / "fetched"),
        lambda: store.write_bytes(uri, b"", "text/plain"),
        lambda: list(store.list(uri)),
        lambda: list(store.siblings(uri)),
        lambda: store.check(uri),
    ]


def test_a_missing_bucket_is_told_from_a_missing_key(
    server: servers.S3Server, tmp_path: Path
) -> None:
    store = store_at(server.endpoint_url)
    nowhere = "s3://no-such-bucket/a.mp4"
    asked = calls(store, nowhere, tmp_path)
    assert store.exists(nowhere) is False
    for call in asked[:1] + asked[2:]:
        with pytest.raises(ObjectNotFoundError, match="the bucket no-such-bucket does not exist"):
            call()
    missing = f"s3://{server.create_bucket()}/a.mp4"
    for call in (lambda: store.head(missing), lambda: store.read_bytes(missing)):
        with pytest.raises(ObjectNotFoundError, match=r"the key of s3://.* does not exist"):
            call()


@pytest.mark.parametrize(
    ("access_key", "secret_key", "sentence"),
    [
        (servers.ACCESS_KEY, "wrong-secret", r"secret access key .* is wrong"),
        ("unknown", "wrong-secret", "does not know the access key"),
        (servers.POWERLESS_ACCESS_KEY, servers.POWERLESS_SECRET_KEY, "allow s3:ListBucket"),
    ],
)
def test_refusals_say_why_and_no_secret(
    s3: servers.S3Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    access_key: str,
    secret_key: str,
    sentence: str,
) -> None:
    uri = f"s3://{s3.create_bucket()}/a.mp4"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret_key)
    store = store_at(s3.endpoint_url)
    for call in calls(store, uri, tmp_path):
        with pytest.raises(AccessDeniedError, match=sentence) as caught:
            call()
        assert re.search(r"Signature=|X-Amz|wrong-secret", str(caught.value)) is None
    assert list(expand(uri, store)) == [SourceItem(uri=uri)]


def test_without_credentials_the_message_says_how_to_give_them(
    moto_s3: servers.S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(AccessDeniedError, match="AWS_ACCESS_KEY_ID"):
        store_at(moto_s3.endpoint_url).head("s3://bucket/a.mp4")


@pytest.mark.parametrize("uri", ["s3://", "s3:///a", "s3://a*b/c", "http://bucket/a"])
def test_bad_buckets_are_a_matter_of_configuration(uri: str, moto_s3: servers.S3Server) -> None:
    with pytest.raises(ConfigurationError):
        store_at(moto_s3.endpoint_url).head(uri)


@pytest.mark.parametrize("endpoint_url", ["not a url", "127.0.0.1:1"])
def test_bad_endpoints_are_a_matter_of_configuration(endpoint_url: str) -> None:
    with pytest.raises(ConfigurationError, match="endpoint_url"):
        store_at(endpoint_url).head("s3://bucket/a")


def test_a_bucket_is_no_object(moto_s3: servers.S3Server) -> None:
    with pytest.raises(ObjectNotFoundError, match="names a whole bucket"):
        store_at(moto_s3.endpoint_url).head("s3://bucket")


def test_an_unreachable_endpoint_is_transient(tmp_path: Path) -> None:
    (port,) = servers.free_ports(1)
    store = store_at(f"http://user:hush@127.0.0.1:{port}", max_attempts=1)
    for call in calls(store, "s3://bucket/a", tmp_path):
        with pytest.raises(
            StoreUnavailableError, match=f"cannot reach http://127.0.0.1:{port}"
        ) as e:
            call()
        assert "hush" not in str(e.value)
    with pytest.raises(StoreUnavailableError):
        list(expand("s3://bucket/a", store))


def test_a_cut_download_is_resumed(tmp_path: Path) -> None:
    ranges: list[str | None] = []

    def answer(handler: BaseHTTPRequestHandler, number: int) -> None:
        ranges.append(handler.headers.get("Range"))
        send_object(handler, only=0 if number == 1 else 1_500_000)

    with http_server(answer) as url:
        fetched = store_at(url).fetch("s3://bucket/a", tmp_path / "fetched")
    assert fetched.sha256 == hashlib.sha256(DATA).hexdigest()
    assert fetched.path.read_bytes() == DATA
    assert len(ranges) > 4
    assert ranges[:2] == [None, None]
    assert all(ranges[2:])


def test_a_download_cut_for_ever_is_transient(tmp_path: Path) -> None:
    def answer(handler: BaseHTTPRequestHandler, number: int) -> None:
        send_object(handler, only=100_000 if number == 1 else 0)

    with (
        http_server(answer) as url,
        pytest.raises(StoreUnavailableError, match="broke after 100000 of 5020000 bytes, 2 times"),
    ):
        store_at(url).fetch("s3://bucket/a", tmp_path / "fetched")
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_sends_more_than_it_stated(tmp_path: Path) -> None:
    sent = []

    def answer(handler: BaseHTTPRequestHandler, _: int) -> None:
        handler.send_response(200)
        handler.send_header("ETag", '"v1"')
        handler.send_header("Content-Length", "10")
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"a\r\n0123456789\r\n")
        for _ in range(1000):
            handler.wfile.write(b"10000\r\n" + bytes(65536) + b"\r\n")
            sent.append(65536)

    with http_server(answer) as url:
        with pytest.raises(StoreUnavailableError, match="more than the 10 bytes"):
            store_at(url).fetch("s3://bucket/a", tmp_path / "fetched", max_bytes=10)
        with pytest.raises(StoreUnavailableError, match="more than the 10 bytes"):
            store_at(url).read_bytes("s3://bucket/a", max_bytes=10)
    assert list(tmp_path.iterdir()) == []
    assert sum(sent) < 2 * 1000 * 65536, "it was all read"


def test_an_object_replaced_during_the_download_is_transient(tmp_path: Path) -> None:
    def answer(handler: BaseHTTPRequestHandler, number: int) -> None:
        send_object(handler, only=100_000, etag=f"v{number}")

    with (
        http_server(answer) as url,
        pytest.raises(StoreUnavailableError, match="changed while it was read"),
    ):
        store_at(url).fetch("s3://bucket/a", tmp_path / "fetched")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (503, "SlowDown", StoreUnavailableError),
        (500, "InternalError", StoreUnavailableError),
        (429, "TooManyRequests", StoreUnavailableError),
        (403, "InvalidObjectState", SourceError),
        (400, "ExpiredToken", AccessDeniedError),
        (501, "NotImplemented", SourceError),
        (409, "Whatever", SourceError),
    ],
)
def test_other_answers(status: int, code: str, kind: type[PipelineError]) -> None:
    with http_server(lambda handler, _: send_error(handler, status, code)) as url:
        with pytest.raises(kind, match=code) as caught:
            store_at(url, max_attempts=1).read_bytes("s3://bucket/a")
        assert type(caught.value) is kind
        assert "secret" not in str(caught.value)


def test_a_server_that_is_not_s3() -> None:
    def answer(handler: BaseHTTPRequestHandler, number: int) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(b"<html><p>Welcome!</html>")

    with http_server(answer) as url, pytest.raises(SourceError, match="unlike S3"):
        store_at(url, max_attempts=1).read_bytes("s3://bucket/a")


@given(bucket=st.from_regex(r"[a-z0-9.-]{3,63}", fullmatch=True), key=st.text())
def test_keys_are_taken_as_they_are(bucket: str, key: str) -> None:
    try:
        key.encode()
        is_storable = "\0" not in key
    except UnicodeEncodeError:
        is_storable = False
    if is_storable:
        assert parse_s3_uri(f"s3://{bucket}/{key}") == (bucket, key)
    else:
        with pytest.raises(SourceError):
            parse_s3_uri(f"s3://{bucket}/{key}")


def test_importing_the_stores_does_not_import_boto3() -> None:
    code = "import sys; import pipeline.storage.sources, pipeline.storage.stores as s; "
    code += "s.Stores(s.S3Settings()); sys.exit('boto3' in sys.modules)"
    folder = Path(parse_s3_uri.__code__.co_filename).parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=folder)


def test_stores_know_two_schemes_only() -> None:
    with pytest.raises(ConfigurationError, match="neither file:// nor s3://"):
        Stores(S3Settings()).head("gs://bucket/a")
