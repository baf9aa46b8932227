"""A large object in ranges, over several connections at once. Imported with boto3.

boto3's transfer manager is not used: from a server that ignores ``Range`` it puts the whole object
at each part's place (s3transfer 0.19), it fetches a part whose connection broke from its beginning,
and it asks with HEAD first unless checksums are turned off for the whole client.
"""

import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import Any, BinaryIO

from botocore.exceptions import FlexibleChecksumError
from botocore.httpchecksum import Crc32Checksum, Sha1Checksum, Sha256Checksum

from pipeline.errors import StoreUnavailableError
from pipeline.storage.files import CHUNK_BYTES, write_at
from pipeline.storage.s3_download import Download, Span

#: Digests of whole objects that servers tell; of parts joined, they hold a dash.
_CHECKSUMS = {
    "ChecksumCRC32": Crc32Checksum,
    "ChecksumSHA1": Sha1Checksum,
    "ChecksumSHA256": Sha256Checksum,
}


def fetch_ranges(
    download: Download, file: BinaryIO, digest: Any, *, range_bytes: int, connections: int
) -> bool:
    """Fill the file, as long as the object already, and update ``digest`` with its bytes.

    The first answer serves the first range; what else of it was under way is dropped. Gives whether
    the server knows ranges: if not, nothing was read. An error in one range ends the others.

    Memory: two chunks per connection. Raises as :meth:`Span.chunks` does, and ``OSError`` of the
    file.
    """
    second = download.part(range_bytes, min(2 * range_bytes, download.size_bytes))
    if second is None:
        return False
    with closing(second):
        first = download.beginning(range_bytes)
        _Ranges(download, file, range_bytes).fetch([first, second], connections, digest)
    return True


class _Ranges:
    """The ranges of one object, handed out in order to whoever is free."""

    def __init__(self, download: Download, file: BinaryIO, range_bytes: int) -> None:
        self._download = download
        self._descriptor = file.fileno()
        self._range_bytes = range_bytes
        self._changed = threading.Condition()
        self._next = 0
        self._active: set[Span] = set()
        #: Ranges that are complete, and how many are so from the beginning on.
        self._complete: set[int] = set()
        self._in_order = 0
        self._failures: list[BaseException] = []

    def fetch(self, begun: list[Span], connections: int, digest: Any) -> None:
        self._next = len(begun) * self._range_bytes
        with ThreadPoolExecutor(connections, thread_name_prefix="s3-range") as pool:
            try:
                for number in range(connections):
                    span = begun[number] if number < len(begun) else None
                    pool.submit(self._work, span).add_done_callback(self._note_failure)
                self._digest(digest)
            finally:
                self._stop()

    def _work(self, span: Span | None) -> None:
        span = span or self._begin()
        while span is not None:
            start = span.position
            with self._changed:
                self._active.add(span)
            try:
                with closing(span):
                    for chunk in span.chunks():
                        write_at(self._descriptor, chunk, span.position - len(chunk))
            finally:
                with self._changed:
                    self._active.discard(span)
            self._note_complete(start // self._range_bytes)
            span = self._begin()

    def _begin(self) -> Span | None:
        with self._changed:
            start = self._next
            if start >= self._download.size_bytes or self._download.stopped.is_set():
                return None
            self._next += self._range_bytes
        stop = min(start + self._range_bytes, self._download.size_bytes)
        span = self._download.part(start, stop)
        if span is None:
            raise StoreUnavailableError(
                f"the server of {self._download.uri} knows ranges at one time and not at another"
            )
        return span

    def _note_complete(self, number: int) -> None:
        with self._changed:
            if self._download.stopped.is_set():
                return
            self._complete.add(number)
            while self._in_order in self._complete:
                self._complete.remove(self._in_order)
                self._in_order += 1
            self._changed.notify_all()

    def _note_failure(self, work: "Future[None]") -> None:
        error = work.exception()
        if error is not None:
            with self._changed:
                self._failures.append(error)
                self._changed.notify_all()

    def _stop(self) -> None:
        with self._changed:
            self._download.stopped.set()
            for span in self._active:
                span.interrupt()

    def _wait_beyond(self, done: int) -> int:
        """Up to where the object is complete, once that is beyond ``done``."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._failures or self._in_order * self._range_bytes > done
            )
            if self._failures:
                raise self._failures[0]
            return min(self._in_order * self._range_bytes, self._download.size_bytes)

    def _digest(self, digest: Any) -> None:
        """Follows the ranges: what is read back is still in the page cache."""
        name, expected = _checksum_of(self._download.answer)
        checksum = _CHECKSUMS[name]() if name is not None else None
        done = 0
        while done < self._download.size_bytes:
            stop = self._wait_beyond(done)
            while done < stop:
                chunk = os.pread(self._descriptor, min(CHUNK_BYTES, stop - done), done)
                digest.update(chunk)
                if checksum is not None:
                    checksum.update(chunk)
                done += len(chunk)
        if checksum is not None and checksum.b64digest() != expected:
            raise FlexibleChecksumError(error_msg=f"{name} differs")


def _checksum_of(answer: dict[str, Any]) -> tuple[str | None, str]:
    if answer.get("ChecksumType") != "COMPOSITE":
        for name in _CHECKSUMS:
            if "-" not in (told := answer.get(name, "-")):
                return name, told
    return None, ""
