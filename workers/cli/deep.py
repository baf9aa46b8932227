"""``mediaweave doctor --deep``: whether rows, stores and broker agree with each other."""

from collections.abc import Callable
from typing import Literal

from celery import Celery
from kombu.exceptions import ChannelError, OperationalError
from rich import filesize
from sqlalchemy import func, select

from pipeline.config import Settings
from pipeline.db.invariants import RULES, Limits, check_invariants
from pipeline.errors import BrokerUnavailableError, PipelineError
from pipeline.runner.leftovers import DAY_SECONDS, abandoned_folders, compare_store
from pipeline.runner.runtime import Runtime
from pipeline.stages.base import QUEUES
from schemas.operations import dead_letter, outbox
from schemas.tables import stage_run
from workers.app import make_app, queue_name
from workers.cli.doctor import Finding
from workers.cli.options import open_existing


def examine_deeply(settings: Settings) -> list[Finding]:
    """Look at everything that a job leaves behind; reads only.

    A broken rule and a missing artifact are ``wrong``; what is late, or left over, is a ``note``.
    Takes a pass over the tables and a listing of the artifact store: minutes where there are
    millions. What cannot be reached stops nothing else.

    Raises:
        ConfigurationError: there is no database yet, or it is of another version.
        DatabaseUnavailableError: the database cannot be reached.
    """
    open_existing(settings).close()
    runtime = Runtime(settings)
    try:
        return [
            *_tried("rules", lambda: _rules(runtime)),
            *_tried("messages", lambda: _messages(runtime)),
            *_tried("broker", lambda: _broker(runtime)),
            *_tried("artifacts", lambda: _artifacts(runtime)),
            *_tried("scratch", lambda: _scratch(runtime)),
        ]
    finally:
        runtime.close()


def _tried(what: str, look: Callable[[], list[Finding]]) -> list[Finding]:
    try:
        return look()
    except PipelineError as error:
        return [Finding(what=what, level="wrong", text=str(error))]


def _rules(runtime: Runtime) -> list[Finding]:
    with runtime.database.reading() as connection:
        broken = check_invariants(connection, limits=Limits.of(runtime.settings))
    if not broken:
        held = sum(not rule.only_settled for rule in RULES)
        return [Finding(what="rules", level="good", text=f"all {held} hold")]
    return [
        Finding(
            what=violation.name,
            level="wrong" if violation.severity == "broken" else "note",
            text=f"{violation.text}. To do: {violation.advice}",
        )
        for violation in broken
    ]


def _messages(runtime: Runtime) -> list[Finding]:
    with runtime.database.reading() as connection:
        letters = connection.execute(select(func.count()).select_from(dead_letter)).scalar_one()
        lost = connection.execute(
            select(func.count()).select_from(outbox).where(outbox.c.failed_at.is_not(None))
        ).scalar_one()
    return [
        _counted(
            "dead letters",
            letters,
            "messages could not be taken: `mediaweave dead-letters list` says why; retry or "
            "discard them there",
        ),
        _counted(
            "events",
            lost,
            "webhook calls were given up: SELECT webhook, error_text FROM outbox WHERE failed_at "
            "IS NOT NULL",
        ),
    ]


def _counted(what: str, count: int, text: str) -> Finding:
    level: Literal["good", "note"] = "note" if count else "good"
    return Finding(what=what, level=level, text=f"{count} {text}" if count else "none")


def _broker(runtime: Runtime) -> list[Finding]:
    settings = runtime.settings
    if settings.is_broker_embedded:
        return [
            Finding(what="broker", level="good", text="embedded: no messages outside a process")
        ]
    app = make_app(settings)
    try:
        return [_queue(runtime, app, queue) for queue in QUEUES]
    finally:
        app.close()


def _queue(runtime: Runtime, app: Celery, queue: str) -> Finding:
    messages = _messages_in(app, queue_name(queue))
    # Asked after the broker: what was published meanwhile is counted here rather than there.
    with runtime.database.reading() as connection:
        queued = connection.execute(
            select(func.count()).where(stage_run.c.queue == queue, stage_run.c.state == "queued")
        ).scalar_one()
    text = f"{messages} messages, {queued} stage runs queued"
    if messages and not queued:
        text += ": left over, and harmless; the next worker takes them away without doing anything"
    level: Literal["good", "note"] = "note" if messages and not queued else "good"
    return Finding(what=queue_name(queue), level=level, text=text)


def _messages_in(app: Celery, name: str) -> int:
    """0 where the queue is not declared yet, as on Redis every empty one."""
    with app.connection_for_write() as connection:
        try:
            channel = connection.default_channel
            return int(channel.queue_declare(name, passive=True).message_count)
        except ChannelError:
            return 0
        except (OperationalError, OSError) as error:
            raise BrokerUnavailableError(
                f"the broker {connection.as_uri()} cannot be reached: {error}"
            ) from error


def _artifacts(runtime: Runtime) -> list[Finding]:
    found = compare_store(runtime, DAY_SECONDS)
    findings = []
    if found.missing:
        named = ", ".join(
            f"{runtime.artifacts.uri(example.sha256)} of asset {example.asset_id}, {example.stage}"
            for example in found.missing_examples
        )
        findings.append(
            Finding(
                what="artifacts",
                level="wrong",
                text=f"{found.missing} that rows refer to are not in the store ({named}). To do: "
                "bring them back from a backup or the bucket's versions; the rows stay right, but "
                "stages that read these files fail",
            )
        )
    if found.unreferenced:
        size = filesize.decimal(found.unreferenced_bytes)
        findings.append(
            Finding(
                what="artifacts",
                level="note",
                text=f"{found.unreferenced} ({size}) older than a day are of no row any more. "
                "To do: `mediaweave clean`",
            )
        )
    text = f"{found.stored} in the store, all that rows refer to, none left over"
    return findings or [Finding(what="artifacts", level="good", text=text)]


def _scratch(runtime: Runtime) -> list[Finding]:
    folders = abandoned_folders(runtime)
    if not folders:
        return [Finding(what="scratch", level="good", text="no folder of a dead process")]
    size = filesize.decimal(sum(folder.size_bytes for folder in folders))
    return [
        Finding(
            what="scratch",
            level="note",
            text=f"{len(folders)} folders of dead processes ({size}) at "
            f"{runtime.settings.scratch_path}. To do: nothing, the next stage run here removes "
            "them; or `mediaweave clean`",
        )
    ]
