"""The stages, in the order in which they depend on each other."""

from collections.abc import Mapping

from pipeline.models.base import ModelInfo
from pipeline.stages import (
    caption,
    fuse,
    ocr,
    safety,
    scan,
    sound,
    speech,
    split,
    text,
    vision,
)
from pipeline.stages.base import InputName, StageSpec
from schemas.records import MediaKind
from schemas.tables import INGEST

__all__ = [
    "INGEST",
    "INGEST_CODE_VERSION",
    "OWN_MODELS",
    "STAGES",
    "find_stage",
    "providers",
    "stages_for",
]

#: Raised when the ingest starts to record something else about a file.
INGEST_CODE_VERSION = 1

STAGES: Mapping[str, StageSpec] = {
    module.SPEC.name: module.SPEC
    for module in (split, vision, safety, ocr, speech, sound, text, fuse, caption)
}

#: By role: what stages do themselves where a profile names no model for it.
OWN_MODELS: Mapping[str, ModelInfo] = {
    spec.credited_role: spec.own_model
    for spec in STAGES.values()
    if spec.own_model is not None and spec.credited_role is not None
}


def find_stage(name: str) -> StageSpec | None:
    """The stage of a run; ``None``: this version has none of that name."""
    return STAGES.get(name) or scan.SPECS.get(name)


def stages_for(kind: MediaKind, *, has_audio: bool, ranges: int = 0) -> list[StageSpec]:
    """The stages that an asset of this kind goes through, every one after its inputs.

    ``ranges``: how many a long video is scanned in, before it is split.
    """
    stages = [
        stage
        for stage in STAGES.values()
        if kind in stage.kinds and (has_audio or not stage.needs_audio)
    ]
    return [scan.SPECS[scan.scan_name(index)] for index in range(ranges)] + stages


def providers(name: InputName, stages: list[StageSpec]) -> list[StageSpec]:
    """The stages among ``stages`` whose output is (part of) the input ``name``."""
    return [stage for stage in stages if name in stage.outputs]
