"""What lies in the stores and in the scratch space and belongs to nobody any more,
and what is shown to analysts and is not there.

The rows are the truth: an artifact is wanted while ``artifact``, ``keyframe`` or ``sidecar`` names
its sha256. How much memory that takes, :mod:`pipeline.runner.artifact_listing` says.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Select, select, union_all

from pipeline.errors import ConfigurationError
from pipeline.runner.artifact_listing import (
    BATCH,
    Digests,
    Leftover,
    ago,
    are_among,
    first_bytes,
    in_order,
    sha256_of,
    stored_batches,
    wanted_digests,
)
from pipeline.runner.runtime import Runtime
from pipeline.storage.scratch import UNNAMED_SECONDS
from schemas.tables import artifact, head, keyframe, location, sidecar, stage_run

DAY_SECONDS = 86_400.0
#: What a run at work has stored and not yet committed is younger than this.
SAFE_SECONDS = 3_600.0
#: Artifacts that are looked up once more and then deleted, before the next are looked up.
DELETE_BATCH = 5_000
#: Up to so many leftovers, their share of the store says nothing.
FEW = 100
#: Examples that a comparison names.
EXAMPLES = 5

__all__ = [
    "Comparison",
    "Leftover",
    "MissingArtifact",
    "abandoned_folders",
    "clean",
    "compare_store",
    "missing_artifacts",
    "unreferenced_artifacts",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingArtifact:
    """An artifact that a run on show refers to, and that the store does not have."""

    sha256: str
    asset_id: int
    stage: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The artifact store beside the rows, from one listing of it."""

    stored: int
    unreferenced: int
    unreferenced_bytes: int
    missing: int
    #: The first five of these.
    missing_examples: tuple[MissingArtifact, ...]


def unreferenced_artifacts(
    runtime: Runtime, older_than_seconds: float = DAY_SECONDS
) -> Iterator[Leftover]:
    """Artifacts that no row names, and files that were not written to their end, by the store's
    order; only those that were stored so long ago.

    Raises as :class:`~pipeline.storage.base.ObjectStore` and ``Database.reading`` do.
    """
    wanted = wanted_digests(runtime)
    for batch in stored_batches(runtime):
        yield from batch.leftovers(wanted, ago(older_than_seconds))


def missing_artifacts(runtime: Runtime) -> Iterator[MissingArtifact]:
    """Artifacts that analysts are shown, and that are not in the store. Raises as
    :func:`unreferenced_artifacts`."""
    yield from _missing(runtime, in_order(batch.digests for batch in stored_batches(runtime)))


def compare_store(runtime: Runtime, older_than_seconds: float = DAY_SECONDS) -> Comparison:
    """Counts of both, at the cost of one listing. Raises as :func:`unreferenced_artifacts`."""
    wanted = wanted_digests(runtime)
    present: list[Digests] = []
    count = size_bytes = 0
    for batch in stored_batches(runtime):
        present.append(batch.digests)
        for leftover in batch.leftovers(wanted, ago(older_than_seconds)):
            count += 1
            size_bytes += leftover.size_bytes
    missing = 0
    examples: list[MissingArtifact] = []
    for found in _missing(runtime, in_order(present)):
        missing += 1
        if len(examples) < EXAMPLES:
            examples.append(found)
    return Comparison(
        stored=sum(len(digests) for digests in present),
        unreferenced=count,
        unreferenced_bytes=size_bytes,
        missing=missing,
        missing_examples=tuple(examples),
    )


def clean(
    runtime: Runtime,
    *,
    older_than_seconds: float = DAY_SECONDS,
    dry_run: bool = False,
    force: bool = False,
) -> Iterator[Leftover]:
    """Delete leftovers of the artifact store and of this machine's scratch space; each is given
    when it is gone, so the deleting goes on only as the caller asks for more.

    An artifact is deleted when it is old, so that no run can be about to commit it, and still no
    row names it just before. ``dry_run`` deletes nothing. ``force`` deletes also most of a store.

    Raises:
        ConfigurationError: this looks like the wrong database, or work is under way and
            ``older_than_seconds`` below an hour.
        AccessDeniedError: the store allows no deleting.
    """
    if older_than_seconds < SAFE_SECONDS and not dry_run:
        _check_idle(runtime)
    artifacts, partial, stored = _candidates(runtime, older_than_seconds)
    if not (dry_run or force):
        _check_share(runtime, len(artifacts), stored)
    yield from _clean_artifacts(runtime, artifacts, dry_run=dry_run)
    for leftover in partial:
        if not dry_run:
            runtime.stores.delete(leftover.uri)
        yield leftover
    yield from _clean_scratch(runtime, older_than_seconds, dry_run=dry_run)


def _missing(runtime: Runtime, present: Digests) -> Iterator[MissingArtifact]:
    with runtime.database.streaming() as connection:
        for query in _shown():
            result = connection.execute(query.execution_options(yield_per=BATCH))
            for rows in result.partitions(BATCH):
                digests = first_bytes(row.sha256[:16] for row in rows)
                for position in np.flatnonzero(~are_among(digests, present)):
                    row = rows[int(position)]
                    # It may have come since the listing.
                    if not runtime.stores.exists(runtime.artifacts.uri(row.sha256)):
                        yield MissingArtifact(
                            sha256=row.sha256, asset_id=row.asset_id, stage=row.stage
                        )


def _shown() -> Iterator[Select[tuple[str, int, str]]]:
    """What runs on show refer to: sha256, asset_id, stage."""
    for table in (artifact, keyframe):
        yield select(table.c.sha256, head.c.asset_id, head.c.stage).join(
            head, head.c.stage_run_id == table.c.stage_run_id
        )
    yield (
        select(sidecar.c.sha256, location.c.asset_id, stage_run.c.stage)
        .join(location, location.c.id == sidecar.c.location_id)
        .join(stage_run, stage_run.c.id == location.c.ingest_run_id)
        .where(location.c.is_current)
    )


def _check_idle(runtime: Runtime) -> None:
    with runtime.database.reading() as connection:
        query = select(stage_run.c.id).where(stage_run.c.state == "running").limit(1)
        if connection.execute(query).first() is not None:
            raise ConfigurationError(
                "stage runs are at work, and what they have just stored is in no row yet: wait "
                "until none is, or clean only what is older than an hour"
            )


def _check_share(runtime: Runtime, leftovers: int, stored: int) -> None:
    """Against deleting the artifacts of another database."""
    if leftovers == 0 or (leftovers < stored and leftovers <= max(FEW, stored // 2)):
        return
    raise ConfigurationError(
        f"{leftovers} of the {stored} artifacts at {runtime.settings.artifacts_uri} are unknown to "
        f"{runtime.database.display_url}: is it their database? `--force` deletes them all the same"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidates:
    """Artifacts in 40 bytes each: there may be millions, where a database was lost."""

    digests: bytearray
    sizes: list[NDArray[np.int64]]

    def __len__(self) -> int:
        return len(self.digests) // 32

    def batches(self, size: int) -> Iterator[dict[str, int]]:
        """sha256 → size in bytes."""
        sizes = np.concatenate([np.empty(0, dtype=np.int64), *self.sizes])
        for start in range(0, len(self), size):
            digests = bytes(self.digests[32 * start : 32 * (start + size)]).hex()
            names = [digests[at : at + 64] for at in range(0, len(digests), 64)]
            yield dict(zip(names, sizes[start : start + size].tolist(), strict=True))


def _candidates(
    runtime: Runtime, older_than_seconds: float
) -> tuple[_Candidates, list[Leftover], int]:
    """Unreferenced artifacts, unfinished files, and how many artifacts there are at all."""
    wanted = wanted_digests(runtime)
    found = _Candidates(digests=bytearray(), sizes=[])
    partial: list[Leftover] = []
    stored = 0
    for batch in stored_batches(runtime):
        stored += len(batch.artifacts)
        sizes = []
        for leftover in batch.leftovers(wanted, ago(older_than_seconds)):
            if leftover.kind == "artifact":
                found.digests.extend(bytes.fromhex(sha256_of(leftover.uri)))
                sizes.append(leftover.size_bytes)
            else:
                partial.append(leftover)
        found.sizes.append(np.array(sizes, dtype=np.int64))
    return found, partial, stored


def _clean_artifacts(
    runtime: Runtime, candidates: _Candidates, *, dry_run: bool
) -> Iterator[Leftover]:
    for batch in candidates.batches(DELETE_BATCH):
        names = list(batch)
        again = union_all(
            *(
                select(table.c.sha256).where(table.c.sha256.in_(names))
                for table in (artifact, keyframe, sidecar)
            )
        )
        with runtime.database.reading() as connection:
            needed = set(connection.execute(again).scalars())
        for sha256, size_bytes in batch.items():
            if sha256 not in needed:
                uri = runtime.artifacts.uri(sha256)
                if not dry_run:
                    runtime.stores.delete(uri)
                yield Leftover(kind="artifact", uri=uri, size_bytes=size_bytes)


def abandoned_folders(runtime: Runtime, unnamed_seconds: float = UNNAMED_SECONDS) -> list[Leftover]:
    """Work folders in this machine's scratch space whose process is gone; as
    :meth:`~pipeline.storage.scratch.ScratchSpace.abandoned`."""
    return [
        Leftover(kind="work folder", uri=str(folder), size_bytes=_size_of(folder))
        for folder in sorted(runtime.scratch.abandoned(unnamed_seconds=unnamed_seconds))
    ]


def _clean_scratch(
    runtime: Runtime, older_than_seconds: float, *, dry_run: bool
) -> Iterator[Leftover]:
    # Where work may be under way a folder may be about to be locked.
    unnamed = min(older_than_seconds, UNNAMED_SECONDS)
    folders = abandoned_folders(runtime, unnamed)
    if not dry_run:
        removed = {
            str(folder)
            for folder in runtime.scratch.abandoned(remove=True, unnamed_seconds=unnamed)
        }
        folders = [folder for folder in folders if folder.uri in removed]
    yield from folders
    # Downloads of artifacts that were cut off.
    before = ago(older_than_seconds).timestamp()
    for path in sorted((runtime.settings.scratch_path / "artifacts").rglob(".part-*")):
        try:
            status = path.stat()
        except FileNotFoundError:
            continue  # it has come to its end meanwhile
        if status.st_mtime <= before:
            if not dry_run:
                path.unlink(missing_ok=True)
            yield Leftover(kind="partial file", uri=str(path), size_bytes=status.st_size)


def _size_of(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_size
        except FileNotFoundError:
            continue  # removed by another process's sweep
    return total
