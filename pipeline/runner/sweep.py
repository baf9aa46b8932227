"""Sweeps: what no event told of is found by listing.

The job of a sweep submits what is new below a prefix. What is known below it but was not listed
has gone: :class:`WatchedStore` notes the listing, :func:`retire_unlisted` draws the conclusion.
"""

from array import array
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
import structlog
from sqlalchemy import Connection, exists, func, select, update

from pipeline.config import RuleOptions
from pipeline.db.engine import Database
from pipeline.runner.bucket_rules import rule_message
from pipeline.storage.base import FetchedObject, ObjectInfo, ObjectStore, OnAnswer, OnSkip
from pipeline.storage.s3 import SCHEME as S3_SCHEME
from schemas.messages import JobMessage
from schemas.tables import job, job_item, location

log = structlog.stdlib.get_logger(__name__)

#: Places looked at per query, and written per transaction at most.
BATCH = 5000


def sweep_message(name: str, rule: RuleOptions) -> JobMessage:
    """The job that submits what is new below a rule's prefix.

    Raises:
        ConfigurationError: the rule is wrong; the message says where.
    """
    source = f"{S3_SCHEME}{rule.bucket}/{rule.prefix}"
    return rule_message(name, rule, source, title=f"sweep of {name}", only_new=True, rule=name)


class ListedPlaces:
    """A set of URIs that a listing gave, in 8 bytes each.

    Kept are 64-bit hashes. Two URIs share one in a sweep of ten million with a probability of about
    one in 200,000; a place that is gone is then noticed by the next process's sweep.
    """

    def __init__(self) -> None:
        self._hashes = array("q")
        self._is_sorted = True

    def __len__(self) -> int:
        return len(self._hashes)

    def add(self, uri: str) -> None:
        self._hashes.append(hash(uri))
        self._is_sorted = False

    def missing(self, uris: Sequence[str]) -> list[bool]:
        """For each URI, whether it was not listed."""
        table = np.frombuffer(self._hashes, dtype=np.int64)
        if not self._is_sorted:
            table.sort()
            self._is_sorted = True
        asked = np.array([hash(uri) for uri in uris], dtype=np.int64)
        if not len(table):
            return [True] * len(uris)
        found = table[np.minimum(np.searchsorted(table, asked), len(table) - 1)]
        missing: list[bool] = (found != asked).tolist()
        return missing


class WatchedStore:
    """An object store whose listings are noted: pass it to ``expand`` instead of the store itself.

    Noted is every object, also one that ``expand`` leaves out. A listing counts only when it was
    read to its end, without an entry that could not be read.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._listed = ListedPlaces()
        self._complete: list[str] = []

    def retire_unlisted(self, database: Database, *, since: datetime) -> int:
        """As :func:`retire_unlisted`, for all that was listed completely."""
        return sum(
            retire_unlisted(database, uri, self._listed, since=since) for uri in self._complete
        )

    def list(self, uri: str, *, on_skip: OnSkip | None = None) -> Iterator[ObjectInfo]:
        unread: list[str] = []

        def note(skipped_uri: str, reason: str) -> None:
            unread.append(skipped_uri)
            if on_skip is not None:
                on_skip(skipped_uri, reason)

        for info in self._store.list(uri, on_skip=note):
            self._listed.add(info.uri)
            yield info
        if not unread:
            self._complete.append(uri)

    def siblings(self, uri: str) -> Iterator[ObjectInfo]:
        return self._store.siblings(uri)

    def head(self, uri: str) -> ObjectInfo:
        return self._store.head(uri)

    def exists(self, uri: str) -> bool:
        return self._store.exists(uri)

    def fetch(
        self,
        uri: str,
        destination: Path,
        *,
        version: str | None = None,
        max_bytes: int | None = None,
        on_answer: OnAnswer | None = None,
    ) -> FetchedObject:
        return self._store.fetch(
            uri, destination, version=version, max_bytes=max_bytes, on_answer=on_answer
        )

    def read_bytes(self, uri: str, *, max_bytes: int | None = None) -> bytes:
        return self._store.read_bytes(uri, max_bytes=max_bytes)

    def write_file(self, uri: str, path: Path, media_type: str) -> None:
        self._store.write_file(uri, path, media_type)

    def write_bytes(self, uri: str, data: bytes, media_type: str) -> None:
        self._store.write_bytes(uri, data, media_type)

    def delete(self, uri: str) -> None:
        self._store.delete(uri)

    def check(self, uri: str) -> None:
        self._store.check(uri)


def retire_unlisted(
    database: Database, listed_uri: str, listed: ListedPlaces, *, since: datetime
) -> int:
    """Mark the current places below ``listed_uri`` that were not listed as gone; gives how many.

    ``listed_uri`` is what an :class:`ObjectStore` listed to its end: of ``s3://bucket/name``, all
    keys that start with ``name``; of a folder, all below it. ``since``: a time of the database's
    clock before the listing began, such as when its job was submitted. A place that was first seen,
    or submitted, since then stays as it is: it may have appeared behind the listing's back.
    """
    prefix = listed_uri if listed_uri.startswith(S3_SCHEME) else f"{listed_uri.rstrip('/')}/"
    retired = last_id = 0
    while True:
        # By id, and compared as a text: an order of texts, and LIKE, mean other things elsewhere.
        query = (
            select(location.c.id, location.c.uri)
            .where(
                location.c.id > last_id,
                location.c.is_current,
                location.c.first_seen_at < since,
                func.substr(location.c.uri, 1, len(prefix)) == prefix,
            )
            .order_by(location.c.id)
            .limit(BATCH)
        )
        with database.reading() as connection:
            places = connection.execute(query).all()
        if not places:
            break
        last_id = places[-1].id
        missing = listed.missing([place.uri for place in places])
        gone = [place.id for place, is_gone in zip(places, missing, strict=True) if is_gone]
        if gone:
            with database.transaction() as connection:
                retired += _retire(connection, gone, since)
    if retired:
        log.info("places_retired", prefix=prefix, count=retired, listed=len(listed))
    return retired


def _retire(connection: Connection, place_ids: Sequence[int], since: datetime) -> int:
    submitted_again = exists().where(
        job_item.c.location_id == location.c.id,
        job_item.c.job_id == job.c.id,
        job.c.submitted_at >= since,
    )
    # Whoever holds a place now has just seen it; and nobody waits for us, nor we for anybody.
    lock = (
        select(location.c.id)
        .where(location.c.id.in_(place_ids), location.c.is_current, ~submitted_again)
        .with_for_update(key_share=True, skip_locked=True, of=location)
    )
    gone = connection.execute(lock).scalars().all()
    if gone:
        connection.execute(update(location).where(location.c.id.in_(gone)).values(is_current=False))
    return len(gone)
