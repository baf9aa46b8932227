"""One object as a stream of bytes that survives cut connections. Imported with boto3."""

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from typing import Any

from pipeline.errors import StoreUnavailableError
from pipeline.storage.files import CHUNK_BYTES
from pipeline.storage.s3_errors import CUT_ERRORS

_PARTIAL_CONTENT = 206


class Download:
    """The answer to a GET of a whole object, and more requests for the very same bytes.

    ``request`` makes the GET, with more arguments for a part of the object; they name ETag and
    version of the first answer, so that bytes of two contents are never mixed. ``max_attempts``
    bounds the tries in a row that bring no byte.
    """

    def __init__(
        self,
        request: Callable[..., dict[str, Any]],
        uri: str,
        *,
        version: str | None,
        max_attempts: int,
    ) -> None:
        self._request = request
        self.uri = uri
        self.max_attempts = max_attempts
        #: Set when nobody wants the bytes any more: no span reads on or resumes.
        self.stopped = threading.Event()
        self.answer = request(**_of_version(version))
        self.size_bytes: int = self.answer["ContentLength"]
        self.etag: str = self.answer["ETag"]
        self.version: str | None = self.answer.get("VersionId")
        self._pin = {"IfMatch": self.etag, **_of_version(self.version or version)}

    def chunks(self) -> Iterator[bytes]:
        """All bytes, out of the first answer: call this or :meth:`beginning`, once."""
        with closing(self.beginning(self.size_bytes)) as span:
            yield from span.chunks()

    def beginning(self, stop: int) -> "Span":
        """The first bytes, out of the first answer; the rest of it is not read."""
        return Span(self, 0, stop, self.answer["Body"])

    def part(self, start: int, stop: int) -> "Span | None":
        """Some of the bytes by a request of their own; ``None``: the server knows no ranges."""
        body = self.ask(start, stop)
        return None if body is None else Span(self, start, stop, body)

    def ask(self, start: int, stop: int) -> Any:
        """A body of these bytes, or ``None`` where the server would send the whole object."""
        is_whole = start == 0 and stop == self.size_bytes
        # The end is left open where it is the object's own.
        last = "" if stop == self.size_bytes else stop - 1
        arguments = {} if is_whole else {"Range": f"bytes={start}-{last}"}
        answer = self._request(**self._pin, **arguments)
        if answer["ETag"] != self.etag:  # not every server knows If-Match
            answer["Body"].close()
            raise StoreUnavailableError(f"{self.uri} changed while it was read: try again")
        if not is_whole and answer["ResponseMetadata"]["HTTPStatusCode"] != _PARTIAL_CONTENT:
            answer["Body"].close()
            return None
        told = answer.get("ContentRange") or f"bytes {start}-"
        if answer["ContentLength"] != stop - start or not told.startswith(f"bytes {start}-"):
            answer["Body"].close()
            raise StoreUnavailableError(
                f"the server of {self.uri} sends {told} ({answer['ContentLength']} bytes) where "
                f"bytes {start}-{stop - 1} were asked for"
            )
        return answer["Body"]

    def close(self) -> None:
        self.answer["Body"].close()


class Span:
    """Some bytes of an object, in order; a cut connection is resumed where it broke."""

    def __init__(self, download: Download, start: int, stop: int, body: Any) -> None:
        self._download = download
        self._stop = stop
        self._body = body
        self._is_whole = start == 0 and stop == download.size_bytes
        #: Where the next byte belongs in the object.
        self.position = start

    def chunks(self) -> Iterator[bytes]:
        """At most :data:`CHUNK_BYTES` at a time; complete, or an error, or nobody wants more."""
        fruitless = 0
        while not self._download.stopped.is_set():
            missing = self._stop - self.position
            if not missing and not self._is_whole:
                return
            cause: Exception | None = None
            try:
                # A whole body is read beyond its end: only then is its checksum compared.
                chunk = self._body.read(min(CHUNK_BYTES, missing or 1))
            except CUT_ERRORS as error:
                chunk, cause = b"", error
            if chunk and not missing:
                raise StoreUnavailableError(
                    f"the server of {self._download.uri} sends more than the "
                    f"{self._download.size_bytes} bytes that it stated"
                )
            if chunk:
                self.position += len(chunk)
                fruitless = 0
                yield chunk
            elif cause is None and not missing:
                return
            elif not self._download.stopped.is_set():
                fruitless += 1
                self._resume(fruitless, cause)

    def interrupt(self) -> None:
        """Have a read that blocks in another thread end; :attr:`Download.stopped` is set."""
        # botocore has no method for it, and urllib3 none where the body has come to its end.
        stream = getattr(self._body, "_raw_stream", None)
        with suppress(AttributeError, ValueError, RuntimeError, OSError):
            stream.shutdown()  # type: ignore[union-attr]

    def close(self) -> None:
        self._body.close()

    def _resume(self, fruitless: int, cause: Exception | None) -> None:
        download = self._download
        if fruitless >= download.max_attempts or self.position >= self._stop:
            raise StoreUnavailableError(
                f"the connection for {download.uri} broke after {self.position} of "
                f"{download.size_bytes} bytes, {fruitless} times"
            ) from cause
        self.close()
        body = download.ask(self.position, self._stop)
        if body is None:
            raise StoreUnavailableError(
                f"the connection for {download.uri} broke and its server cannot resume"
            )
        self._body = body


def _of_version(version: str | None) -> dict[str, str]:
    return {} if version is None else {"VersionId": version}
