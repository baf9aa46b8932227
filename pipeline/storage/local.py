"""Local files as an object store: ``file://`` and the absolute path, not percent-encoded."""

import errno
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from io import BufferedReader
from pathlib import Path

from pipeline.errors import (
    AccessDeniedError,
    ConfigurationError,
    MediaLimitError,
    ObjectNotFoundError,
    PipelineError,
    SourceError,
    StoreUnavailableError,
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
from pipeline.storage.files import CHUNK_BYTES, hash_stream, replacing

SCHEME = "file://"

_ANY_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_MISSING = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG})
_DENIED = frozenset({errno.EACCES, errno.EPERM})
#: What network mounts answer while their server is away.
_AWAY = frozenset({errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.ENOTCONN})


def normalise_uri(text: str) -> str:
    """A source as a person writes it, as a URI: paths become ``file://``, ``s3://`` is kept.

    Relative paths are taken from the current folder; ``.`` and ``..`` of paths are resolved by
    name. Nothing is decoded: ``%20`` in a name is three characters.

    Raises:
        ConfigurationError: the text is empty or of a scheme that mediaweave does not read.
        SourceError: the name is not valid UTF-8.
    """
    if not text:
        raise ConfigurationError("the source is empty: give s3://bucket/key or a local path")
    check_uri_text(text)
    match = _ANY_SCHEME.match(text)
    if match is None:
        return SCHEME + os.path.abspath(text)
    scheme, rest = match[1].lower(), text[match.end() :]
    if scheme == "s3":
        return f"s3://{rest}"
    if scheme == "file" and rest.startswith("/"):
        return SCHEME + os.path.abspath(rest)
    if scheme == "file":
        raise ConfigurationError(f"{text} is not an absolute path: write file:///folder/name")
    raise ConfigurationError(
        f"cannot read {scheme}:// sources ({printable(text)}): give s3://bucket/key or a local path"
    )


def path_of(uri: str) -> Path:
    """The path of a ``file://`` URI.

    Raises:
        ConfigurationError: the URI is not ``file://`` and an absolute path.
        SourceError: the name is not valid UTF-8.
    """
    if not uri.startswith(SCHEME + "/"):
        raise ConfigurationError(f"{printable(uri)} is not file:// and an absolute path")
    check_uri_text(uri)
    return Path(uri.removeprefix(SCHEME))


class LocalStore:
    """Regular files only: folders, FIFOs, sockets and devices are never opened.

    ETag is size and modification time; there are no versions; media types are not kept.
    """

    def list(self, uri: str, *, on_skip: OnSkip | None = None) -> Iterator[ObjectInfo]:
        path = path_of(uri)
        with _translated(uri):
            status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            yield from _walk(str(path), on_skip or _ignore)
        else:
            yield _info(uri, status)

    def siblings(self, uri: str) -> Iterator[ObjectInfo]:
        path = path_of(uri)
        prefix = f"{stem_of(path.name)}."
        with _translated(uri), os.scandir(path.parent) as entries:
            names = sorted(entry.name for entry in entries if entry.name.startswith(prefix))
        for name in names[:1000]:
            sibling = SCHEME + str(path.parent / name)
            try:
                info = self.head(sibling)
            except SourceError:
                continue  # not a readable file: not a sidecar
            yield info

    def head(self, uri: str) -> ObjectInfo:
        path = path_of(uri)
        with _translated(uri):
            return _info(uri, path.stat())

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
        """Hashes the file in place: ``destination`` is not touched, ``path`` is the file's own."""
        if version is not None:
            raise ObjectNotFoundError(f"{uri} has no version {version}: files keep no versions")
        with _opened(uri, max_bytes) as (stream, info):
            sha256 = hash_stream(stream)
        return FetchedObject(
            path=path_of(uri),
            sha256=sha256,
            size_bytes=info.size_bytes,
            etag=info.etag,
            version=None,
            is_scratch=False,
        )

    def read_bytes(self, uri: str, *, max_bytes: int | None = None) -> bytes:
        with _opened(uri, max_bytes) as (stream, _):
            return stream.read()

    def write_file(self, uri: str, path: Path, media_type: str) -> None:
        with path.open("rb") as source, replacing(path_of(uri), durable=True) as target:
            shutil.copyfileobj(source, target, CHUNK_BYTES)

    def write_bytes(self, uri: str, data: bytes, media_type: str) -> None:
        with replacing(path_of(uri), durable=True) as target:
            target.write(data)

    def delete(self, uri: str) -> None:
        try:
            self.head(uri)  # never a folder, a FIFO or a device
        except ObjectNotFoundError:
            return
        try:
            path_of(uri).unlink(missing_ok=True)
        except PermissionError as error:
            raise AccessDeniedError(
                f"no permission to delete {uri}: check the owner and mode of its folder"
            ) from error
        except OSError as error:
            raise _translate(error, uri) from error

    def check(self, uri: str) -> None:
        path = path_of(uri)
        with _translated(uri):
            if not path.is_dir():
                path = path.parent
            with os.scandir(path) as entries:
                next(entries, None)


def _walk(root: str, on_skip: OnSkip) -> Iterator[ObjectInfo]:
    """Regular files below a folder in key order; holds the names of one folder per level."""
    pending = [_children(root)]
    while pending:
        entry = next(pending[-1], None)
        if entry is None:
            pending.pop()
            continue
        uri = SCHEME + entry.path
        try:
            check_uri_text(entry.path)
            with _translated(uri):
                if entry.is_symlink() and entry.is_dir():
                    raise SourceError(f"{uri} is a symbolic link to a folder: it is not followed")
                if entry.is_dir():
                    pending.append(_children(entry.path))
                    continue
                info = _info(uri, entry.stat())
        except SourceError as error:
            on_skip(printable(uri), printable(str(error)))
        else:
            yield info


def _children(folder: str) -> Iterator[os.DirEntry[str]]:
    with _translated(SCHEME + folder), os.scandir(folder) as entries:
        return iter(sorted(entries, key=_key_order))


def _key_order(entry: os.DirEntry[str]) -> bytes:
    is_folder = entry.is_dir(follow_symlinks=False)
    return os.fsencode(entry.name) + (b"/" if is_folder else b"")


@contextmanager
def _opened(uri: str, max_bytes: int | None) -> Iterator[tuple[BufferedReader, ObjectInfo]]:
    """A regular file for reading, that must not change until the block ends."""
    path = path_of(uri)
    with _translated(uri):
        _info(uri, path.stat())  # opening a device or FIFO may have effects: look first
        # Without O_NONBLOCK a FIFO put there meanwhile would block for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as stream:
            info = _info(uri, os.fstat(descriptor))
            if max_bytes is not None and info.size_bytes > max_bytes:
                raise MediaLimitError(
                    f"{uri} has {info.size_bytes} bytes, more than the limit of {max_bytes}"
                )
            yield stream, info
            if _info(uri, os.fstat(descriptor)) != info:
                raise StoreUnavailableError(f"{uri} changed while it was read: is it complete?")


def _info(uri: str, status: os.stat_result) -> ObjectInfo:
    if stat.S_ISDIR(status.st_mode):
        raise SourceError(f"{uri} is a folder, not a file")
    if not stat.S_ISREG(status.st_mode):
        raise SourceError(f"{uri} is not a regular file")
    etag = f"{status.st_size}-{status.st_mtime_ns}"
    return ObjectInfo(
        uri=uri, size_bytes=status.st_size, etag=etag, modified_at=_time_of(status.st_mtime)
    )


def _time_of(seconds: float) -> datetime | None:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None  # files may say anything, years beyond 9999 too


@contextmanager
def _translated(uri: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _translate(error, uri) from error


def _translate(error: OSError, uri: str) -> PipelineError:
    if error.errno in _MISSING:
        return ObjectNotFoundError(f"{uri} does not exist: check the path")
    if error.errno in _DENIED:
        return AccessDeniedError(f"no permission to read {uri}: check the file's owner and mode")
    if error.errno in _AWAY:
        return StoreUnavailableError(f"cannot read {uri} now: {error.strerror}")
    return SourceError(f"cannot read {uri}: {error.strerror or error}")


def _ignore(uri: str, reason: str) -> None:
    """The listing's caller does not ask what was left out."""
