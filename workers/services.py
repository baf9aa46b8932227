"""What moves work without doing it: the dispatcher, the event relay, the scheduler.

Every worker process runs them, and ``mediaweave dispatcher`` runs nothing else; any number at once.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from celery import Celery

from pipeline.runner.runtime import Runtime
from workers.dispatcher import Dispatcher
from workers.relay import Relay
from workers.scheduler import Scheduler


class Service(Protocol):
    """Threads that do one thing until they are stopped."""

    @property
    def alive(self) -> bool: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...


class Services:
    """The threads around the work. The first arguments are the dispatcher's."""

    def __init__(
        self,
        runtime: Runtime,
        app: Celery,
        *,
        queues: Sequence[str] = (),
        slots: int = 0,
        renew: Callable[[], None] = lambda: None,
        on_silence: Callable[[], None] = lambda: None,
        with_scheduler: bool,
    ) -> None:
        self.dispatcher = Dispatcher(
            runtime, app, queues=queues, slots=slots, renew=renew, on_silence=on_silence
        )
        self._all: list[Service] = [self.dispatcher, Relay(runtime)]
        if with_scheduler:
            self._all.append(Scheduler(runtime))

    @property
    def alive(self) -> bool:
        return all(service.alive for service in self._all)

    def start(self) -> None:
        for service in self._all:
            service.start()

    def stop(self) -> None:
        for service in self._all:
            service.stop()
