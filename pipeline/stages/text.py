"""text: every cue, wherever it came from → a vector of its meaning."""

from dataclasses import dataclass

import numpy as np

from pipeline.stages.base import Models, StageInputs, StageOutput, StageSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class TextParams:
    """The text stage has no parameters of its own; the model brings all of them."""


def run(inputs: StageInputs, params: TextParams, models: Models) -> StageOutput:
    vectors = list(models.map("text", (cue.text for cue in inputs.cues())))
    return StageOutput(arrays={"cue_vectors": {"vectors": np.stack(vectors)} if vectors else {}})


SPEC = StageSpec(
    name="text",
    queue="device",
    code_version=1,
    kinds=frozenset({"video", "image", "audio"}),
    inputs=("cues",),
    outputs=("cue_vectors",),
    roles=("text",),
    credited_role="text",
    params=TextParams,
    run=run,
)
