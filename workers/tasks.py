"""The Celery tasks: each hands an id to the runner, and no more."""

import contextlib

from celery import Celery

from pipeline.errors import DatabaseUnavailableError
from pipeline.runner.execute import execute
from pipeline.runner.leases import LeaseKeeper, StoppingError
from pipeline.runner.patience import wait_for_database
from pipeline.runner.runtime import Runtime
from workers.app import RUN_STAGE
from workers.dispatcher import Dispatcher


def register_tasks(
    app: Celery, runtime: Runtime, keeper: LeaseKeeper, dispatcher: Dispatcher
) -> None:
    """Give ``app`` the tasks, bound to this process."""

    # Not shared: an app of this process must not get the task of another.
    @app.task(name=RUN_STAGE, shared=False)  # type: ignore[untyped-decorator]
    def run_stage(stage_run_id: int) -> None:
        while not dispatcher.stopping.is_set():
            try:
                execute(runtime, stage_run_id, keeper, dispatcher.stopping)
            except StoppingError:
                break
            except DatabaseUnavailableError:
                # Hold this thread, so that it takes no more messages meanwhile.
                with contextlib.suppress(DatabaseUnavailableError):
                    wait_for_database(runtime.database, dispatcher.stopping)
            else:
                dispatcher.wake()
                return
        dispatcher.hand_back(stage_run_id)
