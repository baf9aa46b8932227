"""The child's sign of life."""

import os
import time

_EVERY_SECONDS = 0.25


class Progress:
    """Tells the parent, over a pipe and a few times per second at most, that something came out.

    ``descriptor``: the pipe's writing end, not blocking.
    """

    __slots__ = ("_descriptor", "_next")

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._next = 0.0

    def tick(self) -> None:
        """A frame, a picture or a file of cues was taken in. Cheap enough for every frame."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _EVERY_SECONDS
        try:
            os.write(self._descriptor, b".")
        except BlockingIOError:
            # The parent has enough of them to read.
            return
