"""Fires schedules when their time has come.

Any number of schedulers may run: each time is fired once, by one of them. What is due is asked of
the database's clock, so that a host whose clock is wrong changes nothing.
"""

import threading

import structlog

from pipeline.errors import TransientError
from pipeline.runner.runtime import Runtime
from pipeline.runner.scheduling import fire_due, sweeps_of, sync_sweeps
from workers.outage import Outage

log = structlog.get_logger()

#: How often a scheduler looks for schedules that are due, which is how late they fire at most.
POLL_SECONDS = 1.0


class Scheduler:
    """One thread that fires what is due, and brings in the sweeps of the settings' rules."""

    def __init__(self, runtime: Runtime) -> None:
        """Raises ConfigurationError: the sweep of a rule in the settings is wrong."""
        sweeps_of(runtime.settings)
        self._runtime = runtime
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="scheduler", daemon=True)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Fire no more; what is being fired is completed."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        outage = Outage()
        is_synced = False
        while not self._stop.is_set():
            pause = POLL_SECONDS
            try:
                if not is_synced:
                    sync_sweeps(self._runtime)
                    is_synced = True
                fire_due(self._runtime, still_wanted=lambda: not self._stop.is_set())
                outage.over()
            except TransientError as error:
                pause = outage.met("schedules_wait", error)
            except Exception:
                # A bug must be loud, and must not end the schedules of everyone.
                log.exception("scheduler_bug")
            self._stop.wait(pause)
