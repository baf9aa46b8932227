"""Submitting and following jobs from Python: what ``mediaweave submit`` and ``jobs`` do.

::

    from pipeline.client import Client

    with Client() as client:
        job = client.submit(["s3://bucket/archive"], job_key="archive-2026", priority=5)
        print(client.job(job).state)

Needs the database only; workers do the rest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from pipeline.config import Settings, load_settings
from pipeline.db import queries
from pipeline.db.migrate import ensure_schema
from pipeline.runner import control
from pipeline.runner.intake import accept, read_message
from pipeline.runner.runtime import Runtime


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as it stands now. ``state``: expanding, running, paused, cancelling, done, failed or
    cancelled."""

    job_id: int
    name: str
    state: str
    priority: int
    profile: str
    submitted_at: datetime
    finished_at: datetime | None
    assets_total: int
    assets_done: int
    assets_failed: int
    assets_cancelled: int
    error_class: str | None
    error_text: str | None

    @property
    def is_over(self) -> bool:
        return self.finished_at is not None


class Client:
    """A connection to mediaweave's database.

    ``settings``: else those of the environment and of ``mediaweave.toml``. All methods raise
    DatabaseUnavailableError while it cannot be reached; calling again does no harm.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self._runtime = Runtime(settings or load_settings())
        ensure_schema(self._runtime.database)

    def submit(
        self,
        sources: Sequence[str],
        *,
        profile: str | None = None,
        name: str | None = None,
        job_key: str | None = None,
        priority: int = 0,
        labels: Sequence[str] | None = None,
        label_set: str | None = None,
        parameters: Mapping[str, Mapping[str, Any]] | None = None,
        only_new: bool = False,
        webhook: str | None = None,
    ) -> int:
        """Write a job; gives its id. Workers list the sources and do the rest.

        The same ``job_key`` again gives the same job. ``priority``: -100 to 100, higher first.
        ``parameters``: overrides by stage. ``only_new``: leave out what was submitted before in
        its present version. ``webhook``: a URL to call when the job ends.

        Raises:
            ConfigurationError: something of it is wrong; nothing was written.
        """
        message = read_message(
            {
                "sources": list(sources),
                "profile": profile,
                "name": name,
                "job_key": job_key,
                "priority": priority,
                "labels": None if labels is None else list(labels),
                "label_set": label_set,
                "parameters": {stage: dict(given) for stage, given in (parameters or {}).items()},
                "only_new": only_new,
                "webhook": webhook,
            }
        )
        return accept(self._runtime, message, origin="client").job_id

    def job(self, job_id: int) -> Job:
        """Raises ConfigurationError where there is no such job."""
        with self._runtime.database.reading() as connection:
            row = queries.job_row(connection, job_id)
        return Job(**{name: row[name] for name in Job.__dataclass_fields__})

    def failures(self, job_id: int) -> list[dict[str, Any]]:
        """Why assets of the job failed: uri, stage, error_class, error_text."""
        with self._runtime.database.reading() as connection:
            return queries.failures(connection, job_id)

    def cancel(self, job_id: int) -> bool:
        """Start nothing more of the job; gives whether it was still open."""
        return control.cancel(self._runtime.database, job_id)

    def pause(self, job_id: int) -> bool:
        """Start nothing more of the job for now; gives whether that changed anything."""
        return control.pause(self._runtime.database, job_id)

    def resume(self, job_id: int) -> bool:
        """Go on with a paused job; gives whether that changed anything."""
        return control.resume(self._runtime.database, job_id)

    def retry(self, job_id: int, *, error_class: str | None = None) -> int:
        """Queue what failed again; gives how many stage runs. All but bad media, or one class."""
        return control.retry(self._runtime.database, job_id=job_id, error_class=error_class)

    def close(self) -> None:
        self._runtime.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
