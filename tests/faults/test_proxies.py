"""The proxies break exactly what they are told to; everything else passes."""

from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest
import servers
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    FlexibleChecksumError,
    ReadTimeoutError,
    ResponseStreamingError,
)
from proxies import tcp_proxy
from s3_proxy import S3Proxy, S3Rule, s3_proxy

BODY = bytes(range(256)) * 40


@pytest.fixture
def s3_via(s3: servers.S3Server) -> Iterator[tuple[S3Proxy, servers.S3Server, str]]:
    """A proxy before the real store, a client that goes through it, and a bucket."""
    with s3_proxy(s3.endpoint_url) as proxy:
        through = servers.S3Server(endpoint_url=proxy.endpoint_url)
        with closing(through.client):
            yield proxy, through, s3.create_bucket()


def test_s3_passes_signed_requests(s3_via: tuple[S3Proxy, servers.S3Server, str]) -> None:
    proxy, through, bucket = s3_via
    through.client.put_object(Bucket=bucket, Key="a b/ü+1.bin", Body=BODY)
    assert through.client.head_object(Bucket=bucket, Key="a b/ü+1.bin")["ContentLength"] == 10240
    answer = through.client.get_object(Bucket=bucket, Key="a b/ü+1.bin", Range="bytes=5-9")
    assert answer["Body"].read() == BODY[5:10]
    listed = through.client.list_objects_v2(Bucket=bucket, Prefix="a b/")
    assert [entry["Key"] for entry in listed["Contents"]] == ["a b/ü+1.bin"]
    through.client.delete_object(Bucket=bucket, Key="a b/ü+1.bin")
    with pytest.raises(ClientError, match="NoSuchKey"):
        through.client.get_object(Bucket=bucket, Key="a b/ü+1.bin")
    assert proxy.log == []


@pytest.mark.parametrize(
    ("action", "code"),
    [("error", "InternalError"), ("slow_down", "SlowDown"), ("denied", "AccessDenied")],
)
def test_s3_answers_what_the_rule_says(
    s3_via: tuple[S3Proxy, servers.S3Server, str], action: str, code: str
) -> None:
    proxy, through, bucket = s3_via
    for key in ("one", "two"):
        through.client.put_object(Bucket=bucket, Key=key, Body=BODY)
    proxy.add(S3Rule(action=action, path="/one", after=1, times=2))  # type: ignore[arg-type]
    seen = []
    for key in ("one", "two", "one", "one", "one"):
        try:
            seen.append(through.client.get_object(Bucket=bucket, Key=key)["Body"].read())
        except ClientError as error:
            seen.append(error.response["Error"]["Code"])
    assert seen == [BODY, BODY, code, code, BODY]
    assert proxy.log == [f"{action} GET /{bucket}/one"] * 2


def test_s3_bodies_are_broken_off_and_damaged(
    s3_via: tuple[S3Proxy, servers.S3Server, str],
) -> None:
    proxy, through, bucket = s3_via
    through.client.put_object(Bucket=bucket, Key="key", Body=BODY, ChecksumAlgorithm="CRC32")
    proxy.add(S3Rule(action="reset", at_byte=1000))
    proxy.add(S3Rule(action="flip", at_byte=77))
    with pytest.raises((ResponseStreamingError, ConnectionClosedError)):
        through.client.get_object(Bucket=bucket, Key="key")["Body"].read()
    with pytest.raises(FlexibleChecksumError):
        through.client.get_object(Bucket=bucket, Key="key")["Body"].read()
    assert through.client.get_object(Bucket=bucket, Key="key")["Body"].read() == BODY


def test_s3_hangs_until_released(s3: servers.S3Server) -> None:
    import boto3
    from botocore.config import Config

    with s3_proxy(s3.endpoint_url) as proxy:
        config = Config(read_timeout=0.5, retries={"total_max_attempts": 1})
        session = boto3.session.Session(servers.ACCESS_KEY, servers.SECRET_KEY)
        client = session.client("s3", endpoint_url=proxy.endpoint_url, config=config)
        with closing(client):
            proxy.add(S3Rule(action="hang", times=None))
            with pytest.raises(ReadTimeoutError):
                client.list_buckets()
            proxy.clear()
            assert client.list_buckets()["Buckets"]


def test_tcp_refuses_and_cuts(postgres_database: str) -> None:
    with tcp_proxy(postgres_database.replace("+psycopg", "")) as (proxy, url):
        with psycopg.connect(url, autocommit=True) as open_one:
            proxy.refuse()
            with pytest.raises(psycopg.OperationalError):
                psycopg.connect(url)
            assert open_one.execute("SELECT 1").fetchone() == (1,)
            proxy.accept()
            psycopg.connect(url).close()
            assert proxy.cut() >= 1
            with pytest.raises(psycopg.OperationalError):
                open_one.execute("SELECT 1")
        assert proxy.log[:2] == ["refuse", "accept"]


@pytest.mark.parametrize(("when", "kept"), [("before", {1, 3}), ("after", {1, 2, 3})])
def test_tcp_cuts_at_commit(postgres_database: str, when: str, kept: set[int]) -> None:
    plain = postgres_database.replace("+psycopg", "")
    with tcp_proxy(plain) as (proxy, url):
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE number (n int)")
        proxy.cut_commits(when, every=2, times=1)  # type: ignore[arg-type]
        outcome = []
        for number in (1, 2, 3):
            connection = psycopg.connect(url)
            try:
                connection.execute("INSERT INTO number VALUES (%s)", [number])
                connection.commit()
                outcome.append(True)
            except psycopg.OperationalError:
                outcome.append(False)
            connection.close()
        assert outcome == [True, False, True]
        assert proxy.log == [f"cut {when} commit"]
    with psycopg.connect(plain) as connection:
        assert {n for (n,) in connection.execute("SELECT n FROM number")} == kept
