"""S3 and compatible servers as an object store: ``s3://bucket/key``, the key raw, never encoded.

boto3 is imported with the first call, so that programs without S3 need not pay for it.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import urlsplit

from pipeline.errors import (
    ConfigurationError,
    MediaLimitError,
    ObjectNotFoundError,
    SourceError,
)
from pipeline.storage.base import (
    FetchedObject,
    ObjectInfo,
    OnAnswer,
    OnSkip,
    check_uri_text,
    printable,
    stem_of,
)
from pipeline.storage.files import preallocate, replacing

if TYPE_CHECKING:
    from pipeline.storage.s3_download import Download

SCHEME = "s3://"

#: Connections kept open for the next request; more at a time are closed after theirs.
_MAX_CONNECTIONS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Settings:
    """Where S3 is and how patient to be; credentials come from the usual AWS places only.

    ``endpoint_url`` ``None``: Amazon. ``path_style`` ``None``: the bucket is in the path where an
    endpoint is given and in the host name at Amazon. ``max_attempts`` counts the first try.
    Objects of more than ``range_bytes * range_connections`` are fetched in ranges of that size over
    so many connections at once.
    """

    endpoint_url: str | None = None
    region: str | None = None
    path_style: bool | None = None
    connect_timeout_seconds: float = 5
    read_timeout_seconds: float = 60
    max_attempts: int = 5
    range_bytes: int = 16 << 20
    range_connections: int = 4


def parse_s3_uri(uri: str) -> tuple[str, str]:
    """Bucket and key of ``s3://bucket/key``; the key may be empty, begin with ``/``, hold ``..``.

    Raises:
        ConfigurationError: not ``s3://``, or no bucket.
        SourceError: the key is not valid UTF-8.
    """
    check_uri_text(uri)
    bucket, _, key = uri.removeprefix(SCHEME).partition("/")
    if not uri.startswith(SCHEME) or not bucket:
        raise ConfigurationError(f"{printable(uri)} is not of the form s3://bucket/key")
    return bucket, key


class S3Store:
    """One client, made with the first call; safe for threads, not to be carried over a fork."""

    def __init__(self, settings: S3Settings) -> None:
        self._settings = settings
        self._lock = Lock()
        self._shared_client: Any = None

    def list(self, uri: str, *, on_skip: OnSkip | None = None) -> Iterator[ObjectInfo]:
        bucket, prefix = parse_s3_uri(uri)
        with self._translated(bucket, prefix) as client:
            paginator = client.get_paginator("list_objects_v2")
            pages = iter(paginator.paginate(Bucket=bucket, Prefix=prefix))
        while True:
            with self._translated(bucket, prefix):
                page = next(pages, None)
            if page is None:
                return
            yield from _listed(bucket, page)

    def siblings(self, uri: str) -> Iterator[ObjectInfo]:
        bucket, key = parse_s3_uri(uri)
        name = key.rpartition("/")[2]
        prefix = f"{key.removesuffix(name)}{stem_of(name)}."
        with self._translated(bucket, prefix) as client:
            page = client.list_objects_v2(Bucket=bucket, Prefix=prefix, Delimiter="/")
        yield from _listed(bucket, page)

    def head(self, uri: str) -> ObjectInfo:
        bucket, key = _object_of(uri)
        with self._translated(bucket, key) as client:
            answer = client.head_object(Bucket=bucket, Key=key)
        self._check_is_s3(answer, uri)
        return ObjectInfo(
            uri=uri,
            size_bytes=answer["ContentLength"],
            etag=answer["ETag"].strip('"'),
            version=answer.get("VersionId"),
            modified_at=answer.get("LastModified"),
        )

    def exists(self, uri: str) -> bool:
        try:
            self.head(uri)
        except ObjectNotFoundError:
            return False
        return True

    def fetch(
        self,
        uri: str,
        destination: Path,
        *,
        version: str | None = None,
        max_bytes: int | None = None,
        on_answer: OnAnswer | None = None,
    ) -> FetchedObject:
        with self._download(uri, version, max_bytes) as download:
            info = ObjectInfo(
                uri=uri,
                size_bytes=download.size_bytes,
                etag=download.etag.strip('"'),
                version=download.version,
            )
            if on_answer is not None and (fetched := on_answer(info)) is not None:
                return fetched
            with replacing(destination, durable=False) as file:
                preallocate(file, download.size_bytes)
                sha256 = self._receive(download, file)
        return FetchedObject(
            path=destination,
            sha256=sha256,
            size_bytes=info.size_bytes,
            etag=info.etag,
            version=info.version,
            is_scratch=True,
        )

    def _receive(self, download: "Download", file: BinaryIO) -> str:
        from pipeline.storage.s3_ranges import fetch_ranges

        digest = hashlib.sha256()
        size, connections = self._settings.range_bytes, self._settings.range_connections
        if (
            connections == 1
            or download.size_bytes <= size * connections
            or not fetch_ranges(download, file, digest, range_bytes=size, connections=connections)
        ):
            for chunk in download.chunks():
                digest.update(chunk)
                file.write(chunk)
        return digest.hexdigest()

    def read_bytes(self, uri: str, *, max_bytes: int | None = None) -> bytes:
        with self._download(uri, None, max_bytes) as download:
            return b"".join(download.chunks())

    def write_file(self, uri: str, path: Path, media_type: str) -> None:
        bucket, key = _object_of(uri)
        # upload_file() would turn the client's errors into text; this call lets them through.
        with path.open("rb") as file, self._translated(bucket, key) as client:
            client.upload_fileobj(file, bucket, key, ExtraArgs={"ContentType": media_type})

    def write_bytes(self, uri: str, data: bytes, media_type: str) -> None:
        bucket, key = _object_of(uri)
        with self._translated(bucket, key) as client:
            client.put_object(Bucket=bucket, Key=key, Body=data, ContentType=media_type)

    def delete(self, uri: str) -> None:
        bucket, key = _object_of(uri)
        with self._translated(bucket, key) as client:
            client.delete_object(Bucket=bucket, Key=key)

    def check(self, uri: str) -> None:
        bucket, key = parse_s3_uri(uri)
        with self._translated(bucket, key) as client:
            client.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1)

    @contextmanager
    def _download(
        self, uri: str, version: str | None, max_bytes: int | None
    ) -> Iterator["Download"]:
        from pipeline.storage.s3_download import Download

        bucket, key = _object_of(uri)

        def request(**arguments: str) -> dict[str, Any]:
            with self._translated(bucket, key) as client:
                answer: dict[str, Any] = client.get_object(Bucket=bucket, Key=key, **arguments)
            self._check_is_s3(answer, uri)
            return answer

        download = Download(request, uri, version=version, max_attempts=self._settings.max_attempts)
        try:
            if max_bytes is not None and download.size_bytes > max_bytes:
                raise MediaLimitError(
                    f"{uri} has {download.size_bytes} bytes, more than the limit of {max_bytes}"
                )
            with self._translated(bucket, key):
                yield download
        finally:
            download.close()

    @contextmanager
    def _translated(self, bucket: str, key: str) -> Iterator[Any]:
        """The client; what it raises inside the block becomes an error of mediaweave."""
        from botocore.exceptions import ClientError

        from pipeline.storage.s3_errors import CALL_ERRORS, code_of, translate

        client = self._client()

        def probe() -> str | None:
            try:
                client.list_objects_v2(Bucket=bucket, MaxKeys=1)
            except ClientError as error:
                return code_of(error)
            except CALL_ERRORS:
                return "unknown"
            return None

        try:
            yield client
        except CALL_ERRORS as error:
            raise translate(
                error, bucket=bucket, key=key, store=self._store_name(), probe=probe
            ) from error

    def _client(self) -> Any:
        with self._lock:
            if self._shared_client is None:
                self._shared_client = _make_client(self._settings)
            return self._shared_client

    def _check_is_s3(self, answer: dict[str, Any], uri: str) -> None:
        if not {"ContentLength", "ETag"} <= answer.keys():
            raise SourceError(f"{self._store_name()} answers for {uri} unlike S3: check its URL")

    def _store_name(self) -> str:
        """The endpoint for messages, without any password in its URL."""
        if self._settings.endpoint_url is None:
            return "Amazon S3"
        parts = urlsplit(self._settings.endpoint_url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _object_of(uri: str) -> tuple[str, str]:
    bucket, key = parse_s3_uri(uri)
    if not key:
        raise ObjectNotFoundError(f"{uri} names a whole bucket: give the key of an object in it")
    return bucket, key


def _listed(bucket: str, page: dict[str, Any]) -> Iterator[ObjectInfo]:
    for entry in page.get("Contents", ()):
        yield ObjectInfo(
            uri=f"{SCHEME}{bucket}/{entry['Key']}",
            size_bytes=entry["Size"],
            etag=entry["ETag"].strip('"'),
            modified_at=entry.get("LastModified"),
        )


def _make_client(settings: S3Settings) -> Any:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    style = {None: "path" if settings.endpoint_url else "auto", True: "path", False: "virtual"}
    config = Config(
        connect_timeout=settings.connect_timeout_seconds,
        read_timeout=settings.read_timeout_seconds,
        retries={"mode": "standard", "total_max_attempts": settings.max_attempts},
        max_pool_connections=_MAX_CONNECTIONS,
        tcp_keepalive=True,
        s3={"addressing_style": style[settings.path_style]},
        # Many compatible servers refuse the checksum trailers that Amazon takes by default.
        request_checksum_calculation="when_required" if settings.endpoint_url else None,
    )
    try:
        # A session of its own: boto3's default session is not safe to use from several threads.
        return boto3.session.Session().client(
            "s3", region_name=settings.region, endpoint_url=settings.endpoint_url, config=config
        )
    except (BotoCoreError, ValueError) as error:
        raise ConfigurationError(
            f"the S3 settings are not usable: {type(error).__name__}; check endpoint_url, region "
            "and AWS_PROFILE"
        ) from error
