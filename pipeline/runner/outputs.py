"""Stores what a stage made: files as artifacts first, then all rows in the closing transaction."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from sqlalchemy import Connection, insert

from pipeline.db import results
from pipeline.errors import ContractError
from pipeline.plan.fingerprint import digest_of
from pipeline.runner.runtime import Runtime
from pipeline.stages.base import Blob, StageInputs, StageOutput, StageSpec
from schemas import tables
from schemas.records import Embedding


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredOutput:
    """An output whose files are in the store, and whose rows are ready to be written."""

    output: StageOutput
    digests: Mapping[str, str]
    artifacts: tuple[tuple[str, Blob], ...]
    labels: Mapping[str, int]
    taxonomies: Mapping[str, int]


def store_files(
    runtime: Runtime, spec: StageSpec, output: StageOutput, inputs: StageInputs
) -> StoredOutput:
    """Put every file into the artifact store and digest every output.

    Artifacts are addressed by content: a run that dies after this has left nothing wrong behind.
    """
    made = {*output.records, *output.arrays, *(blob.name for blob in output.blobs if blob.name)}
    if not made <= set(spec.outputs):
        raise ContractError(f"stage {spec.name} made {made - set(spec.outputs)} undeclared")
    blobs = [*output.blobs]
    for name, arrays in output.arrays.items():
        if arrays:
            blobs.append(_arrays_blob(name, arrays, inputs.work_dir / f"{name}.safetensors"))
    for blob in blobs:
        stored = runtime.artifacts.put_file(blob.path, blob.media_type)
        if stored != blob.sha256:
            raise ContractError(f"{blob.path.name} changed while it was stored")
    artifacts = tuple((blob.name, blob) for blob in blobs if blob.name is not None)
    digests: dict[str, str] = {name: _digest(rows) for name, rows in output.records.items()}
    digests |= {name: blob.sha256 for name, blob in artifacts}
    for name in output.arrays:
        digests.setdefault(name, digest_of([]))
    labels, taxonomies = _name_ids(runtime, output)
    return StoredOutput(
        output=output,
        digests=digests,
        artifacts=artifacts,
        labels=labels,
        taxonomies=taxonomies,
    )


def write_rows(
    connection: Connection, runtime: Runtime, run: results.RunRef, stored: StoredOutput
) -> None:
    """Write every row of the output inside the closing transaction."""
    if stored.artifacts:
        connection.execute(
            insert(tables.artifact),
            [
                {
                    "stage_run_id": run.stage_run_id,
                    "name": name,
                    "sha256": blob.sha256,
                    "media_type": blob.media_type,
                    "size_bytes": blob.path.stat().st_size,
                }
                for name, blob in stored.artifacts
            ],
        )
    records: Mapping[Any, Any] = stored.output.records
    results.write_shots(connection, run, records.get("shots", ()))
    results.write_keyframes(connection, run, records.get("keyframes", ()), runtime.artifacts.uri)
    results.write_stretches(connection, run, records.get("stretches", ()))
    results.write_sounds(connection, run, records.get("sounds", ()))
    results.write_cue_sources(connection, run, records.get("cue_sources", ()))
    results.write_cues(connection, run, records.get("cues", ()))
    results.write_words(connection, run, records.get("words", ()))
    results.write_tags(connection, run, records.get("tags", ()), stored.labels)
    results.write_sound_events(connection, run, records.get("sound_events", ()), stored.labels)
    results.write_classifications(
        connection, run, records.get("classifications", ()), stored.labels, stored.taxonomies
    )
    results.write_captions(connection, run, records.get("captions", ()))
    results.write_embeddings(connection, run, records.get("embeddings", ()))


def _arrays_blob(name: Any, arrays: Mapping[str, Any], path: Path) -> Blob:
    save_file({key: np.ascontiguousarray(array) for key, array in arrays.items()}, path)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Blob(name=name, path=path, sha256=digest, media_type="application/x-safetensors")


def _digest(rows: Any) -> str:
    return digest_of(
        [
            {**_plain(row), "vector": row.vector.tolist()}
            if isinstance(row, Embedding)
            else asdict(row)
            for row in rows
        ]
    )


def _plain(row: Embedding) -> dict[str, Any]:
    return {
        "shot_index": row.shot_index,
        "start_ms": row.start_ms,
        "end_ms": row.end_ms,
        "space": row.space,
    }


def _name_ids(runtime: Runtime, output: StageOutput) -> tuple[dict[str, int], dict[str, int]]:
    records: Mapping[Any, Any] = output.records
    classes = records.get("classifications", ())
    labels = {tag.label for tag in records.get("tags", ())}
    labels |= {found.class_name for found in classes}
    labels |= {event.label for event in records.get("sound_events", ())}
    if not labels:
        return {}, {}
    with runtime.database.transaction() as connection:
        return (
            results.name_ids(connection, tables.label, labels),
            results.name_ids(connection, tables.taxonomy, {found.taxonomy for found in classes}),
        )
