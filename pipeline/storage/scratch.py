"""The scratch space of a worker: temporary folders, and fetched media kept for later stages."""

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp
from uuid import uuid4

from pipeline.storage.files import (
    CHUNK_BYTES,
    replacing,
    sync_file,
    translate_write_error,
)

_FOLDER = "work-"
#: How long a folder may be without that name.
UNNAMED_SECONDS = 60


class ScratchSpace:
    """Files by sha256, the least recently used evicted first, beside temporary folders.

    Several processes may share ``root``, a folder on a local disk: files appear by atomic
    renames, and locks that the kernel drops with their process keep them while they are in use.
    ``max_bytes`` bounds the kept files only, and is exceeded rather than a file in use evicted.
    """

    def __init__(self, root: Path, max_bytes: int) -> None:
        self._kept = root / "kept"
        self._folders = root / "tmp"
        self._max_bytes = max_bytes
        for folder in (self._kept, self._folders):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise translate_write_error(error, folder) from error

    def store(self, path: Path, sha256: str) -> None:
        """Keep a fetched file's content for :meth:`get`; ``path`` itself stays where it is.

        Only for files that are scratch. Costs no copy where ``path`` is on the disk of ``root``:
        the caller must not change the file. A file beyond ``max_bytes`` is not kept.

        Raises:
            ResourceExhaustedError: the disk is full.
        """
        kept = self._kept / sha256
        if kept.exists() or path.stat().st_size > self._max_bytes:
            return
        # Nobody looks at the bytes again: a power cut must not leave the name without them.
        sync_file(path)
        try:
            os.link(path, kept)
        except FileExistsError:
            return
        except OSError:  # on another disk, or one without hard links
            self._copy(path, kept)
        _mark_used(kept)
        self._evict()

    @contextmanager
    def get(self, sha256: str) -> Iterator[Path | None]:
        """The kept file, not evicted before the block ends; ``None`` if it is not here."""
        kept = self._kept / sha256
        try:
            stream = kept.open("rb")
        except FileNotFoundError:
            yield None
            return
        with stream:
            fcntl.flock(stream, fcntl.LOCK_SH)
            if not _is_still(kept, stream.fileno()):
                yield None
                return
            _mark_used(kept)
            yield kept

    @contextmanager
    def temporary_folder(self) -> Iterator[Path]:
        """An empty folder, removed with all it holds when the block ends.

        What killed processes left behind is removed on the way.

        Raises:
            ResourceExhaustedError: the disk is full.
        """
        self._sweep()
        try:
            folder = Path(mkdtemp(prefix="new-", dir=self._folders))
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            # Locked before it has the name that the sweep of another process looks for.
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            folder = folder.rename(folder.with_name(f"{_FOLDER}{uuid4().hex}"))
        except OSError as error:
            raise translate_write_error(error, self._folders) from error
        try:
            yield folder
        finally:
            # What cannot be removed now must not hide the block's own error: a sweep tries again.
            shutil.rmtree(folder, ignore_errors=True)
            os.close(descriptor)

    def abandoned(
        self, *, remove: bool = False, unnamed_seconds: float = UNNAMED_SECONDS
    ) -> list[Path]:
        """Temporary folders whose process is gone; with ``remove``, those that were removed.

        ``unnamed_seconds``: age of those whose process died before it could lock them.
        """
        found: list[Path] = []
        for folder in self._folders.iterdir():
            if not folder.name.startswith(_FOLDER) and _age_seconds(folder) < unnamed_seconds:
                continue  # about to be locked and to get its name
            with _locked_if_free(folder) as free:
                if free:
                    found.append(folder)
                    if remove:
                        shutil.rmtree(folder, ignore_errors=True)
        return found

    def _copy(self, path: Path, kept: Path) -> None:
        with self.temporary_folder() as folder:
            copy = folder / kept.name
            with path.open("rb") as source, replacing(copy, durable=True) as target:
                shutil.copyfileobj(source, target, CHUNK_BYTES)
            copy.replace(kept)

    def _sweep(self) -> None:
        for folder in self._folders.glob(f"{_FOLDER}*"):
            with _locked_if_free(folder) as free:
                if free:
                    shutil.rmtree(folder, ignore_errors=True)

    def _evict(self) -> None:
        files: list[tuple[float, int, Path]] = []
        for path in self._kept.iterdir():
            with suppress(FileNotFoundError):  # evicted by another process
                status = path.stat()
                files.append((status.st_atime, status.st_size, path))
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if total <= self._max_bytes:
                return
            with _locked_if_free(path) as free:
                if free:
                    path.unlink(missing_ok=True)
                    total -= size


def _age_seconds(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0


def _mark_used(path: Path) -> None:
    """Sets the access time, which orders the eviction; the time of modification stays."""
    with suppress(FileNotFoundError):  # evicted by another process
        os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))


@contextmanager
def _locked_if_free(path: Path) -> Iterator[bool]:
    """Whether nobody uses the file or folder; if so, nobody can begin to inside the block."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield False
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(descriptor)


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
