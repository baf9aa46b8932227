"""What moves work without doing it: the dispatcher, the event relay, the scheduler.

Every worker process runs them, and ``mediaweave dispatcher`` runs nothing else; any number at once.
"""

from collections.abc import Sequence

from celery import Celery

from pipeline.runner.runtime import Runtime
from workers.dispatcher import Dispatcher


class Services:
    """The threads around the work. ``queues`` and ``slots``: what this process works on itself."""

    def __init__(
        self,
        runtime: Runtime,
        app: Celery,
        *,
        queues: Sequence[str] = (),
        slots: int = 0,
        with_scheduler: bool,
    ) -> None:
        self.dispatcher = Dispatcher(runtime, app, queues=queues, slots=slots)

    @property
    def alive(self) -> bool:
        return self.dispatcher.alive

    def start(self) -> None:
        self.dispatcher.start()

    def stop(self) -> None:
        self.dispatcher.stop()
