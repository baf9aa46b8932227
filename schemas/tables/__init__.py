"""The tables. Migrations are the only way one changes; ``docs/database.md`` explains them.

What moves work without being work - events, schedules, workers - is in :mod:`schemas.operations`.
"""

from schemas.tables.base import metadata
from schemas.tables.results import (
    artifact,
    caption,
    classification,
    correction,
    cue,
    embedding,
    keyframe,
    label,
    shot,
    tag,
    taxonomy,
)
from schemas.tables.work import (
    EXPAND,
    INGEST,
    ITEM_STATES,
    JOB_STATES,
    STAGE_RUN_STATES,
    asset,
    head,
    job,
    job_item,
    location,
    model,
    sidecar,
    stage_run,
    stage_run_input,
    stage_run_model,
    stream,
)

__all__ = [
    "EXPAND",
    "INGEST",
    "ITEM_STATES",
    "JOB_STATES",
    "STAGE_RUN_STATES",
    "artifact",
    "asset",
    "caption",
    "classification",
    "correction",
    "cue",
    "embedding",
    "head",
    "job",
    "job_item",
    "keyframe",
    "label",
    "location",
    "metadata",
    "model",
    "shot",
    "sidecar",
    "stage_run",
    "stage_run_input",
    "stage_run_model",
    "stream",
    "tag",
    "taxonomy",
]
