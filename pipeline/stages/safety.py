"""safety: keyframes → whether a shot shows what not everybody wants to see."""

from dataclasses import dataclass

from pipeline.errors import ConfigurationError
from pipeline.fusion.taxonomy import SAFETY
from pipeline.stages.base import Models, StageInputs, StageOutput, StageSpec, distinct_pictures
from schemas.records import Classification, FloatArray

SAFE, UNSAFE = "safe", "unsafe"


@dataclass(frozen=True, slots=True, kw_only=True)
class SafetyParams:
    """``threshold``: a shot is unsafe from this probability of its worst keyframe on (0-1)."""

    threshold: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise ConfigurationError(
                f"safety.threshold is {self.threshold}: give a number above 0, at most 1"
            )


def run(inputs: StageInputs, params: SafetyParams, models: Models) -> StageOutput:
    if not models.has("safety"):
        return StageOutput(records={"classifications": ()})
    names: tuple[str, ...] = models.get("safety").class_names
    if UNSAFE not in names:
        raise ConfigurationError(
            f"the model {models.info('safety').name} in the role safety has no class "
            f"{UNSAFE!r}, only {', '.join(names)}"
        )
    column = names.index(UNSAFE)
    keyframes = inputs.keyframes()
    pictures, place_of = distinct_pictures(keyframes)
    scores: list[FloatArray] = list(
        models.map("safety", (inputs.image(picture) for picture in pictures))
    )
    worst: dict[int, float] = {}
    for keyframe, place in zip(keyframes, place_of, strict=True):
        unsafe = min(max(float(scores[place][column]), 0.0), 1.0)
        worst[keyframe.shot_index] = max(unsafe, worst.get(keyframe.shot_index, 0.0))
    return StageOutput(
        records={
            "classifications": [
                Classification(
                    shot_index=shot_index,
                    taxonomy=SAFETY,
                    class_name=UNSAFE if unsafe >= params.threshold else SAFE,
                    score=unsafe if unsafe >= params.threshold else 1.0 - unsafe,
                )
                for shot_index, unsafe in sorted(worst.items())
            ]
        }
    )


SPEC = StageSpec(
    name="safety",
    queue="device",
    code_version=1,
    kinds=frozenset({"video", "image"}),
    inputs=("keyframes",),
    outputs=("classifications",),
    roles=("safety",),
    optional_roles=frozenset({"safety"}),
    credited_role="safety",
    params=SafetyParams,
    run=run,
)
