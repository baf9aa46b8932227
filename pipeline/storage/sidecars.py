"""Which subtitle files belong to which media, found while a listing streams by.

Keys that start with the same string stand together in a sorted listing. So a media file ``d/a.mp4``
has all its sidecars among the neighbouring keys that start with ``d/a.``, and is complete with the
first key that does not. Only such neighbours are held in memory, never a folder or the listing.
That holds too where a server sorts folder by folder. A store that lists in no order at all loses no
media, only the ties to their sidecars.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from pipeline.storage.base import ObjectInfo, stem_of

IMAGE_EXTENSIONS = frozenset(
    {".avif", ".bmp", ".gif", ".heic", ".heif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
)
SIDECAR_EXTENSIONS = frozenset(
    {".ass", ".dfxp", ".idx", ".sami", ".smi", ".srt", ".ssa", ".sub", ".ttml", ".vtt"}
)

#: Between stem and extension of a sidecar: languages and flags, as in ``name.zh-Hant.forced.srt``.
_TAG = re.compile(r"[A-Za-z]{2,}(?:[-_][A-Za-z0-9]+)*")
_MAX_TAGS = 3
#: Of one media file: all languages that there are subtitles in, several times over.
_MAX_SIDECARS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class SidecarRef:
    """A subtitle file beside a media file."""

    uri: str
    etag: str
    version: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceItem:
    """One object to ingest. ``etag`` is ``None`` where it could not be seen: ingest says why."""

    uri: str
    etag: str | None = None
    version: str | None = None
    size_bytes: int | None = None
    sidecars: tuple[SidecarRef, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SkippedFile:
    """What a folder or prefix holds and is not ingested; ``uri`` is printable, for people."""

    uri: str
    reason: str


@dataclass(frozen=True, slots=True)
class _Stem:
    """Media of one folder that share a stem; ``prefix`` is what their sidecars start with."""

    prefix: str
    media: list[ObjectInfo] = field(default_factory=list)


def name_of(uri: str) -> str:
    return uri.rpartition("/")[2]


def extension_of(uri: str) -> str:
    """Lower case, with the dot; empty where there is none."""
    name = name_of(uri)
    return name[len(stem_of(name)) :].lower()


def attach_sidecars(
    listing: Iterable[ObjectInfo], is_media: Callable[[str], bool]
) -> Iterator[SourceItem | SkippedFile]:
    """Media with their sidecars, and what is neither, from a listing in key order.

    A sidecar goes to the media of the longest matching stem, to all of them if there are several
    (``a.mp4``, ``a.mkv``), never to pictures.
    """
    # Both are stacks: every entry's prefix is a prefix of the key seen last.
    stems: list[_Stem] = []
    sidecars: list[tuple[str, ObjectInfo]] = []

    def settle(uri: str | None) -> Iterator[SourceItem | SkippedFile]:
        while stems and (uri is None or not uri.startswith(stems[-1].prefix)):
            yield from _items(stems.pop(), sidecars)
        while sidecars and (uri is None or not uri.startswith(sidecars[-1][0])):
            lone = sidecars.pop()[1]
            yield SkippedFile(
                uri=lone.uri, reason="a sidecar without a media file of its name beside it"
            )

    for info in listing:
        yield from settle(info.uri)
        folder = info.uri.removesuffix(name_of(info.uri))
        if is_media(info.uri):
            prefix = f"{folder}{stem_of(name_of(info.uri))}."
            if not stems or stems[-1].prefix != prefix:
                stems.append(_Stem(prefix))
            stems[-1].media.append(info)
        elif extension_of(info.uri) in SIDECAR_EXTENSIONS:
            # The shortest stem it could belong to ends at the first dot.
            sidecars.append((f"{folder}{name_of(info.uri).partition('.')[0]}.", info))
        else:
            extension = extension_of(info.uri) or "no extension"
            yield SkippedFile(uri=info.uri, reason=f"not a media file by its name ({extension})")
    yield from settle(None)


def _items(
    stem: _Stem, sidecars: list[tuple[str, ObjectInfo]]
) -> Iterator[SourceItem | SkippedFile]:
    """The finished items of a stem; takes their sidecars off the stack."""
    takers = [info for info in stem.media if extension_of(info.uri) not in IMAGE_EXTENSIONS]
    taken: list[SidecarRef] = []
    if takers:
        start = len(sidecars)
        while start and sidecars[start - 1][1].uri.startswith(stem.prefix):
            start -= 1
        candidates = sidecars[start:]
        del sidecars[start:]
        for family, info in candidates:
            if not _belongs(info.uri.removeprefix(stem.prefix)):
                sidecars.append((family, info))
            elif len(taken) == _MAX_SIDECARS:
                reason = f"its media file has {_MAX_SIDECARS} other sidecars already"
                yield SkippedFile(uri=info.uri, reason=reason)
            else:
                taken.append(SidecarRef(uri=info.uri, etag=info.etag, version=info.version))
    for info in stem.media:
        yield SourceItem(
            uri=info.uri,
            etag=info.etag,
            version=info.version,
            size_bytes=info.size_bytes,
            sidecars=tuple(taken) if info in takers else (),
        )


def _belongs(rest: str) -> bool:
    """Whether ``rest``, a sidecar's name after the media's stem and dot, is tags and extension."""
    tags = rest.split(".")[:-1]
    return len(tags) <= _MAX_TAGS and all(_TAG.fullmatch(tag) for tag in tags)
