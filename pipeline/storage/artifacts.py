"""Derived blobs - keyframes, audio, exports - addressed by their content."""

import hashlib
import os
import re
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

from pipeline.errors import ContractError, ObjectNotFoundError, SourceError
from pipeline.storage.base import ObjectStore
from pipeline.storage.files import hash_file, sync_file, translate_write_error
from pipeline.storage.local import SCHEME as LOCAL_SCHEME
from pipeline.storage.local import normalise_uri, path_of

#: Half of the age at which `mediaweave clean` takes a blob that nobody refers to.
REWRITTEN_AFTER = timedelta(hours=12)

#: What came over a network damaged is read again; what lies there damaged stays so.
READS = 3

#: Downloads that nobody has asked for so long are removed: longer than any run works on one.
UNUSED_SECONDS = 6 * 3600
#: How often one of the processes looks for them.
_SWEPT_EVERY_SECONDS = 1800

_SHA256 = re.compile(r"[0-9a-f]{64}")


class ArtifactStore:
    """Blobs under ``root/ab/cd/<sha256>``. Putting one twice writes it once; none ever changes.

    ``root_uri``: a folder (path or ``file://``) or ``s3://bucket/prefix``. ``cache_dir`` keeps what
    :meth:`local_path` downloads, for some hours; it is not used for a local root. Safe for threads
    and processes.
    All methods raise as :class:`~pipeline.storage.base.ObjectStore` does.
    """

    def __init__(self, root_uri: str, stores: ObjectStore, cache_dir: Path) -> None:
        self._root = normalise_uri(root_uri).rstrip("/")
        self._stores = stores
        self._cache_dir = cache_dir

    @property
    def is_local(self) -> bool:
        """Whether the artifacts are plain files of this machine."""
        return self._root.startswith(LOCAL_SCHEME)

    def put_file(self, path: Path, media_type: str) -> str:
        """Store a copy of the file; its sha256."""
        sha256 = hash_file(path)
        if not self._has(sha256, path.stat().st_size):
            self._stores.write_file(self.uri(sha256), path, media_type)
        return sha256

    def put_bytes(self, data: bytes, media_type: str) -> str:
        """Store the bytes; their sha256."""
        sha256 = hashlib.sha256(data).hexdigest()
        if not self._has(sha256, len(data)):
            self._stores.write_bytes(self.uri(sha256), data, media_type)
        return sha256

    def uri(self, sha256: str) -> str:
        """Where the blob is, or would be.

        Raises:
            ContractError: not 64 lower-case hexadecimal digits.
        """
        return f"{self._root}/{_key(sha256)}"

    def local_path(self, sha256: str) -> Path:
        """The blob as a local file, not to be changed: downloaded once where the root is remote.

        Raises:
            ObjectNotFoundError: no such artifact.
            SourceError: the stored bytes are not what was put.
            ResourceExhaustedError: the disk is full.
        """
        if self.is_local:
            self._stores.head(self.uri(sha256))
            return path_of(self.uri(sha256))
        cached = self._cache_dir / _key(sha256)
        with suppress(FileNotFoundError):
            # Not all file systems note when a file was read.
            os.utime(cached, ns=(time.time_ns(), cached.stat().st_mtime_ns))
            return cached
        self._remove_unused()
        # Under a name of its own until it is known to be right.
        arriving = cached.with_name(f".part-{uuid4().hex}")
        for _ in range(READS):
            if self._stores.fetch(self.uri(sha256), arriving).sha256 == sha256:
                sync_file(arriving)
                arriving.replace(cached)
                return cached
            arriving.unlink()
        raise self._damaged(sha256)

    def read_bytes(self, sha256: str) -> bytes:
        """The blob in memory.

        Raises:
            ObjectNotFoundError: no such artifact.
            SourceError: the stored bytes are not what was put.
        """
        for _ in range(READS):
            data = self._stores.read_bytes(self.uri(sha256))
            if hashlib.sha256(data).hexdigest() == sha256:
                return data
        raise self._damaged(sha256)

    def _remove_unused(self) -> None:
        marker, now = self._cache_dir / ".swept", time.time()
        try:
            with suppress(FileNotFoundError):
                if now - marker.stat().st_mtime < _SWEPT_EVERY_SECONDS:
                    return
            self._cache_dir.mkdir(parents=True, exist_ok=True)
            marker.touch()
            for path in self._cache_dir.glob("??/??/*"):
                with suppress(FileNotFoundError):  # removed by another process
                    if now - path.stat().st_atime > UNUSED_SECONDS:
                        path.unlink()
        except OSError as error:
            raise translate_write_error(error, self._cache_dir) from error

    def _has(self, sha256: str, size_bytes: int) -> bool:
        # The size tells a blob apart that a full disk or a power cut truncated long ago. An old
        # blob is written anew: nobody may refer to it yet, and cleaning up goes by the age.
        try:
            known = self._stores.head(self.uri(sha256))
        except ObjectNotFoundError:
            return False
        return known.size_bytes == size_bytes and not _is_old(known.modified_at)

    def _damaged(self, sha256: str) -> SourceError:
        return SourceError(f"the artifact {self.uri(sha256)} is damaged: delete it and run again")


def _is_old(modified_at: datetime | None) -> bool:
    return modified_at is not None and datetime.now(UTC) - modified_at > REWRITTEN_AFTER


def _key(sha256: str) -> str:
    if not _SHA256.fullmatch(sha256):
        raise ContractError(f"expected a sha256 in hexadecimal, got {sha256!r}")
    return f"{sha256[:2]}/{sha256[2:4]}/{sha256}"
