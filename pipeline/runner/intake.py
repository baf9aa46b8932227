"""Jobs from outside become rows."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Connection, insert, select

from pipeline.config import Settings
from pipeline.db import closing, job_ends, jobs, runs
from pipeline.db.webhooks import check_webhook
from pipeline.errors import ConfigurationError, InvalidMessageError, PipelineError, is_retried
from pipeline.plan.advance import register_models
from pipeline.plan.fingerprint import fingerprint
from pipeline.plan.graph import OWN_MODELS
from pipeline.plan.profiles import model_entry, resolve_plan
from pipeline.runner.expand import EXPAND_CODE_VERSION, Listing, list_sources
from pipeline.runner.failing import close_failed
from pipeline.runner.leases import LeaseKeeper
from pipeline.runner.patience import random_pause
from pipeline.runner.runtime import Runtime
from pipeline.storage.local import normalise_uri
from schemas.messages import JobMessage
from schemas.plans import JobPlan
from schemas.tables import EXPAND, stage_run

#: An escaped NUL, which no database takes in a text; an escaped backslash before it is none.
_NUL = re.compile(r"(?<!\\)(\\\\)*\\u0000")


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A job that is in the database. ``is_new``: it was not before."""

    job_id: int
    is_new: bool


def read_message(body: bytes | str | Mapping[str, Any]) -> JobMessage:
    """A job from the JSON text, or the object, that a client sent.

    Raises:
        InvalidMessageError: saying which field is wrong and why.
    """
    try:
        given = body if isinstance(body, Mapping) else json.loads(body)
    except ValueError as error:  # bad JSON, or bytes that are no text
        raise InvalidMessageError(f"the message is not JSON: {error}") from error
    except RecursionError as error:
        raise InvalidMessageError("the message is nested too deeply") from error
    if not isinstance(given, Mapping):
        raise InvalidMessageError(
            f"the message is a JSON {type(given).__name__}, not an object with `sources`"
        )
    text = json.dumps(given)
    if _NUL.search(text):
        raise InvalidMessageError("the message contains a NUL character (\\u0000); leave it out")
    try:
        return JobMessage.model_validate_json(text)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise InvalidMessageError(f"the job is not valid: {where}: {problem['msg']}") from error


def accept(runtime: Runtime, message: JobMessage, *, origin: str) -> Accepted:
    """Write a job in one transaction; whichever worker takes its ``expand`` run lists its sources.

    A message whose ``job_key`` was accepted before changes nothing.

    Raises:
        ConfigurationError: the profile, a parameter, a source or the webhook is wrong.
        DatabaseUnavailableError: nothing was written, try again.
    """
    prepared = _Prepared.of(message, runtime.settings)
    with runtime.database.transaction() as connection:
        return _write(connection, prepared, runtime.settings, origin)[0]


def submit(
    runtime: Runtime,
    message: JobMessage,
    *,
    origin: str = "command",
    on_progress: Callable[[int, int], None] = lambda found, skipped: None,
    still_wanted: Callable[[], bool] = lambda: True,
) -> int:
    """Write a job and list its sources here and now; gives the job's id.

    Finished work is found by its fingerprint and not queued again. A message whose ``job_key`` was
    submitted before changes nothing, or goes on with its listing if nobody is at it.
    ``on_progress`` is told how many files were found and skipped; ``still_wanted`` is asked between
    batches, and ends the listing (the job is then ``cancelled``).

    Raises:
        ConfigurationError: the profile, a parameter or a source is wrong; nothing was written.
        StoreUnavailableError: a store cannot be reached. A job without a key is then ``failed``;
            of one with a key the listing is tried again by the workers, as often as any run is.
    """
    settings = runtime.settings
    prepared = _Prepared.of(message, settings)
    with runtime.database.transaction() as connection:
        accepted, run_id = _write(connection, prepared, settings, origin)
        run = (
            runs.claim(
                connection,
                run_id,
                owner=runs.process_owner(),
                lease_seconds=settings.lease_seconds,
                max_attempts=settings.max_attempts,
                alone=True,
            )
            if run_id is not None
            else None
        )
        if run is None:
            return accepted.job_id
        listing = Listing.of(connection, accepted.job_id)
    keeper = LeaseKeeper(runtime.database, settings.lease_seconds)
    try:
        with keeper.holding(run.token):
            if not list_sources(runtime, run, listing, on_progress, still_wanted):
                with runtime.database.transaction() as connection:
                    job_ends.abandon(connection, accepted.job_id, "cancelled")
    except runs.LeaseLostError:
        # Cancelled meanwhile, or another worker goes on with it.
        return accepted.job_id
    except PipelineError as error:
        if message.job_key is None or not is_retried(error) or run.attempt >= settings.max_attempts:
            _fail(runtime, run, error)
        else:
            with runtime.database.transaction() as connection:
                closing.postpone(
                    connection,
                    run,
                    error_class=type(error).__name__,
                    error_text=str(error),
                    pause_seconds=random_pause(settings.retry_seconds),
                )
        raise
    finally:
        keeper.close()
    return accepted.job_id


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prepared:
    """A message that was found right, before anything is written."""

    message: JobMessage
    plan: JobPlan
    sources: Sequence[str]

    @classmethod
    def of(cls, message: JobMessage, settings: Settings) -> "_Prepared":
        if message.webhook is not None:
            check_webhook(message.webhook, settings)
        if message.rule is not None and message.rule not in settings.rules:
            raise ConfigurationError(f"there is no rule {message.rule!r} in the settings")
        return cls(
            message=message,
            plan=resolve_plan(message, settings),
            sources=[normalise_uri(source) for source in message.sources],
        )


def _write(
    connection: Connection, prepared: _Prepared, settings: Settings, origin: str
) -> tuple[Accepted, int | None]:
    """Write the job with the run that lists its sources; gives that run's id while it is open."""
    message = prepared.message
    register_models(connection, _plan_models(prepared.plan, settings))
    job_id, is_new = jobs.create_job(
        connection,
        job_key=message.job_key,
        name=message.name or _name_of(prepared.sources),
        priority=message.priority,
        sources=prepared.sources,
        plan=prepared.plan,
        origin=origin,
        # Nobody can listen to a broker inside one process.
        events="none" if settings.is_broker_embedded else settings.events.level,
        webhook=message.webhook,
    )
    accepted = Accepted(job_id=job_id, is_new=is_new)
    if not is_new:
        return accepted, _open_listing(connection, job_id)
    inputs = {
        "job": job_id,
        "sources": list(prepared.sources),
        "only_new": message.only_new,
        "rule": message.rule,
        # An event tells of one object, whatever else begins with its name.
        "exact": origin == "event",
    }
    run_id = connection.execute(
        insert(stage_run)
        .values(
            job_id=job_id,
            stage=EXPAND,
            queue="io",
            fingerprint=fingerprint(
                stage=EXPAND, code_version=EXPAND_CODE_VERSION, params={}, models={}, inputs=inputs
            ),
            code_version=EXPAND_CODE_VERSION,
            params={},
            inputs=inputs,
            dispatch_rank=-message.priority,
            state="queued",
        )
        .returning(stage_run.c.id)
    ).scalar_one()
    return accepted, int(run_id)


def _open_listing(connection: Connection, job_id: int) -> int | None:
    query = select(stage_run.c.id).where(
        stage_run.c.job_id == job_id, stage_run.c.stage == EXPAND, stage_run.c.state == "queued"
    )
    return connection.execute(query).scalar_one_or_none()


def _fail(runtime: Runtime, run: runs.ClaimedRun, error: PipelineError) -> None:
    """As a worker ends a listing in vain, so that `jobs retry` brings it back."""
    with runtime.database.transaction() as connection:
        closing.fail(
            connection, run, error_class=type(error).__name__, error_text=str(error), seconds=0
        )
        close_failed(connection, runtime, run.stage_run_id)


def _plan_models(plan: JobPlan, settings: Settings) -> list[Any]:
    names = {ref.name for stage in plan.stages.values() for ref in stage.models.values()}
    return [*(model_entry(name, settings).info for name in sorted(names)), *OWN_MODELS.values()]


def _name_of(sources: Sequence[str]) -> str:
    more = f" and {len(sources) - 1} more" if len(sources) > 1 else ""
    return sources[0][:180] + more
