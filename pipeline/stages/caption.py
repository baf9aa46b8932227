"""caption: one sentence per shot, by a captioning model or by the template of what was found."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.fusion.caption import TEMPLATE_NAME, TEMPLATE_REVISION, describe
from pipeline.fusion.evidence import align
from pipeline.models.base import CaptionRequest, ModelInfo
from pipeline.stages.base import Models, StageInputs, StageOutput, StageSpec
from schemas.records import Caption, Keyframe, Shot, Tag


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionParams:
    """``prompt``: how a captioning model is asked to begin; the template has no use for it."""

    prompt: str | None = None


def run(inputs: StageInputs, params: CaptionParams, models: Models) -> StageOutput:
    shots = inputs.shots()
    first = {frame.shot_index: frame for frame in reversed(inputs.keyframes())}
    if not models.has("caption"):
        return StageOutput(records={"captions": _by_template(inputs, shots)})
    # A model credits nothing that it has not seen: a shot without a picture has no caption then.
    pictured = [shot for shot in shots if shot.shot_index in first]
    return StageOutput(records={"captions": _by_model(inputs, params, models, pictured, first)})


def _by_template(inputs: StageInputs, shots: Sequence[Shot]) -> list[Caption]:
    tags: dict[int, list[Tag]] = defaultdict(list)
    for tag in inputs.tags():
        tags[tag.shot_index].append(tag)
    cues = inputs.cues()
    return [
        describe(evidence.shot, tags[evidence.shot.shot_index], evidence.cues)
        for evidence in align(shots, {}, cues, np.zeros((len(cues), 0), np.float32))
    ]


def _by_model(
    inputs: StageInputs,
    params: CaptionParams,
    models: Models,
    shots: list[Shot],
    first: dict[int, Keyframe],
) -> list[Caption]:
    requests = (
        CaptionRequest(image=inputs.image(first[shot.shot_index]), prompt=params.prompt)
        for shot in shots
    )
    return [
        Caption(
            shot_index=shot.shot_index,
            start_ms=shot.start_ms,
            end_ms=shot.end_ms,
            text=text,
            language="en",
        )
        for shot, text in zip(shots, models.map("caption", requests), strict=True)
    ]


SPEC = StageSpec(
    name="caption",
    queue="device",
    code_version=1,
    kinds=frozenset({"video", "image", "audio"}),
    inputs=("shots", "keyframes", "cues", "tags"),
    outputs=("captions",),
    roles=("caption",),
    optional_roles=frozenset({"caption"}),
    credited_role="caption",
    own_model=ModelInfo(
        name=TEMPLATE_NAME,
        revision=TEMPLATE_REVISION,
        task="caption",
        licence="Apache-2.0",
        source="mediaweave",
    ),
    params=CaptionParams,
    run=run,
)
