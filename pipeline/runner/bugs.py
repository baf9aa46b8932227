"""Tells a bug that every asset meets from one that a strange asset meets."""

import threading

#: As many runs of a job's stage, one after the other in a process, are no accident.
IN_A_ROW = 10


class Bugs:
    """Counts, for one process, the runs of a job's stage that met a bug with no success between."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._met: dict[tuple[int, str], int] = {}

    def met(self, job_id: int, stage: str) -> bool:
        """Another one; gives whether they are :data:`IN_A_ROW`."""
        with self._lock:
            count = self._met.get((job_id, stage), 0) + 1
            self._met[job_id, stage] = count % IN_A_ROW
            return count == IN_A_ROW

    def none(self, job_id: int | None, stage: str) -> None:
        """A run of it succeeded."""
        if self._met and job_id is not None:
            with self._lock:
                self._met.pop((job_id, stage), None)
