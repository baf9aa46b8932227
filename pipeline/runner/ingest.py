"""ingest: an object in a store → an asset, known by its content."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from pipeline.db import jobs
from pipeline.db.assets import lock_asset
from pipeline.db.results import insert_or_ignore, without_nul
from pipeline.db.runs import ClaimedRun
from pipeline.errors import (
    InvalidMediaError,
    MediaLimitError,
    ObjectNotFoundError,
)
from pipeline.media import ChildUsage, probe_media
from pipeline.runner.runtime import Runtime
from schemas.records import MediaInfo
from schemas.tables import asset, sidecar, stream

#: A subtitle file beside the media is text; anything larger is something else.
MAX_SIDECAR_BYTES = 32 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingested:
    """What the ingest found at a location."""

    sha256: str
    size_bytes: int
    version: str | None
    info: MediaInfo
    usage: ChildUsage
    #: (uri, name, sha256) of the subtitle files beside it.
    sidecars: tuple[tuple[str, str, str], ...]


def ingest(runtime: Runtime, run: ClaimedRun, work_dir: Path) -> Ingested:
    """Fetch the object with its sidecars, digest it, and find out in the child what it is.

    Raises:
        ObjectNotFoundError, AccessDeniedError, StoreUnavailableError: it cannot be read.
        InvalidMediaError: it is not media.
    """
    uri = run.inputs["uri"]
    max_bytes = runtime.settings.media.max_file_bytes
    with runtime.fetcher.of_place(uri, work_dir, max_bytes=max_bytes) as fetched:
        if fetched.size_bytes == 0:
            raise InvalidMediaError("the file is empty")
        probed = probe_media(fetched.path, work_dir=work_dir, limits=runtime.limits)
    sidecars = tuple(
        found
        for entry in run.inputs["sidecars"]
        if (found := _fetch_sidecar(runtime, entry["uri"], work_dir)) is not None
    )
    return Ingested(
        sha256=fetched.sha256,
        size_bytes=fetched.size_bytes,
        version=fetched.version,
        info=probed.info,
        sidecars=sidecars,
        usage=probed.usage,
    )


def _fetch_sidecar(runtime: Runtime, uri: str, work_dir: Path) -> tuple[str, str, str] | None:
    """``None`` where it has gone since the listing, or is too large to be subtitles."""
    try:
        fetched = runtime.stores.fetch(uri, work_dir / "sidecar", max_bytes=MAX_SIDECAR_BYTES)
    except (ObjectNotFoundError, MediaLimitError):
        return None
    digest = runtime.artifacts.put_file(fetched.path, "text/plain")
    return uri, PurePosixPath(uri).name, digest


def store_ingested(connection: Connection, run: ClaimedRun, found: Ingested) -> Any:
    """Write the asset, its streams and sidecars, and lock it; gives what
    :func:`~pipeline.db.assets.lock_asset` gives."""
    info = found.info
    created = connection.execute(
        insert_or_ignore(connection, asset)
        .values(
            sha256=found.sha256,
            kind=info.kind,
            container=info.container,
            size_bytes=found.size_bytes,
            duration_ms=info.duration_ms,
            width_px=info.width_px,
            height_px=info.height_px,
            frame_rate=info.frame_rate,
            has_audio=info.has_audio,
        )
        .returning(asset.c.id)
    ).scalar_one_or_none()
    asset_id: int = (
        created
        or connection.execute(select(asset.c.id).where(asset.c.sha256 == found.sha256)).scalar_one()
    )
    if created is not None and info.streams:
        connection.execute(
            insert(stream), [_stream_row(asset_id, record) for record in info.streams]
        )
    # Before the items of this place: whoever finishes a stage locks in the same order.
    facts = lock_asset(connection, asset_id)
    if run.location_id is not None:
        connection.execute(delete(sidecar).where(sidecar.c.location_id == run.location_id))
        if found.sidecars:
            connection.execute(
                insert(sidecar),
                [
                    {"location_id": run.location_id, "uri": uri, "name": name, "sha256": digest}
                    for uri, name, digest in found.sidecars
                ],
            )
        jobs.bind_asset(
            connection,
            location_id=run.location_id,
            ingest_run_id=run.stage_run_id,
            asset_id=asset_id,
            version=found.version,
        )
    return facts


def _stream_row(asset_id: int, record: Any) -> dict[str, Any]:
    names = [column.name for column in stream.columns if column.name != "asset_id"]
    row = {"asset_id": asset_id, **{name: getattr(record, name) for name in names}}
    return {
        name: without_nul(value) if isinstance(value, str) else value for name, value in row.items()
    }
