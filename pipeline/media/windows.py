"""Windows of tiny frames from the child to the model in its parent, and scores back.

Two pipes, and nothing but arrays of known shapes on them: a number of windows (4 bytes, little
endian) and the windows; for each window its scores.
"""

import os
import threading
from collections.abc import Callable
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from pipeline.errors import ContractError

Windows = npt.NDArray[np.uint8]
Scores = npt.NDArray[np.float32]

#: Of one window of frames (RGB) and of its scores.
WINDOW_SHAPE = (100, 27, 48, 3)
SCORES_SHAPE = (100, 2)
_WINDOW_BYTES = int(np.prod(WINDOW_SHAPE))
_SCORES_BYTES = 4 * int(np.prod(SCORES_SHAPE))
_COUNT_BYTES = 4
#: More than a detector asks for at once.
_MOST_WINDOWS = 256


class WindowScorer:
    """The child's end."""

    def __init__(self, windows_fd: int, scores_fd: int) -> None:
        self._out = os.fdopen(windows_fd, "wb", buffering=0)
        self._in = os.fdopen(scores_fd, "rb")

    def ask(self, windows: Windows) -> Scores:
        """``windows``: uint8, ``(n, 100, 27, 48, 3)``, RGB; gives float32 ``(n, 100, 2)``.

        Raises:
            ContractError: the parent does not answer any more.
        """
        try:
            _write(self._out, len(windows).to_bytes(_COUNT_BYTES, "little"))
            _write(self._out, np.ascontiguousarray(windows).data.cast("B"))
        except BrokenPipeError as error:
            raise ContractError("the model that finds shots is gone") from error
        answer = self._in.read(len(windows) * _SCORES_BYTES)
        if len(answer) != len(windows) * _SCORES_BYTES:
            raise ContractError("the model that finds shots gave no answer")
        return np.frombuffer(answer, np.float32).reshape(-1, *SCORES_SHAPE)


class WindowServer:
    """The parent's end: answers in a thread of its own, until the child closes its end.

    ``score`` gets uint8 ``(n, 100, 27, 48, 3)`` and gives float32 ``(n, 100, 2)``; what it raises
    is kept for :meth:`check`, and ends the child's splitting.
    """

    def __init__(self, score: Callable[[Windows], Scores]) -> None:
        self._score = score
        self._windows, child_windows = os.pipe()
        child_scores, self._scores = os.pipe()
        #: For the child.
        self.child_fds = (child_windows, child_scores)
        self._failure: Exception | None = None
        self._is_scoring = False
        self._thread = threading.Thread(target=self._serve, name="windows", daemon=True)

    def start(self) -> None:
        """The child has its descriptors."""
        for descriptor in self.child_fds:
            os.close(descriptor)
        self._thread.start()

    def join(self) -> None:
        """The child has ended."""
        self._thread.join()

    def is_scoring(self) -> bool:
        """Whether the child waits for the model, which may take long to load."""
        return self._is_scoring

    def check(self) -> None:
        """Raises what the model raised, if it did."""
        if self._failure is not None:
            raise self._failure

    def _scored(self, windows: Windows) -> Scores:
        self._is_scoring = True
        try:
            return self._score(windows)
        finally:
            self._is_scoring = False

    def _serve(self) -> None:
        with os.fdopen(self._windows, "rb") as windows, os.fdopen(self._scores, "wb", 0) as scores:
            try:
                while count := int.from_bytes(windows.read(_COUNT_BYTES), "little"):
                    if count > _MOST_WINDOWS:
                        raise ContractError(f"the media child asks for {count} windows at once")
                    data = windows.read(count * _WINDOW_BYTES)
                    if len(data) != count * _WINDOW_BYTES:
                        return
                    asked = np.frombuffer(data, np.uint8).reshape(count, *WINDOW_SHAPE)
                    answer = np.ascontiguousarray(self._scored(asked), np.float32)
                    if answer.shape != (count, *SCORES_SHAPE):
                        raise ContractError(
                            f"expected scores of {count} windows, got {answer.shape=}"
                        )
                    _write(scores, answer.data.cast("B"))
            except BrokenPipeError:
                # The child is gone; why is told by its end.
                return
            except Exception as error:  # noqa: BLE001 - check() raises it where it belongs
                self._failure = error


def _write(file: BinaryIO, data: bytes | memoryview) -> None:
    """All of it: a pipe may take less at once."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
