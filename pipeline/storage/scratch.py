"""The scratch space of a worker: temporary folders, and fetched media kept for later stages."""

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp
from uuid import uuid4

from pipeline.errors import MediaLimitError, ResourceExhaustedError
from pipeline.storage.files import sync_file, translate_write_error

_FOLDER = "work-"
#: In a temporary folder: how many bytes its fetch has claimed.
_CLAIM = ".claim"
#: How long a folder may be without that name.
UNNAMED_SECONDS = 60
#: Others who hold the space open media, which ends; after so long the run goes back to the queue.
WAIT_SECONDS = 300.0
_LOOK_SECONDS = 0.1


class ScratchSpace:
    """Files by sha256, the least recently used evicted first, beside temporary folders.

    Several processes may share ``root``, a folder on a local disk: files appear by atomic renames,
    and locks that the kernel drops with their process keep them while they are in use.
    ``max_bytes``, alike for all of them, bounds kept files and claims together: whoever fetches
    media claims its size first. 0 keeps nothing and bounds nothing.
    """

    def __init__(self, root: Path, max_bytes: int, *, wait_seconds: float = WAIT_SECONDS) -> None:
        self._root = root
        self._kept = root / "kept"
        self._folders = root / "tmp"
        self._max_bytes = max_bytes
        self._wait_seconds = wait_seconds
        for folder in (self._kept, self._folders):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise translate_write_error(error, folder) from error

    def claim(self, folder: Path, size_bytes: int, what: str) -> None:
        """Have room for a file of ``what`` in a temporary folder, evicting kept files not in use.

        Waits for what others hold, a few minutes at most. The claim ends with the folder or its
        process, and becomes a kept file by :meth:`keep`. A folder has one: claiming again gives the
        former up first, so that nobody holds room while waiting for room.

        Raises:
            MediaLimitError: more than the whole scratch space.
            ResourceExhaustedError: others still hold the room, or the disk is full.
        """
        if self._max_bytes == 0:
            return
        if size_bytes > self._max_bytes:
            raise MediaLimitError(
                f"{what} has {size_bytes} bytes, more than the scratch space may hold: raise "
                f"scratch_max_bytes, which is {self._max_bytes}"
            )
        note = folder / _CLAIM
        deadline = time.monotonic() + self._wait_seconds
        try:
            note.unlink(missing_ok=True)
            while not self._try_claim(note, size_bytes):
                if time.monotonic() >= deadline:
                    raise ResourceExhaustedError(
                        f"no room for the {size_bytes} bytes of {what} in {self._root}: other work "
                        "holds it; raise scratch_max_bytes or work on less at once"
                    )
                time.sleep(_LOOK_SECONDS)
        except OSError as error:
            raise translate_write_error(error, note) from error

    @contextmanager
    def keep(self, path: Path, sha256: str) -> Iterator[Path]:
        """Move a file into the kept ones, for :meth:`get`; gives where it is, until the block ends.

        ``path`` lies in the temporary folder that claimed its room; nobody may change the file from
        now on. It stays where it is if nothing is kept.

        Raises:
            ResourceExhaustedError: the disk is full.
        """
        if self._max_bytes == 0:
            yield path
            return
        with ExitStack() as pinned:
            try:
                # Nobody looks at the bytes again: a power cut must not leave the name without them.
                sync_file(path)
                with self._locked():
                    kept = pinned.enter_context(self.get(sha256))
                    if kept is None:
                        kept = path.replace(self._kept / sha256)
                        pinned.enter_context(self.get(sha256))
                    else:
                        path.unlink()
                    (path.parent / _CLAIM).unlink(missing_ok=True)
            except OSError as error:
                raise translate_write_error(error, self._kept) from error
            yield kept

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

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One at a time, of all threads and processes, looks at what is held and changes it."""
        with (self._root / "lock").open("ab") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield

    def _try_claim(self, note: Path, size_bytes: int) -> bool:
        with self._locked():
            self._sweep()
            room = self._max_bytes - self._claimed_bytes() - size_bytes
            if room < 0 or not self._evict(room, size_bytes):
                return False
            try:
                note.write_text(str(size_bytes))
            except OSError:
                note.unlink(missing_ok=True)
                raise
            return True

    def _claimed_bytes(self) -> int:
        total = 0
        for note in self._folders.glob(f"*/{_CLAIM}"):
            with suppress(FileNotFoundError):  # its folder was removed
                total += int(note.read_text())
        return total

    def _sweep(self) -> None:
        for folder in self._folders.glob(f"{_FOLDER}*"):
            with _locked_if_free(folder) as free:
                if free:
                    shutil.rmtree(folder, ignore_errors=True)

    def _evict(self, max_bytes: int, disk_bytes: int) -> bool:
        """Whether no more than so much is kept, after removing what is in the way: of the bound, or
        of so much free disk."""
        files: list[tuple[float, int, Path]] = []
        for path in self._kept.iterdir():
            with suppress(FileNotFoundError):  # removed by hand
                status = path.stat()
                files.append((status.st_atime, status.st_size, path))
        total = sum(size for _, size, _ in files)
        disk = os.statvfs(self._root)
        free = disk.f_bavail * disk.f_frsize
        for _, size, path in sorted(files):
            if total <= max_bytes and free >= disk_bytes:
                break
            with _locked_if_free(path) as is_free:
                if is_free:
                    path.unlink(missing_ok=True)
                    total -= size
                    free += size
        return total <= max_bytes


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
