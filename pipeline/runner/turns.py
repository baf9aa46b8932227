"""Who may work in this process at once."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """Many stage runs share the process, or one has it alone.

    Whoever wants it alone goes first: nobody else begins until it has had its turn.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._sharing = 0
        self._alone = False
        self._wanting = 0

    @property
    def is_wanted_alone(self) -> bool:
        """Whether somebody waits for the others to end."""
        with self._changed:
            return self._wanting > 0

    @contextmanager
    def shared(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._alone and not self._wanting)
            self._sharing += 1
        try:
            yield
        finally:
            with self._changed:
                self._sharing -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        with self._changed:
            self._wanting += 1
            try:
                self._changed.wait_for(lambda: not self._alone and not self._sharing)
                self._alone = True
            finally:
                self._wanting -= 1
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._alone = False
                self._changed.notify_all()
