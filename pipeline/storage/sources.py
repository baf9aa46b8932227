"""From what a user named - a file, a folder, a prefix - to the media items in it."""

from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain

from pipeline.errors import AccessDeniedError, SourceError
from pipeline.storage.base import ObjectInfo, ObjectStore, OnSkip
from pipeline.storage.local import normalise_uri
from pipeline.storage.s3 import SCHEME as S3_SCHEME
from pipeline.storage.s3 import parse_s3_uri
from pipeline.storage.sidecars import (
    IMAGE_EXTENSIONS,
    SIDECAR_EXTENSIONS,
    SidecarRef,
    SkippedFile,
    SourceItem,
    attach_sidecars,
    extension_of,
)

__all__ = [
    "MEDIA_EXTENSIONS",
    "SidecarRef",
    "SkippedFile",
    "SourceItem",
    "expand",
    "expand_object",
    "expand_prefix",
    "has_media_extension",
]

_VIDEO = "3gp asf avi flv m2ts m4v mkv mov mp4 mpeg mpg mts mxf ogv ts vob webm wmv"
_AUDIO = "aac ac3 aif aiff flac m4a mka mp3 oga ogg opus wav wma"

#: What is taken from folders: lower case, with the dot.
MEDIA_EXTENSIONS = IMAGE_EXTENSIONS | {f".{name}" for name in f"{_VIDEO} {_AUDIO}".split()}


def has_media_extension(name: str) -> bool:
    """Whether a key, path or URI is taken from folders."""
    return extension_of(name) in MEDIA_EXTENSIONS


def expand(source: str, stores: ObjectStore) -> Iterator[SourceItem | SkippedFile]:
    """Everything to ingest under a source, streamed; memory does not grow with the listing.

    A file or key that is named itself is taken whatever its extension. Of a folder or prefix, files
    with a media extension are taken at any depth, hidden ones are left out silently, others are
    given as :class:`SkippedFile`. ``s3://bucket/name`` is a folder if keys exist under ``name/``,
    else that key if it exists, else every key that starts with it.

    A source that cannot be listed, or holds nothing, gives one item without an ETag: ingesting it
    then fails with the precise reason, on record. So does one whose listing breaks off.

    Raises:
        StoreUnavailableError: the store cannot be reached now; nothing is known about the source.
        ConfigurationError, SourceError: the source's text is no usable name.
    """
    uri = normalise_uri(source)
    found = False
    try:
        for entry in _expand(uri, stores):
            found = True
            yield entry
    except SourceError:
        found = False
    if not found:
        yield SourceItem(uri=uri)


def expand_object(uri: str, stores: ObjectStore) -> SourceItem:
    """The one object of this very name, whatever else begins like it, with its sidecars.

    One that is not there is given without an ETag: ingesting it fails with the reason, on record.
    Raises StoreUnavailableError as :func:`expand`.
    """
    try:
        return _named(uri, stores)
    except SourceError:
        return SourceItem(uri=uri)


def expand_prefix(
    uri: str, stores: ObjectStore, is_media: Callable[[str], bool] = has_media_extension
) -> Iterator[SourceItem | SkippedFile]:
    """Everything below a prefix exactly as it is written, folder or not; nothing if it is empty.

    ``is_media`` is asked with URIs.

    Raises:
        SourceError: it cannot be listed, or not to its end.
        StoreUnavailableError: the store cannot be reached now.
    """
    skipped = _Skipped(uri)
    yield from skipped.among(stores.list(uri, on_skip=skipped.note), is_media)


def _expand(uri: str, stores: ObjectStore) -> Iterator[SourceItem | SkippedFile]:
    skipped = _Skipped(uri)
    listing = _list(uri, stores, skipped.note)
    first = next(listing, None)
    if first is not None and first.uri == uri and not uri.endswith("/"):
        yield _named(uri, stores)
        return
    listed = chain([first] if first else [], listing)
    yield from skipped.among(listed, has_media_extension)


class _Skipped:
    """What a listing leaves out, given between its items."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._noted: deque[SkippedFile] = deque()

    def note(self, uri: str, reason: str) -> None:
        if not _is_hidden(uri, self._uri):
            self._noted.append(SkippedFile(uri=uri, reason=reason))

    def among(
        self, listed: Iterator[ObjectInfo], is_media: Callable[[str], bool]
    ) -> Iterator[SourceItem | SkippedFile]:
        visible = (i for i in listed if not (_is_hidden(i.uri, self._uri) or _is_folder_marker(i)))
        for entry in attach_sidecars(visible, is_media):
            while self._noted:
                yield self._noted.popleft()
            yield entry
        yield from self._noted


def _list(uri: str, stores: ObjectStore, on_skip: OnSkip) -> Iterator[ObjectInfo]:
    """The listing of a folder, else of the prefix; an object named itself comes first."""
    if uri.startswith(S3_SCHEME) and parse_s3_uri(uri)[1] and not uri.endswith("/"):
        inside = stores.list(f"{uri}/")
        first = next(inside, None)
        if first is not None:
            return chain([first], inside)
    return stores.list(uri, on_skip=on_skip)


def _named(uri: str, stores: ObjectStore) -> SourceItem:
    """An object that the user named itself, with the sidecars beside it."""
    info = stores.head(uri)
    sidecars: tuple[SidecarRef, ...] = ()
    if extension_of(uri) not in SIDECAR_EXTENSIONS:
        neighbours = chain([info], _neighbours(uri, stores))
        for entry in attach_sidecars(
            neighbours, lambda name: name == uri or has_media_extension(name)
        ):
            if entry.uri == uri and isinstance(entry, SourceItem):
                sidecars = entry.sidecars
    return SourceItem(
        uri=uri,
        etag=info.etag,
        version=info.version,
        size_bytes=info.size_bytes,
        sidecars=sidecars,
    )


def _neighbours(uri: str, stores: ObjectStore) -> Iterator[ObjectInfo]:
    try:
        yield from (info for info in stores.siblings(uri) if info.uri != uri)
    except AccessDeniedError:
        return  # the object may be readable where its folder is not


def _is_hidden(uri: str, named: str) -> bool:
    """Whether a name below what the user named starts with a dot."""
    names = uri.removeprefix(named).split("/")
    below = names if named.endswith("/") else names[1:]
    return any(name.startswith(".") and name not in {".", ".."} for name in below)


def _is_folder_marker(info: ObjectInfo) -> bool:
    return info.uri.endswith("/") and info.size_bytes == 0
