"""A job that has ended well, as rows: what tests of invariants and leftovers start from."""

import json
from typing import Any

from pipeline.db.bulk import insert_rows
from pipeline.db.engine import Database
from schemas import tables

PAST = "2026-01-01 00:00:00.000000"
#: What an asset goes through here: its run's id is 10 × the asset's plus the place in this list.
STAGES = ("ingest", "split", "fuse", "caption")
INPUTS = {
    "ingest": lambda asset: {"uri": f"s3://b/{asset}", "etag": "e", "sidecars": []},
    "split": lambda asset: {"media": f"{asset:064}", "sidecars": []},
    "fuse": lambda asset: {"shots": {"split": f"shots-{asset}"}},
    "caption": lambda asset: {"tags": {"fuse": f"tags-{asset}"}, "media": f"{asset:064}"},
}
OUTPUTS = {"ingest": "media", "split": "shots", "fuse": "tags", "caption": "captions"}


def finish_job(database: Database, assets: int) -> None:
    """A job that has ended well, with everything a worker writes; ids as said above."""
    numbers = range(1, assets + 1)
    with database.transaction() as connection:

        def write(table: Any, rows: list[dict[str, Any]]) -> None:
            insert_rows(connection, table, list(rows[0]), [tuple(row.values()) for row in rows])

        write(
            tables.job,
            [
                {
                    "id": 1, "name": "n", "priority": 0, "profile": "offline", "sources": "[]",
                    "plan": "{}", "state": "done", "files_skipped": 0, "submitted_at": PAST,
                    "finished_at": PAST,
                }
            ],
        )  # fmt: skip
        write(
            tables.asset,
            [
                {
                    "id": asset, "sha256": f"{asset:064}", "kind": "video", "container": "mp4",
                    "size_bytes": 1, "has_audio": False, "ingested_at": PAST,
                }
                for asset in numbers
            ],
        )  # fmt: skip
        write(
            tables.location,
            [
                {
                    "id": asset, "uri": f"s3://b/{asset}", "etag": "e", "is_current": True,
                    "asset_id": asset, "first_seen_at": PAST, "ingest_run_id": 10 * asset,
                }
                for asset in numbers
            ],
        )  # fmt: skip
        listing = _run(1, "expand", None, {"job": 1}, {})
        write(
            tables.stage_run,
            [
                listing,
                *(
                    _run(
                        10 * asset + place,
                        stage,
                        asset,
                        INPUTS[stage](asset),
                        {OUTPUTS[stage]: f"{OUTPUTS[stage]}-{asset}"},
                    )
                    for asset in numbers
                    for place, stage in enumerate(STAGES)
                ),
            ],
        )
        write(
            tables.job_item,
            [
                {
                    "job_id": 1, "location_id": asset, "asset_id": asset,
                    "ingest_run_id": 10 * asset, "state": "done",
                }
                for asset in numbers
            ],
        )  # fmt: skip
        made = [(asset, place) for asset in numbers for place in (1, 2, 3)]
        write(
            tables.stage_run_input,
            [
                {"stage_run_id": 10 * asset + place, "input_run_id": 10 * asset + place - 1}
                for asset, place in made
                if place > 1
            ],
        )
        write(
            tables.head,
            [
                {
                    "asset_id": asset, "stage": STAGES[place], "stage_run_id": 10 * asset + place,
                    "flipped_at": PAST,
                }
                for asset, place in made
            ],
        )  # fmt: skip
        write(tables.label, [{"id": 1, "name": "cat"}])
        write(tables.taxonomy, [{"id": 1, "name": "mine"}])
        write(tables.shot, [_row(asset, 1, start_ms=0, end_ms=9) for asset in numbers])
        write(
            tables.keyframe,
            [
                _row(
                    asset, 1, keyframe_index=0, at_ms=0, width_px=1, height_px=1, sha256="a" * 64,
                    uri="file:///a",
                )
                for asset in numbers
            ],
        )  # fmt: skip
        write(
            tables.artifact,
            [
                {
                    "stage_run_id": 10 * asset + 1, "name": "audio", "sha256": f"{asset:064}",
                    "media_type": "audio/flac", "size_bytes": 1,
                }
                for asset in numbers
            ],
        )  # fmt: skip
        span = {"start_ms": 0, "end_ms": 9}
        write(tables.tag, [_row(asset, 2, label_id=1, **span, score=0.5) for asset in numbers])
        write(
            tables.classification,
            [_row(asset, 2, taxonomy_id=1, label_id=1, score=0.5) for asset in numbers],
        )
        write(
            tables.embedding,
            [
                _row(asset, 2, space="s", **span, dimension=1, vector=b"\0\0\0\0")
                for asset in numbers
            ],
        )
        write(
            tables.caption,
            [_row(asset, 3, **span, text="a cat", language="en") for asset in numbers],
        )
        made_of = [{"stage_run_id": 10 * asset + 1, "asset_id": asset} for asset in numbers]
        write(tables.stretch, [{**row, "kind": "black", **span} for row in made_of])
        write(tables.sound, [{**row, "stream_index": 1} for row in made_of])
        write(tables.sound_event, [{**row, "label_id": 1, **span, "score": 0.5} for row in made_of])
        write(
            tables.cue_source,
            [
                {
                    **row, "source_index": 0, "format": "srt", "is_default": True,
                    "is_forced": False, "is_bitmap": False, "cue_count": 1, "broken_count": 0,
                }
                for row in made_of
            ],
        )  # fmt: skip
        write(
            tables.cue,
            [
                {
                    "stage_run_id": 10 * asset + 1, "asset_id": asset, "cue_index": 0,
                    "origin": "speech", "start_ms": 0, "end_ms": 9, "text": "meow",
                }
                for asset in numbers
            ],
        )  # fmt: skip


def _run(
    run: int, stage: str, asset: int | None, inputs: dict[str, Any], outputs: dict[str, str]
) -> dict[str, Any]:
    return {
        "id": run, "asset_id": asset, "location_id": asset if stage == "ingest" else None,
        "job_id": 1, "stage": stage, "queue": "io", "fingerprint": str(run), "code_version": 1,
        "params": "{}", "inputs": json.dumps(inputs), "dispatch_rank": 0, "state": "succeeded",
        "attempt": 1, "republished": 0, "created_at": PAST, "started_at": PAST,
        "finished_at": PAST, "outputs": json.dumps(outputs),
    }  # fmt: skip


def _row(asset: int, place: int, **values: Any) -> dict[str, Any]:
    return {"stage_run_id": 10 * asset + place, "asset_id": asset, "shot_index": 0, **values}
