"""A thread that takes messages from one place until it is told to stop."""

import threading
from abc import ABC, abstractmethod

import structlog

from pipeline.errors import ConfigurationError
from pipeline.runner.runtime import Runtime

log = structlog.get_logger()

#: Between two tries after a failure that was not foreseen.
RESTART_SECONDS = 5


class Listener(ABC):
    """Takes messages in a thread of its own.

    ``name`` says to people where from. Once started, only settings that turn out to be wrong end a
    listener.
    """

    def __init__(self, runtime: Runtime, name: str) -> None:
        self.name = name
        self._runtime = runtime
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"intake {name}", daemon=True)

    def start(self) -> None:
        """Connect and begin to listen.

        Raises:
            ConfigurationError: a setting is wrong.
            BrokerUnavailableError: there is nobody to listen to.
        """
        self._prepare()
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        """Take no more messages; returns at once. May be called twice."""
        self._stopping.set()

    def join(self, timeout: float) -> bool:
        """Wait for the message at hand; gives whether nothing runs any more."""
        if self.alive:
            self._thread.join(timeout)
        return not self.alive

    @abstractmethod
    def _prepare(self) -> None:
        """Connect once, to tell at the start what is wrong; raises as :meth:`start` does."""

    @abstractmethod
    def _listen(self) -> None:
        """Take messages until ``_stopping`` is set; survives whatever it listens to."""

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._listen()
            except ConfigurationError as error:
                log.error("intake_cannot_go_on", source=self.name, reason=str(error))  # noqa: TRY400
                return
            except Exception:  # a bug here must not stop the intake of a whole night
                log.exception("intake_failed", source=self.name)
                self._stopping.wait(RESTART_SECONDS)
