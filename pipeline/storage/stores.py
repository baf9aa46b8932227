"""One door to all object stores: the URI's scheme chooses."""

from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import ConfigurationError
from pipeline.storage.base import (
    FetchedObject,
    ObjectInfo,
    ObjectStore,
    OnAnswer,
    OnSkip,
    printable,
)
from pipeline.storage.local import SCHEME as LOCAL_SCHEME
from pipeline.storage.local import LocalStore
from pipeline.storage.s3 import SCHEME as S3_SCHEME
from pipeline.storage.s3 import S3Settings, S3Store


class Stores:
    """An :class:`ObjectStore` for ``file://`` and ``s3://`` URIs alike."""

    def __init__(self, s3: S3Settings) -> None:
        self._stores: dict[str, ObjectStore] = {
            LOCAL_SCHEME: LocalStore(),
            S3_SCHEME: S3Store(s3),
        }

    def list(self, uri: str, *, on_skip: OnSkip | None = None) -> Iterator[ObjectInfo]:
        return self._store(uri).list(uri, on_skip=on_skip)

    def siblings(self, uri: str) -> Iterator[ObjectInfo]:
        return self._store(uri).siblings(uri)

    def head(self, uri: str) -> ObjectInfo:
        return self._store(uri).head(uri)

    def exists(self, uri: str) -> bool:
        return self._store(uri).exists(uri)

    def fetch(
        self,
        uri: str,
        destination: Path,
        *,
        version: str | None = None,
        max_bytes: int | None = None,
        on_answer: OnAnswer | None = None,
    ) -> FetchedObject:
        return self._store(uri).fetch(
            uri, destination, version=version, max_bytes=max_bytes, on_answer=on_answer
        )

    def read_bytes(self, uri: str, *, max_bytes: int | None = None) -> bytes:
        return self._store(uri).read_bytes(uri, max_bytes=max_bytes)

    def write_file(self, uri: str, path: Path, media_type: str) -> None:
        self._store(uri).write_file(uri, path, media_type)

    def write_bytes(self, uri: str, data: bytes, media_type: str) -> None:
        self._store(uri).write_bytes(uri, data, media_type)

    def delete(self, uri: str) -> None:
        self._store(uri).delete(uri)

    def check(self, uri: str) -> None:
        self._store(uri).check(uri)

    def _store(self, uri: str) -> ObjectStore:
        for scheme, store in self._stores.items():
            if uri.startswith(scheme):
                return store
        raise ConfigurationError(f"{printable(uri)} begins with neither file:// nor s3://")
