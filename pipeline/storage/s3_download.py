"""One object as a stream of bytes that survives cut connections. Imported with boto3."""

from collections.abc import Callable, Iterator
from typing import Any

from pipeline.errors import StoreUnavailableError
from pipeline.storage.files import CHUNK_BYTES
from pipeline.storage.s3_errors import CUT_ERRORS

_PARTIAL_CONTENT = 206


class Download:
    """The answer to a GET; a cut connection is resumed where it broke, for the same ETag only.

    ``request`` makes the GET, with more arguments for the rest of the object. ``max_attempts``
    bounds the tries that bring no byte.
    """

    def __init__(
        self, request: Callable[..., dict[str, Any]], uri: str, *, max_attempts: int
    ) -> None:
        self._request = request
        self._uri = uri
        self._max_attempts = max_attempts
        answer = request()
        self._body = answer["Body"]
        self.size_bytes: int = answer["ContentLength"]
        self.etag: str = answer["ETag"]
        self.version: str | None = answer.get("VersionId")

    def chunks(self) -> Iterator[bytes]:
        """All bytes in order, at most :data:`CHUNK_BYTES` at a time; complete or an error."""
        received = 0
        fruitless = 0
        while True:
            cause: Exception | None = None
            try:
                chunk = self._body.read(CHUNK_BYTES)
            except CUT_ERRORS as error:
                chunk, cause = b"", error
            if chunk:
                received += len(chunk)
                fruitless = 0
                yield chunk
            elif cause is None and received == self.size_bytes:
                return
            else:
                fruitless += 1
                if fruitless >= self._max_attempts or received >= self.size_bytes:
                    raise StoreUnavailableError(
                        f"the connection for {self._uri} broke after {received} of "
                        f"{self.size_bytes} bytes, {fruitless} times"
                    ) from cause
                self._resume(received)

    def close(self) -> None:
        self._body.close()

    def _resume(self, received: int) -> None:
        self.close()
        if received == 0:
            self._body = self._request(IfMatch=self.etag)["Body"]
            return
        answer = self._request(IfMatch=self.etag, Range=f"bytes={received}-")
        self._body = answer["Body"]
        if answer["ResponseMetadata"]["HTTPStatusCode"] != _PARTIAL_CONTENT:
            raise StoreUnavailableError(
                f"the connection for {self._uri} broke and its server cannot resume"
            )
