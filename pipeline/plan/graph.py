"""The stages, in the order in which they depend on each other."""

from collections.abc import Mapping

from pipeline.stages import caption, fuse, ocr, speech, split, text, vision
from pipeline.stages.base import InputName, StageSpec
from schemas.records import MediaKind
from schemas.tables import INGEST

__all__ = ["INGEST", "INGEST_CODE_VERSION", "STAGES", "providers", "stages_for"]

#: Raised when the ingest starts to record something else about a file.
INGEST_CODE_VERSION = 1

STAGES: Mapping[str, StageSpec] = {
    module.SPEC.name: module.SPEC for module in (split, vision, ocr, speech, text, fuse, caption)
}


def stages_for(kind: MediaKind, *, has_audio: bool) -> list[StageSpec]:
    """The stages that an asset of this kind goes through, every one after its inputs."""
    return [
        stage
        for stage in STAGES.values()
        if kind in stage.kinds and (has_audio or not stage.needs_audio)
    ]


def providers(name: InputName, stages: list[StageSpec]) -> list[StageSpec]:
    """The stages among ``stages`` whose output is (part of) the input ``name``."""
    return [stage for stage in stages if name in stage.outputs]
