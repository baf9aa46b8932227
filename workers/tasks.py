"""The Celery task: it hands ids to the runner, and no more."""

import contextlib

from celery import Celery

from pipeline.errors import DatabaseUnavailableError
from pipeline.runner.execute import execute
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
        for position, stage_run_id in enumerate(stage_run_ids):
            if not _run_stage(stage_run_id):
                dispatcher.hand_back(stage_run_ids[position:])
                return
            dispatcher.wake()

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
