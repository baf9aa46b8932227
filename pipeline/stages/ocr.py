"""ocr: keyframes → cues of the text that stands in the picture, timed by its shot."""

from dataclasses import dataclass

from pipeline.errors import ConfigurationError
from pipeline.models.base import TextRegion
from pipeline.stages.base import Models, StageInputs, StageOutput, StageSpec
from schemas.records import Cue


@dataclass(frozen=True, slots=True, kw_only=True)
class OcrParams:
    """``min_confidence``: lines read with less (0-1) are dropped as noise."""

    min_confidence: float = 0.7

    def __post_init__(self) -> None:
        if not 0 <= self.min_confidence <= 1:
            raise ConfigurationError(
                f"ocr.min_confidence is {self.min_confidence}: give a number from 0 to 1"
            )


def run(inputs: StageInputs, params: OcrParams, models: Models) -> StageOutput:
    shots = {shot.shot_index: shot for shot in inputs.shots()}
    keyframes = inputs.keyframes()
    pages = models.map("ocr", (inputs.image(keyframe) for keyframe in keyframes))
    best: dict[tuple[int, str], TextRegion] = {}
    for keyframe, regions in zip(keyframes, pages, strict=True):
        for region in regions:
            # The same line in several keyframes of a shot is one cue.
            key = (keyframe.shot_index, region.text)
            if region.confidence >= params.min_confidence and (
                key not in best or best[key].confidence < region.confidence
            ):
                best[key] = region
    return StageOutput(
        records={
            "cues": [
                Cue(
                    origin="ocr",
                    start_ms=shots[shot_index].start_ms,
                    end_ms=shots[shot_index].end_ms,
                    text=text,
                    confidence=region.confidence,
                    box=region.box,
                )
                for (shot_index, text), region in best.items()
            ]
        }
    )


SPEC = StageSpec(
    name="ocr",
    queue="device",
    code_version=1,
    kinds=frozenset({"video", "image"}),
    inputs=("shots", "keyframes"),
    outputs=("cues",),
    roles=("ocr",),
    credited_role="ocr",
    params=OcrParams,
    run=run,
)
