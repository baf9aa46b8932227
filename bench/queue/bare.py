"""Bare Celery for comparison: the same broker, kind of queue and worker options, a task that does
nothing. Run as a worker process by the bench.

Every task appends the time of its end to a file, which is one system call: how else would it be
known when 6,000 tasks were done?
"""

import argparse
import os
import struct
import time
from pathlib import Path
from typing import Any

from celery import Celery
from celery.worker import WorkController

from pipeline.config import Settings
from workers.app import make_app, queue_name

NOTHING = "bench.nothing"
QUEUE = queue_name("cpu")
_ENDED_AT = struct.Struct("d")


def bare_app(broker: str, ends: Path) -> Celery:
    """An app with our options (late acknowledgement, prefetch of 1, publisher confirms)."""
    app = make_app(Settings(broker=broker))
    state: dict[str, int] = {}

    @app.task(name=NOTHING, shared=False)  # type: ignore[untyped-decorator]
    def nothing(successors: int) -> None:
        """``successors``: how many tasks like this one are sent one after another."""
        if successors:
            app.send_task(NOTHING, args=[successors - 1], queue=QUEUE)
        if "file" not in state:
            state["file"] = os.open(ends, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(state["file"], _ENDED_AT.pack(time.monotonic()))

    return app


def ends_of(ends: Path) -> list[float]:
    """When each task ended, by the monotonic clock."""
    try:
        content = ends.read_bytes()
    except FileNotFoundError:
        return []
    return sorted(value for (value,) in _ENDED_AT.iter_unpack(content))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--broker", required=True)
    parser.add_argument("--ends", type=Path, required=True)
    parser.add_argument("--pool", choices=["threads", "prefork"], required=True)
    parser.add_argument("--slots", type=int, required=True)
    given = parser.parse_args()
    app = bare_app(given.broker, given.ends)
    app.set_default()
    options: dict[str, Any] = {"without_mingle": True, "without_gossip": True}
    WorkController(
        app=app,
        pool_cls=given.pool,
        concurrency=given.slots,
        hostname=f"bare-{os.getpid()}",
        queues=[QUEUE],
        without_heartbeat=True,
        quiet=True,
        **options,
    ).start()


if __name__ == "__main__":
    main()
