"""``mediaweave run`` and ``mediaweave worker``: processes that do the work."""

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from pipeline.config import Settings
from pipeline.db import queries
from pipeline.db.migrate import ensure_schema
from pipeline.errors import ConfigurationError, TransientError
from pipeline.plan.profiles import resolve_plan
from pipeline.runner.intake import submit
from pipeline.runner.patience import wait_for_database
from pipeline.runner.runtime import Runtime
from pipeline.stages.base import QUEUES
from pipeline.telemetry import configure_logging
from schemas.messages import JobMessage
from workers.app import check_broker, make_app
from workers.cli import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK
from workers.cli.progress import JobDisplay, JobStatus
from workers.cli.report import print_failed
from workers.cli.watch import watch
from workers.heartbeat import Heartbeat, Watchdog
from workers.host import WorkerHost
from workers.services import Services
from workers.supervisor import supervise


def run_job(settings: Settings, message: JobMessage, *, as_json: bool) -> int:
    """Submit a job and work it off in this process; gives the exit code."""
    resolve_plan(message, settings)
    _log_to_file(settings.data_dir)
    runtime = Runtime(settings)
    ensure_schema(runtime.database)
    interrupted = threading.Event()
    host = WorkerHost(runtime)
    host.start()
    with _signals(interrupted, host.hurry), JobDisplay() as display:
        job_id = submit(
            runtime,
            message,
            on_progress=display.listing,
            still_wanted=lambda: not interrupted.is_set(),
        )
        host.wake()
        status = watch(
            runtime.database,
            job_id,
            display,
            still_wanted=lambda: host.alive and not interrupted.is_set(),
        )
        crashed = not host.alive
        clean = host.stop(grace_seconds=settings.shutdown_seconds)
    code = _report(runtime, job_id, status, as_json=as_json)
    if crashed and status.state == "running":
        raise ConfigurationError("the worker stopped unexpectedly; its log says why")
    if not clean:
        # Threads still hold native code that cannot be interrupted; their work was given back.
        sys.stdout.flush()
        os._exit(code)
    runtime.close()
    return code


def run_worker(settings: Settings, queues: Sequence[str]) -> int:
    """Keep a worker process alive until a signal says otherwise; gives the exit code."""
    check_queues(queues)
    configure_logging()
    command = [
        sys.executable,
        "-m",
        "workers.cli",
        "worker-process",
        f"--queues={','.join(queues)}",
    ]
    if settings.database:
        # Not as an argument: other users of the machine can read those.
        os.environ["MEDIAWEAVE_DATABASE"] = settings.database
    os.environ["MEDIAWEAVE_CONCURRENCY"] = str(settings.concurrency)
    return supervise(command)


def check_queues(queues: Sequence[str]) -> None:
    """Raises ConfigurationError naming one that does not exist."""
    unknown = sorted(set(queues) - set(QUEUES))
    if unknown:
        raise ConfigurationError(
            f"there is no queue {unknown[0]!r}; known are: {', '.join(QUEUES)}"
        )


def run_worker_process(settings: Settings, queues: Sequence[str], heartbeat_pipe: int) -> int:
    """The process that works, under its supervisor; gives the exit code."""
    heartbeat = Heartbeat(heartbeat_pipe)
    configure_logging()
    runtime = Runtime(settings)
    wait_for_database(runtime.database, threading.Event())
    ensure_schema(runtime.database)
    stopping = threading.Event()
    host = WorkerHost(runtime, queues=queues, with_scheduler=True)
    watchdog = Watchdog(
        host.keeper,
        stall_seconds=settings.stall_seconds,
        memory_bytes=settings.worker_memory_bytes,
        on_replace=host.replace,
        deadline_seconds=settings.shutdown_seconds + END_SECONDS,
    )
    with _signals(stopping, host.hurry):
        try:
            host.start()
        except TransientError as error:
            # The supervisor tries again; settings that are wrong it would not.
            print(f"mediaweave worker: {error}", file=sys.stderr, flush=True)
            return EXIT_FAILED
        watchdog.start()
        heartbeat.ready()
        print("mediaweave worker: ready", file=sys.stderr, flush=True)
        while host.alive and not stopping.wait(1):
            pass
        watchdog.stop()
        crashed = not stopping.is_set()
        # Whatever hangs: the end comes.
        deadline = threading.Timer(
            settings.shutdown_seconds + END_SECONDS, os._exit, args=[EXIT_FAILED]
        )
        deadline.daemon = True
        deadline.start()
        clean = host.stop(grace_seconds=settings.shutdown_seconds)
    sys.stdout.flush()
    if not clean:
        # Threads still hold native code that cannot be interrupted; their work was given back.
        os._exit(EXIT_OK)
    runtime.close()
    return EXIT_FAILED if crashed else EXIT_OK


def run_dispatcher(settings: Settings) -> int:
    """Dispatch, relay events and fire schedules until a signal says otherwise."""
    configure_logging()
    runtime = Runtime(settings)
    ensure_schema(runtime.database)
    app = make_app(settings)
    check_broker(app)
    services = Services(runtime, app, with_scheduler=True)
    stopping = threading.Event()
    with _signals(stopping, lambda: None):
        services.start()
        print("mediaweave dispatcher: ready", file=sys.stderr, flush=True)
        while services.alive and not stopping.wait(1):
            pass
        crashed = not stopping.is_set()
        services.stop()
    runtime.close()
    return EXIT_FAILED if crashed else EXIT_OK


#: How long a worker process may take to end beyond the grace that its work gets.
END_SECONDS = 30


@contextmanager
def _signals(stopping: threading.Event, hurry: Callable[[], None]) -> Iterator[None]:
    """The first SIGINT or SIGTERM sets ``stopping``; the second calls ``hurry``; the third ends the
    process, whose leases the database then takes back."""
    came = 0

    def handle(number: int, frame: object) -> None:
        nonlocal came
        came += 1
        if came == 1:
            stopping.set()
        elif came == 2:
            hurry()
        else:
            os._exit(128 + number)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _log_to_file(data_dir: Path) -> None:
    """The terminal belongs to the progress; what happened in detail is in the log."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        stream = (data_dir / "mediaweave.log").open("a", encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(
            f"the data folder {data_dir} cannot be written: {error.strerror}; "
            "set MEDIAWEAVE_DATA_DIR to one that can"
        ) from error
    configure_logging(stream=stream)


def _report(runtime: Runtime, job_id: int, status: JobStatus, *, as_json: bool) -> int:
    with runtime.database.reading() as connection:
        row = queries.job_row(connection, job_id)
        failures = queries.failures(connection, job_id)
    done_now = sum(count for (_, state), count in status.stages.items() if state == "succeeded")
    code = EXIT_OK
    if status.state in ("expanding", "running", "cancelled"):
        code = EXIT_INTERRUPTED
    elif status.failed:
        code = EXIT_FAILED
    if as_json:
        summary = {
            "job_id": job_id,
            "state": "interrupted" if code == EXIT_INTERRUPTED else row["state"],
            "assets_total": row["assets_total"],
            "assets_done": row["assets_done"],
            "assets_failed": row["assets_failed"],
            "files_skipped": row["files_skipped"],
            "stage_runs_done": done_now,
            "failures": failures,
            "database": runtime.database.display_url,
        }
        print(json.dumps(summary, ensure_ascii=False, indent=2))
        return code
    console = Console(soft_wrap=True, highlight=False)
    if code == EXIT_INTERRUPTED:
        left = status.total - status.done - status.failed
        console.print(f"Stopped with {left} of {status.total} assets left: run it again to go on.")
    elif status.total == 0:
        console.print("No media found: nothing to do.")
    elif done_now == 0 and not status.failed:
        console.print(
            f"Nothing had to be done again: all {status.total} assets were finished before."
        )
    else:
        console.print(
            f"{status.done} of {status.total} assets done, {status.failed} failed "
            f"({done_now} stage runs)."
        )
    if row["files_skipped"]:
        console.print(f"{row['files_skipped']} files were skipped: their names are not of media.")
    print_failed(failures, console)
    console.print(f"Results: {runtime.database.display_url} (job {job_id})")
    return code
