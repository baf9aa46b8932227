"""What stores say about their buckets, in their several dialects, as one form.

Read are the ``Records`` of AWS S3, MinIO and Ceph, bare, wrapped by SNS, or in the list entries of
MinIO's Redis target; and the S3 events of EventBridge. ``docs/bucket-events.md`` says how to have
them sent.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import unquote_plus

_CREATED = "ObjectCreated:"
#: New metadata of an object that is there already: its bytes have not changed.
_METADATA_ONLY = frozenset(
    {
        "ObjectCreated:DeleteTagging",
        "ObjectCreated:PutLegalHold",
        "ObjectCreated:PutRetention",
        "ObjectCreated:PutTagging",
    }
)
#: One version is gone; where the bucket keeps no versions, the object.
_VERSION_REMOVED = frozenset({"LifecycleExpiration:Delete", "ObjectRemoved:Delete"})
#: The object is gone, or hidden by a delete marker, whatever versions are left. The version such
#: an event names is the marker's own.
_OBJECT_REMOVED = frozenset(
    {
        "LifecycleExpiration:DeleteMarkerCreated",
        "ObjectLifecycle:Expiration:Current",
        "ObjectRemoved:DeleteAllVersions",
        "ObjectRemoved:DeleteMarkerCreated",
    }
)
_SIXTEEN_HEX_DIGITS = re.compile(r"[0-9A-Fa-f]{16}")


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketEvent:
    """Something happened to an object.

    ``key`` is the plain key, decoded. ``version`` and ``etag`` are ``None`` where the event names
    none. A removal with a ``version`` is of that version only. ``sequencer`` orders the events of
    one key, see :func:`is_later`.
    """

    kind: Literal["created", "removed"]
    bucket: str
    key: str
    version: str | None = None
    etag: str | None = None
    size_bytes: int | None = None
    sequencer: str | None = None

    @property
    def uri(self) -> str:
        """As sources are written: the key raw, never encoded."""
        return f"s3://{self.bucket}/{self.key}"


def parse_bucket_message(body: bytes) -> list[BucketEvent]:
    """The events in a message, in its order; none for test events and for what makes no object
    appear or go (tags, restores, replication, kinds that are not known here).

    Placeholders - keys that end in ``/``, new objects of zero bytes - are no events either.

    Raises:
        ValueError: the message is no bucket event; the sentence says why.
    """
    return [event for event in _events(_json(body)) if not _is_placeholder(event)]


def is_later(sequencer: str, than: str) -> bool:
    """Whether ``sequencer`` came after ``than``, of the same key.

    They are hexadecimal and may differ in length: the shorter is filled up with zeros on its right,
    as AWS documents it. Two zeros that SQS gets in front and EventBridge does not go before that.
    """
    ours, theirs = sequencer.upper(), than.upper()
    if len(ours) != len(theirs):
        ours, theirs = ours.lstrip("0"), theirs.lstrip("0")
        width = max(len(ours), len(theirs))
        ours, theirs = ours.ljust(width, "0"), theirs.ljust(width, "0")
    return ours > theirs


def _is_placeholder(event: BucketEvent) -> bool:
    return event.key.endswith("/") or (event.kind == "created" and event.size_bytes == 0)


def _json(text: bytes | str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the message is not JSON: {error}") from error


def _events(message: Any, *, is_wrapped: bool = False) -> Iterator[BucketEvent]:
    if isinstance(message, list):
        for entry in message:
            for record in _list(_object(entry, "an entry of the list"), "Event"):
                yield from _of_record(record)
        return
    message = _object(message, "the message")
    if message.get("Event") == "s3:TestEvent":
        return
    if "Records" in message:
        for record in _list(message, "Records"):
            yield from _of_record(record)
    elif "detail-type" in message:
        yield from _of_event_bridge(message)
    elif message.get("Type") == "Notification" and not is_wrapped:
        wrapped = _text(message, "Message")
        if wrapped is None:
            raise ValueError("the notification of SNS has no Message")
        yield from _events(_json(wrapped), is_wrapped=True)
    else:
        named = ", ".join(sorted(map(str, message))[:8]) or "nothing"
        raise ValueError(
            f"the message has neither Records, nor detail-type, nor an SNS Message, but {named}"
        )


def _of_record(record: Any) -> Iterator[BucketEvent]:
    """A record of AWS, or of a store that does as AWS."""
    record = _object(record, "a record")
    name = _text(record, "eventName")
    if name is None:
        raise ValueError("a record has no eventName")
    # MinIO, and some versions of Ceph, write the prefix that AWS leaves out.
    name = name.removeprefix("s3:")
    if name not in _VERSION_REMOVED | _OBJECT_REMOVED and not _is_creation(name):
        return
    s3 = _object(record.get("s3"), f"s3 of {name}")
    described = _object(s3.get("object"), f"s3.object of {name}")
    key, sequencer = _text(described, "key"), _text(described, "sequencer")
    if record.get("eventSource") == "ceph:s3":
        sequencer = sequencer and _ceph_sequencer(sequencer)
    else:
        # Ceph writes the key as it is; the others encode it as an HTML form does.
        key = key and _form_decoded(key)
    yield _event(
        "created" if _is_creation(name) else "removed",
        bucket=_text(_object(s3.get("bucket"), f"s3.bucket of {name}"), "name"),
        key=key,
        version=None if name in _OBJECT_REMOVED else _text(described, "versionId"),
        etag=_text(described, "eTag"),
        size_bytes=_size(described),
        sequencer=sequencer,
    )


def _is_creation(name: str) -> bool:
    # Ways to make an object that are not known here yet are among them: better looked at in vain.
    is_new = name.startswith(_CREATED) and name not in _METADATA_ONLY
    return is_new or name == "ObjectSynced:Create"


def _of_event_bridge(message: Mapping[str, Any]) -> Iterator[BucketEvent]:
    kind = message["detail-type"]
    if message.get("source") != "aws.s3" or kind not in ("Object Created", "Object Deleted"):
        return
    detail = _object(message.get("detail"), f"detail of {kind}")
    described = _object(detail.get("object"), f"detail.object of {kind}")
    is_marker = detail.get("deletion-type") == "Delete Marker Created"
    yield _event(
        "created" if kind == "Object Created" else "removed",
        bucket=_text(_object(detail.get("bucket"), f"detail.bucket of {kind}"), "name"),
        key=_text(described, "key"),
        version=None if is_marker else _text(described, "version-id"),
        etag=_text(described, "etag"),
        size_bytes=_size(described),
        sequencer=_text(described, "sequencer"),
    )


def _event(
    kind: Literal["created", "removed"],
    *,
    bucket: str | None,
    key: str | None,
    version: str | None,
    etag: str | None,
    size_bytes: int | None,
    sequencer: str | None,
) -> BucketEvent:
    if not bucket or "/" in bucket:
        raise ValueError(f"an event names no bucket: {bucket!r}")
    if not key:
        raise ValueError(f"an event of the bucket {bucket} names no key")
    for text in (bucket, key, version, etag, sequencer):
        _check_storable(text or "")
    return BucketEvent(
        kind=kind,
        bucket=bucket,
        key=key,
        # "null" is what objects have that were written before the bucket kept versions.
        version=None if version == "null" else version,
        etag=etag and etag.strip('"'),
        size_bytes=size_bytes,
        sequencer=sequencer,
    )


def _check_storable(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{text!a} is not valid Unicode") from error
    if "\0" in text:
        raise ValueError(f"{text!a} holds a NUL character")


def _form_decoded(key: str) -> str:
    try:
        return unquote_plus(key, errors="strict")
    except UnicodeDecodeError as error:
        raise ValueError(f"the key {key!a} is not percent-encoded UTF-8") from error


def _ceph_sequencer(text: str) -> str:
    """Ceph prints seconds and nanoseconds of the event as they lie in memory: each four bytes, the
    lowest first. Turned, they order by time."""
    if not _SIXTEEN_HEX_DIGITS.fullmatch(text):
        return text
    seconds, nanoseconds = bytes.fromhex(text[:8]), bytes.fromhex(text[8:])
    return (seconds[::-1] + nanoseconds[::-1]).hex()


def _size(described: Mapping[str, Any]) -> int | None:
    size = described.get("size")
    if size is None or size == "":
        return None
    if isinstance(size, int) or (isinstance(size, str) and size.isdecimal()):
        return int(size)
    raise ValueError(f"the size {size!r} is no number of bytes")


def _text(mapping: Mapping[str, Any], name: str) -> str | None:
    value = mapping.get(name)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{name} is not a text but {value!r:.100}")
    return value or None


def _object(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{what} is not an object but {value!r:.100}")  # noqa: TRY004
    return value


def _list(mapping: Mapping[str, Any], name: str) -> list[Any]:
    value = mapping.get(name)
    if not isinstance(value, list):
        raise ValueError(f"{name} is not a list but {value!r:.100}")  # noqa: TRY004
    return value
