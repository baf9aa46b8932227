"""The artifact store's listing beside the rows that name artifacts, both read as streams.

Of a digest its first 8 bytes are kept: 16 bytes per row that names an artifact, or per stored one,
while they are sorted, and 8 afterwards (160 and 80 MB for ten million). A leftover or a loss that
shares these bytes with another artifact goes unseen: of ten million, one in 10^12.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import func, select

from pipeline.errors import ObjectNotFoundError
from pipeline.runner.runtime import Runtime
from pipeline.storage.base import ObjectInfo
from pipeline.storage.local import normalise_uri
from schemas.tables import artifact, keyframe, sidecar

#: Rows, or names of a listing, handled at a time.
BATCH = 20_000

_ARTIFACT = re.compile(r"([0-9a-f]{2})/([0-9a-f]{2})/(\1\2[0-9a-f]{60})")
_PARTIAL = re.compile(r"[0-9a-f]{2}/[0-9a-f]{2}/\.part-[0-9a-f]{32}")

#: uint64, shape ``(n,)``: the first 8 bytes of digests.
Digests = NDArray[np.uint64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """Something that nobody needs: an artifact of no row, a file that was not written to its end,
    or the work folder of a process that is gone."""

    kind: Literal["artifact", "partial file", "work folder"]
    uri: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBatch:
    """Part of a listing: artifacts with their digests' first bytes, and unfinished files."""

    artifacts: Sequence[ObjectInfo]
    digests: Digests
    partial: Sequence[ObjectInfo]

    def leftovers(self, wanted: Digests, before: datetime) -> Iterator[Leftover]:
        """What was stored before then and is not among ``wanted``, which is sorted."""
        for position in np.flatnonzero(~are_among(self.digests, wanted)):
            info = self.artifacts[int(position)]
            if _is_older(info, before):
                yield Leftover(kind="artifact", uri=info.uri, size_bytes=info.size_bytes)
        for info in self.partial:
            if _is_older(info, before):
                yield Leftover(kind="partial file", uri=info.uri, size_bytes=info.size_bytes)


def ago(seconds: float) -> datetime:
    return datetime.now(UTC) - timedelta(seconds=seconds)


def _is_older(info: ObjectInfo, before: datetime) -> bool:
    """Of unknown age is never old."""
    return info.modified_at is not None and info.modified_at <= before


def stored_batches(runtime: Runtime) -> Iterator[StoredBatch]:
    """The artifact store's listing. Anything whose name is not ours is passed over."""
    root = normalise_uri(runtime.settings.artifacts_uri).rstrip("/") + "/"
    listing = runtime.stores.list(root)
    while True:
        try:
            infos = list(islice(listing, BATCH))
        except ObjectNotFoundError:
            if runtime.artifacts.is_local:
                return  # the folder is made by the first run
            raise
        if not infos:
            return
        named = [(info, info.uri.removeprefix(root)) for info in infos]
        artifacts = [info for info, name in named if _ARTIFACT.fullmatch(name)]
        yield StoredBatch(
            artifacts=artifacts,
            digests=first_bytes(sha256_of(info.uri)[:16] for info in artifacts),
            partial=[info for info, name in named if _PARTIAL.fullmatch(name)],
        )


def wanted_digests(runtime: Runtime) -> Digests:
    """Every artifact that a row names, sorted."""
    parts: list[Digests] = []
    with runtime.database.streaming() as connection:
        for column in (artifact.c.sha256, keyframe.c.sha256, sidecar.c.sha256):
            query = select(func.substr(column, 1, 16)).execution_options(yield_per=BATCH)
            parts += [
                first_bytes(row[0] for row in rows)
                for rows in connection.execute(query).partitions(BATCH)
            ]
    return in_order(parts)


def sha256_of(artifact_uri: str) -> str:
    return artifact_uri[-64:]


def first_bytes(prefixes: Iterable[str]) -> Digests:
    """From 16 hexadecimal digits each."""
    return np.frombuffer(bytes.fromhex("".join(prefixes)), dtype=">u8").astype(np.uint64)


def in_order(parts: Iterable[Digests]) -> Digests:
    """All of them, sorted; some may be there twice."""
    # np.unique would be shorter, and take four times the memory.
    merged = np.concatenate([np.empty(0, dtype=np.uint64), *parts])
    merged.sort()
    return merged


def are_among(values: Digests, ordered: Digests) -> NDArray[np.bool_]:
    """Which of ``values`` are in ``ordered``, which is sorted."""
    places = np.searchsorted(ordered, values)
    inside = places < len(ordered)
    found = np.zeros(len(values), dtype=np.bool_)
    found[inside] = ordered[places[inside]] == values[inside]
    return found
