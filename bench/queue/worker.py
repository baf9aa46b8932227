"""A worker process whose stages do nothing: ``python -m bench.queue.worker`` (by the bench)."""

import argparse
import contextlib
import signal
import threading
from pathlib import Path

from bench.queue import stages
from pipeline.config import Settings
from pipeline.runner import execute
from pipeline.runner.runtime import Runtime
from pipeline.telemetry import configure_logging
from workers.host import WorkerHost


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--broker", required=True)
    parser.add_argument("--database", required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--slots", type=int, required=True)
    parser.add_argument("--sleep-ms", type=float, default=0.0)
    parser.add_argument("--run-on", action=argparse.BooleanOptionalAction, default=True)
    given = parser.parse_args()
    configure_logging()
    if not given.run_on:
        execute.RUN_ON_SECONDS = -1.0
    stages.install(given.sleep_ms / 1000)
    settings = Settings(
        data_dir=given.folder,
        database=given.database,
        broker=given.broker,
        concurrency=given.slots,
    )
    runtime = Runtime(settings)
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    host = WorkerHost(runtime, with_scheduler=True)
    host.start()
    while host.alive and not stopping.wait(1):
        pass
    host.stop(grace_seconds=settings.shutdown_seconds)
    with contextlib.suppress(KeyboardInterrupt):
        runtime.close()


if __name__ == "__main__":
    main()
