"""Objects that arrive in buckets and go: events → jobs, and places that are gone."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import structlog
from sqlalchemy import Connection, Row, or_, select, update

from pipeline.config import RuleOptions
from pipeline.db.results import insert_or_ignore
from pipeline.runner.bucket_rules import rule_for, rule_message
from pipeline.runner.intake import accept
from pipeline.runner.runtime import Runtime
from pipeline.storage.base import ObjectInfo, printable, stem_of
from pipeline.storage.s3 import parse_s3_uri
from pipeline.storage.sidecars import (
    IMAGE_EXTENSIONS,
    SIDECAR_EXTENSIONS,
    SourceItem,
    attach_sidecars,
    extension_of,
    name_of,
)
from pipeline.storage.sources import MEDIA_EXTENSIONS
from schemas.bucket_events import BucketEvent, is_later
from schemas.messages import JobMessage
from schemas.operations import bucket_event
from schemas.tables import location
from schemas.types import utc_now

log = structlog.stdlib.get_logger(__name__)

#: Tags between the stem of a media file and the extension of its sidecar, at most.
_MAX_TAGS = 3


def apply(runtime: Runtime, events: Iterable[BucketEvent]) -> None:
    """Let each event have its effect, once however often it comes.

    An object that a rule takes becomes a job. A place whose object went is not current any more;
    its results stay. Subtitles that came or went submit the media beside them again. Events that
    are older than what is known of their object change nothing.

    Raises:
        ConfigurationError: a rule is wrong, so that no job can be made.
        DatabaseUnavailableError: try again with the same events.
    """
    for event in events:
        _apply(runtime, event)


def supersedes(event: BucketEvent, known: Row[Any]) -> bool:
    """Whether an event says more than the newest one known of its object (a ``bucket_event``).

    Where stores give no order, what is not a plain repetition counts: looking at an object in vain
    is better than overlooking it.
    """
    versions = (event.version, known.version)
    if event.kind != known.kind and None not in versions and event.version != known.version:
        # The removal was of a version of which the other one does not speak.
        return event.kind == "created"
    if event.sequencer and known.sequencer:
        if is_later(event.sequencer, than=known.sequencer):
            return True
        if is_later(known.sequencer, than=event.sequencer):
            return False
    return (event.kind, event.version, event.etag) != (known.kind, known.version, known.etag)


def _apply(runtime: Runtime, event: BucketEvent) -> None:
    with runtime.database.reading() as connection:
        known = _known(connection, event.uri)
        if known is not None and not supersedes(event, known):
            log.info("bucket_event_known", kind=event.kind, uri=event.uri)
            return
        concerned = _concerned(connection, event, runtime.settings.rules)
    if concerned is None:
        return
    # The jobs first, the mark afterwards: a crash between the two brings the event again, and the
    # same keys find the jobs that are there. The other way round it would lose them.
    for uri, name, rule in concerned:
        message = _message(event, known, uri, name, rule)
        accepted = accept(runtime, message, origin="event")
        log.info("bucket_event_accepted", uri=uri, rule=name, job_id=accepted.job_id)
    with runtime.database.transaction() as connection:
        if _remember(connection, event) and event.kind == "removed":
            gone = _retire(connection, event)
            log.info("bucket_event_removed", uri=event.uri, places=gone)


def _concerned(
    connection: Connection, event: BucketEvent, rules: dict[str, RuleOptions]
) -> list[tuple[str, str, RuleOptions]] | None:
    """What to submit: URIs, each with its rule; ``None`` where the event is no business of ours."""
    if extension_of(event.uri) in SIDECAR_EXTENSIONS:
        beside = [
            (uri, *taker)
            for uri in _media_beside(connection, event.uri)
            if (taker := rule_for(rules, *parse_s3_uri(uri))) is not None
        ]
        return beside or None
    taker = rule_for(rules, event.bucket, event.key)
    if taker is not None:
        return [(event.uri, *taker)] if event.kind == "created" else []
    query = select(location.c.id).where(location.c.uri == event.uri).limit(1)
    return None if connection.execute(query).first() is None else []


def _media_beside(connection: Connection, sidecar_uri: str) -> Sequence[str]:
    """The media that are there, as far as is known, and that a sidecar of this name belongs to."""
    name = name_of(sidecar_uri)
    folder = sidecar_uri.removesuffix(name)
    parts = stem_of(name).split(".")
    stems = [".".join(parts[:n]) for n in range(max(1, len(parts) - _MAX_TAGS), len(parts) + 1)]
    # A list of names, not a range: the order of texts differs between databases.
    names = [
        f"{folder}{stem}{spelt}"
        for stem in stems
        for extension in MEDIA_EXTENSIONS - IMAGE_EXTENSIONS
        for spelt in (extension, extension.upper())
    ]
    places = select(location.c.uri).where(location.c.uri.in_(names), location.c.is_current)
    # Media whose job has not listed it yet may be listed without this sidecar.
    arrived = select(bucket_event.c.uri).where(
        bucket_event.c.uri.in_(names), bucket_event.c.kind == "created"
    )
    media = set(connection.execute(places.union(arrived)).scalars())
    listing = (
        ObjectInfo(uri=uri, size_bytes=0, etag="")
        for uri in sorted(media | {sidecar_uri}, key=str.encode)
    )
    return [
        entry.uri
        for entry in attach_sidecars(listing, media.__contains__)
        if isinstance(entry, SourceItem) and entry.sidecars
    ]


def _message(
    event: BucketEvent, known: Row[Any] | None, uri: str, name: str, rule: RuleOptions
) -> JobMessage:
    identity = [uri, event.uri, event.kind, event.version, event.etag, event.sequencer]
    if known is not None and not (event.sequencer and event.sequencer != known.sequencer):
        # Nothing in the event tells it from an earlier one: the same file, put there once more
        # after it went. What it comes after does.
        identity.append(known.received_at.isoformat())
    digest = hashlib.sha256("\0".join(part or "" for part in identity).encode()).hexdigest()
    return rule_message(
        name, rule, uri, title=f"{name}: {printable(uri)}", job_key=f"event:{digest}"
    )


def _known(connection: Connection, uri: str, *, lock: bool = False) -> Row[Any] | None:
    query = select(bucket_event).where(bucket_event.c.uri == uri)
    return connection.execute(query.with_for_update() if lock else query).one_or_none()


def _remember(connection: Connection, event: BucketEvent) -> bool:
    """Make this the newest event known of its object, unless another process knows a newer one."""
    values = {
        "kind": event.kind,
        "sequencer": event.sequencer,
        "version": event.version,
        "etag": event.etag,
    }
    created = connection.execute(
        insert_or_ignore(connection, bucket_event)
        .values(uri=event.uri, **values)
        .returning(bucket_event.c.uri)
    ).first()
    if created is not None:
        return True
    known = _known(connection, event.uri, lock=True)
    if known is not None and not supersedes(event, known):
        return False
    connection.execute(
        update(bucket_event)
        .where(bucket_event.c.uri == event.uri)
        .values(**values, received_at=utc_now())
    )
    return True


def _retire(connection: Connection, event: BucketEvent) -> int:
    """The places of a removed object are not current any more; gives how many."""
    is_gone = location.c.is_current & (location.c.uri == event.uri)
    if event.version is not None:
        is_gone &= or_(location.c.version.is_(None), location.c.version == event.version)
    return connection.execute(update(location).where(is_gone).values(is_current=False)).rowcount
