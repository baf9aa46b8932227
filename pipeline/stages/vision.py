"""vision: keyframes → picture features, and one embedding per shot in the model's own space."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from pipeline.models.base import ImageFeatures
from pipeline.stages.base import (
    Models,
    StageInputs,
    StageOutput,
    StageSpec,
    distinct_pictures,
)
from schemas.records import Embedding, FloatArray, Keyframe


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionParams:
    """The vision stage has no parameters of its own; the model brings all of them."""


def run(inputs: StageInputs, params: VisionParams, models: Models) -> StageOutput:
    keyframes = inputs.keyframes()
    pictures, place_of = distinct_pictures(keyframes)
    analysed: list[ImageFeatures] = list(
        models.map("vision", (inputs.image(picture) for picture in pictures))
    )
    if not analysed:
        return StageOutput(records={"embeddings": ()}, arrays={"picture_features": {}})
    features = [analysed[place] for place in place_of]
    arrays: dict[str, Any] = {
        "shot_index": np.array([frame.shot_index for frame in keyframes], np.int64),
        "at_ms": np.array([frame.at_ms for frame in keyframes], np.int64),
        "embedding": np.stack([feature.embedding for feature in features]),
    }
    scores = [feature.class_scores for feature in features if feature.class_scores is not None]
    if scores:
        arrays["class_scores"] = np.stack(scores)
    return StageOutput(
        records={
            "embeddings": _shot_embeddings(
                inputs, keyframes, arrays["embedding"], models.get("vision").space
            )
        },
        arrays={"picture_features": arrays},
    )


def _shot_embeddings(
    inputs: StageInputs,
    keyframes: Sequence[Keyframe],
    vectors: FloatArray,
    space: str,
) -> list[Embedding]:
    shots = {shot.shot_index: shot for shot in inputs.shots()}
    embeddings = []
    rows = sorted(range(len(keyframes)), key=lambda row: keyframes[row].shot_index)
    for index, group in groupby(rows, key=lambda row: keyframes[row].shot_index):
        mean = vectors[list(group)].mean(axis=0)
        norm = float(np.linalg.norm(mean))
        if norm > 0:
            shot = shots[index]
            embeddings.append(
                Embedding(
                    shot_index=index,
                    start_ms=shot.start_ms,
                    end_ms=shot.end_ms,
                    space=space,
                    vector=(mean / norm).astype(np.float32),
                )
            )
    return embeddings


SPEC = StageSpec(
    name="vision",
    queue="device",
    code_version=3,
    kinds=frozenset({"video", "image"}),
    inputs=("shots", "keyframes"),
    outputs=("embeddings", "picture_features"),
    roles=("vision",),
    credited_role="vision",
    params=VisionParams,
    run=run,
)
