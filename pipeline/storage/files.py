"""Local files done with care: hashing, and writes that are whole or absent."""

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from pipeline.errors import ConfigurationError, PipelineError, ResourceExhaustedError

#: Large enough that hashing and copying run outside the interpreter lock most of the time.
CHUNK_BYTES = 1 << 20

_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def hash_stream(stream: BufferedReader) -> str:
    """Hexadecimal SHA-256 of what is left of the stream."""
    return hashlib.file_digest(stream, "sha256").hexdigest()


def hash_file(path: Path) -> str:
    """Hexadecimal SHA-256 of a file of ours; raises ``OSError`` as it comes."""
    with path.open("rb") as stream:
        return hash_stream(stream)


def sync_file(path: Path) -> None:
    """Wait until the file's bytes are on the disk."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def preallocate(file: BinaryIO, size_bytes: int) -> None:
    """Set disk space aside for the file, which is so long then: a full disk shows at once.

    Raises ``OSError`` as it comes. Where the file system cannot do it nothing happens.
    """
    if size_bytes == 0 or not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(file.fileno(), 0, size_bytes)
    except OSError as error:
        if error.errno not in {errno.EOPNOTSUPP, errno.EINVAL}:
            raise


def write_at(descriptor: int, data: bytes, offset: int) -> None:
    """Write all of the data at a place of the file; raises ``OSError`` as it comes."""
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


@contextmanager
def replacing(destination: Path, *, durable: bool) -> Iterator[BinaryIO]:
    """A new file that takes the place of ``destination`` when the block ends without an error.

    With ``durable`` the bytes are on the disk before the name is, so that a power cut leaves the
    old file or the new one; that is slow for large files. Folders are made. Inside the block, only
    writing to the file may raise ``OSError``.

    Raises:
        ResourceExhaustedError: the disk is full.
        ConfigurationError: the folder cannot be written.
    """
    temporary = destination.with_name(f".part-{uuid4().hex}")
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("x+b") as file:
                yield file
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            temporary.replace(destination)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise translate_write_error(error, destination) from error


def translate_write_error(error: OSError, path: Path) -> PipelineError:
    """What a failed write means: a full disk passes, a folder we may not write does not."""
    if error.errno in _NO_SPACE:
        return ResourceExhaustedError(f"no space left to write {path}: free some disk space")
    return ConfigurationError(
        f"cannot write {path}: {error.strerror or error}; check the folder and its permissions"
    )
