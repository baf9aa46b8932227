"""The process ``mediaweave intake``: one listener for each place the settings name."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from pipeline.config import Settings
from pipeline.db.migrate import ensure_schema
from pipeline.errors import ConfigurationError
from pipeline.runner.runtime import Runtime
from pipeline.telemetry import configure_logging
from workers.cli import EXIT_FAILED, EXIT_OK
from workers.intake.handler import Kind
from workers.intake.listener import Listener

log = structlog.get_logger()

Places = tuple[tuple[str | None, Kind], ...]

AMQP_SCHEMES = ("amqp", "amqps", "pyamqp")
REDIS_SCHEMES = ("redis", "rediss")


def run_intake(settings: Settings) -> int:
    """Take messages in until a signal says otherwise; gives the exit code.

    Raises:
        ConfigurationError: a setting is wrong, or none names a place to take messages from.
        TransientError: at the start the database or a broker cannot be reached.
    """
    configure_logging()
    if not _names_a_source(settings):
        raise ConfigurationError(
            "there is nothing to take messages from: set the broker to an amqp:// or redis:// URL, "
            "or set intake.sqs_jobs_url, intake.sqs_events_url or intake.http_listen"
        )
    runtime = Runtime(settings)
    listeners = _listeners(runtime)
    ensure_schema(runtime.database)
    stopping = threading.Event()
    with _signals(stopping):
        try:
            for listener in listeners:
                listener.start()
                log.info("listening", source=listener.name)
            print("mediaweave intake: ready", file=sys.stderr, flush=True)
            while all(listener.alive for listener in listeners) and not stopping.wait(1):
                pass
            crashed = not stopping.is_set()
        finally:
            ended = _stop(listeners, settings.shutdown_seconds)
    if not ended:
        # Nothing that was not committed was acknowledged: it will be delivered again.
        os._exit(EXIT_FAILED if crashed else EXIT_OK)
    runtime.close()
    return EXIT_FAILED if crashed else EXIT_OK


def _scheme(settings: Settings) -> str:
    return settings.broker.partition(":")[0].lower()


def _names_a_source(settings: Settings) -> bool:
    options = settings.intake
    has_broker = _scheme(settings) in (*AMQP_SCHEMES, *REDIS_SCHEMES)
    of_broker = has_broker and bool(options.jobs_queue or options.events_queue)
    return of_broker or bool(options.sqs_jobs_url or options.sqs_events_url or options.http_listen)


def _listeners(runtime: Runtime) -> list[Listener]:
    """One for each place; what is not used is not imported."""
    options = runtime.settings.intake
    scheme = _scheme(runtime.settings)
    found: list[Listener] = []
    queues: Places = ((options.jobs_queue, "queue"), (options.events_queue, "event"))
    urls: Places = ((options.sqs_jobs_url, "queue"), (options.sqs_events_url, "event"))
    for name, kind in queues:
        if name and scheme in AMQP_SCHEMES:
            from workers.intake.amqp import AmqpListener

            found.append(AmqpListener(runtime, queue=name, kind=kind))
        elif name and scheme in REDIS_SCHEMES:
            from workers.intake.redis_stream import RedisStreamListener

            found.append(RedisStreamListener(runtime, stream=name, kind=kind))
    for url, kind in urls:
        if url:
            from workers.intake.sqs import SqsListener

            found.append(SqsListener(runtime, url=url, kind=kind))
    if options.http_listen:
        from workers.intake.http import HttpListener

        found.append(HttpListener(runtime, listen=options.http_listen))
    return found


def _stop(listeners: list[Listener], grace_seconds: float) -> bool:
    """Stop all at once, then wait for the messages at hand; gives whether all have ended."""
    for listener in listeners:
        listener.stop()
    deadline = time.monotonic() + grace_seconds
    return all(listener.join(max(0.0, deadline - time.monotonic())) for listener in listeners)


@contextmanager
def _signals(stopping: threading.Event) -> Iterator[None]:
    """The first SIGINT or SIGTERM sets ``stopping``; the second ends the process at once."""

    def handle(number: int, frame: object) -> None:
        if stopping.is_set():
            os._exit(128 + number)
        stopping.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
