"""The interface behind which every object store stands."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from pipeline.errors import SourceError

#: Told about an entry that a listing leaves out: its printable URI and why.
OnSkip = Callable[[str, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectInfo:
    """What a store says about an object without reading it.

    ``etag`` changes when the content does; it is opaque. ``version`` is ``None`` where the store
    keeps no versions, and in listings. ``modified_at`` is by the store's clock; ``None`` where that
    does not tell.
    """

    uri: str
    size_bytes: int
    etag: str
    version: str | None = None
    modified_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchedObject:
    """An object's bytes as a local file, with the digest of exactly these bytes.

    ``is_scratch`` says whether the file was made for the caller, who then deletes it. It is false
    where ``path`` is the submitted file itself: never change or delete that one.
    """

    path: Path
    sha256: str
    size_bytes: int
    etag: str
    version: str | None
    is_scratch: bool


#: Told what a fetch is about to read, before its first byte; see :meth:`ObjectStore.fetch`.
OnAnswer = Callable[[ObjectInfo], FetchedObject | None]


class ObjectStore(Protocol):
    """Objects by URI. Every method may block on disk or network; all may be called by any thread.

    Raises, everywhere:
        ObjectNotFoundError: the file, key or bucket does not exist.
        AccessDeniedError: the store refused the credentials or the permission.
        StoreUnavailableError: the store could not be reached, or the object changed meanwhile.
        SourceError: anything else that keeps the object from being read (a FIFO, a bad name).
        ConfigurationError: the URI or the settings are not usable at all.
    """

    def list(self, uri: str, *, on_skip: OnSkip | None = None) -> Iterator[ObjectInfo]:
        """Every object under ``uri``, streamed in the order of the keys' UTF-8 bytes.

        S3: all keys that start with the URI's key, as a string; none is no error. Local: the file
        itself, or all regular files below the folder; folders behind symbolic links are not
        entered. ``on_skip`` is called for entries that cannot be objects.
        """

    def siblings(self, uri: str) -> Iterator[ObjectInfo]:
        """The object's neighbours whose names start with its stem and a dot, by name.

        Same folder only, at most 1,000: where the sidecars of one file are.
        """

    def head(self, uri: str) -> ObjectInfo:
        """Size, ETag and version of one object."""

    def exists(self, uri: str) -> bool:
        """Whether the object exists; refusals and failures are raised, not guessed."""

    def fetch(
        self,
        uri: str,
        destination: Path,
        *,
        version: str | None = None,
        max_bytes: int | None = None,
        on_answer: OnAnswer | None = None,
    ) -> FetchedObject:
        """The whole object as a local file, hashed on the way.

        The bytes go to a temporary name beside ``destination``, for which disk space is set aside
        first, and appear there only when they are complete; nothing is left behind on failure. A
        cut connection is resumed. A store of local files copies nothing and gives back the file's
        own path.

        ``on_answer`` is called once the store has answered and before space is taken: it may wait
        for room, may raise, and gives the object where the caller has exactly this one already,
        which is then the outcome. Not called where nothing is copied.

        Raises:
            MediaLimitError: the object has more than ``max_bytes`` bytes.
            ResourceExhaustedError: the disk of ``destination`` is full.
        """

    def read_bytes(self, uri: str, *, max_bytes: int | None = None) -> bytes:
        """The whole object in memory: for small objects.

        Raises:
            MediaLimitError: the object has more than ``max_bytes`` bytes.
        """

    def write_file(self, uri: str, path: Path, media_type: str) -> None:
        """Store a copy of a local file; readers see the old object or the new, never a part.

        Raises:
            ResourceExhaustedError: the store's disk is full.
        """

    def write_bytes(self, uri: str, data: bytes, media_type: str) -> None:
        """As :meth:`write_file`, from memory."""

    def delete(self, uri: str) -> None:
        """Remove one object, its newest version where the store keeps versions.

        May be called twice: that there is no such object is no error. The folders of local files
        stay.
        """

    def check(self, uri: str) -> None:
        """Return if the bucket or folder of ``uri`` can be listed; raise the reason if not."""


def check_uri_text(text: str) -> None:
    """Refuse names that no database column or JSON message could hold.

    Raises:
        SourceError: the text is not valid UTF-8 or contains a NUL.
    """
    if "\0" in text:
        raise SourceError(f"{printable(text)} contains a NUL character; rename it")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise SourceError(f"the name {printable(text)} is not valid UTF-8; rename it") from error


def printable(text: str) -> str:
    """A name for people and logs: undecodable bytes and control characters become escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def stem_of(name: str) -> str:
    """A file's name without its last extension: ``a.en.srt`` gives ``a.en``, ``.x`` itself."""
    return name.rpartition(".")[0] or name
