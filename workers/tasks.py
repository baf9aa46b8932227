"""The Celery task: it hands ids to the runner, and no more."""

import contextlib
import time

from celery import Celery

from pipeline.errors import DatabaseUnavailableError
from pipeline.runner.execute import RUN_ON_SECONDS, execute
from pipeline.runner.leases import LeaseKeeper, StoppingError
from pipeline.runner.patience import wait_for_database
from pipeline.runner.runtime import Runtime
from workers.app import RUN_STAGES
from workers.dispatcher import Dispatcher


def register_tasks(
    app: Celery, runtime: Runtime, keeper: LeaseKeeper, dispatcher: Dispatcher
) -> None:
    """Give ``app`` the tasks, bound to this process."""

    # Not shared: an app of this process must not get the task of another.
    @app.task(name=RUN_STAGES, shared=False)  # type: ignore[untyped-decorator]
    def run_stages(stage_run_ids: list[int]) -> None:
        # Short runs share a message. When they turn out to be long the rest is for others, too.
        until, rest = time.monotonic() + RUN_ON_SECONDS, list(stage_run_ids)
        try:
            while rest and _run_stage(rest[0]):
                rest.pop(0)
                dispatcher.wake()
                if time.monotonic() > until:
                    break
        finally:
            if rest:
                dispatcher.hand_back(rest)

    def _run_stage(stage_run_id: int) -> bool:
        """Gives whether it was dealt with; else, we are stopping."""
        while not dispatcher.stopping.is_set():
            try:
                execute(runtime, stage_run_id, keeper, dispatcher.stopping, dispatcher.own_queues)
            except StoppingError:
                return False
            except DatabaseUnavailableError:
                # Hold this thread, so that it takes no more messages meanwhile.
                with contextlib.suppress(DatabaseUnavailableError):
                    wait_for_database(runtime.database, dispatcher.stopping)
            else:
                return True
        return False
