"""caption: one sentence per shot, by a captioning model or by the template of what was found."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.errors import ConfigurationError
from pipeline.fusion.caption import TEMPLATE_NAME, TEMPLATE_REVISION, describe
from pipeline.fusion.evidence import align
from pipeline.fusion.showing import keyframes_to_show, text_of_span
from pipeline.models.base import CaptionRequest, ModelInfo
from pipeline.stages.base import InputName, Models, StageInputs, StageOutput, StageSpec
from schemas.records import Caption, Keyframe, Shot, Tag

#: All of them are in memory at once, for two batches of shots.
MAX_IMAGES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionParams:
    """``prompt``: how a captioning model is asked: BLIP's sentence begins with it, a
    vision-language model takes it for its task; the template has no use for it. ``max_images``:
    keyframes of a shot shown to a model that looks at several.

    Raises:
        ConfigurationError: ``max_images`` is out of its bounds.
    """

    prompt: str | None = None
    max_images: int = 4

    def __post_init__(self) -> None:
        if not 1 <= self.max_images <= MAX_IMAGES:
            raise ConfigurationError(
                f"max_images is {self.max_images}: give a number from 1 to {MAX_IMAGES}"
            )


def run(inputs: StageInputs, params: CaptionParams, models: Models) -> StageOutput:
    shots = inputs.shots()
    if not models.has("caption"):
        return StageOutput(records={"captions": _by_template(inputs, shots)})
    return StageOutput(records={"captions": _by_model(inputs, params, models, shots)})


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
    inputs: StageInputs, params: CaptionParams, models: Models, shots: Sequence[Shot]
) -> list[Caption]:
    """A model is credited with nothing that it has not seen or not said: a shot without a keyframe
    has no caption then, nor has one about which the model says nothing."""
    frames: dict[int, list[Keyframe]] = defaultdict(list)
    for keyframe in inputs.keyframes():
        frames[keyframe.shot_index].append(keyframe)
    pictured = [shot for shot in shots if frames[shot.shot_index]]
    cues = inputs.cues()
    count = min(params.max_images, models.get("caption").max_images) if pictured else 0

    def request(shot: Shot) -> CaptionRequest:
        shown = keyframes_to_show(frames[shot.shot_index], count)
        words = text_of_span(shot.start_ms, shot.end_ms, cues)
        return CaptionRequest(
            images=tuple(inputs.image(keyframe) for keyframe in shown),
            transcript=words.transcript,
            screen_text=words.screen_text,
            prompt=params.prompt,
        )

    return [
        Caption(
            shot_index=shot.shot_index,
            start_ms=shot.start_ms,
            end_ms=shot.end_ms,
            text=text,
            language="en",
        )
        for shot, text in zip(pictured, models.map("caption", map(request, pictured)), strict=True)
        if text
    ]


def _unused_inputs(_params: Mapping[str, Any], roles: Collection[str]) -> frozenset[InputName]:
    """Only the template repeats tags: new ones cost a captioning model nothing."""
    return frozenset({"tags"}) if "caption" in roles else frozenset({"keyframes"})


SPEC = StageSpec(
    name="caption",
    queue="device",
    code_version=2,
    kinds=frozenset({"video", "image", "audio"}),
    inputs=("shots", "keyframes", "cues", "tags"),
    unused_inputs=_unused_inputs,
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
