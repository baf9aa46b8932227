"""fuse: what was seen, heard and read in each shot → tags, classes and a joint embedding."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from pipeline.fusion.evidence import align
from pipeline.fusion.late import FUSER_NAME, FUSER_REVISION, LateFuser
from pipeline.fusion.params import LateFusionParams
from pipeline.models.base import ImageFeatures, ModelInfo
from pipeline.stages.base import Models, StageInputs, StageOutput, StageSpec
from schemas.records import FloatArray

#: Fusers by text model; building one embeds hundreds of labels.
_fusers: WeakKeyDictionary[Any, dict[Any, LateFuser]] = WeakKeyDictionary()
MAX_FUSERS = 16


def run(inputs: StageInputs, params: LateFusionParams, models: Models) -> StageOutput:
    pictures = _pictures(inputs)
    vectors = inputs.arrays("cue_vectors").get("vectors")
    if vectors is None:
        vectors = np.zeros((0, 0), np.float32)
    result = _fuser(params, models).fuse(align(inputs.shots(), pictures, inputs.cues(), vectors))
    return StageOutput(
        records={
            "tags": result.tags,
            "classifications": result.classifications,
            "embeddings": result.embeddings,
        }
    )


def _fuser(params: LateFusionParams, models: Models) -> LateFuser:
    """The fuser of these parameters and models, made once as long as the text model lives."""
    text, vision = models.get("text"), models.get("vision")
    roles = ("vision", "text", "labels")
    key = (params, *(models.info(role) if models.has(role) else None for role in roles))
    known = _fusers.setdefault(text, {})
    if key not in known:
        if len(known) >= MAX_FUSERS:
            known.clear()
        known[key] = LateFuser(
            params,
            image_class_names=vision.class_names,
            image_space=vision.space,
            text_space=text.space,
            embed_text=_embedder(models, "text"),
            embed_labels=_embedder(models, "labels") if models.has("labels") else None,
        )
    return known[key]


def _embedder(models: Models, role: str) -> Callable[[Sequence[str]], FloatArray]:
    return lambda texts: np.stack(models.infer(role, list(texts)))


def _pictures(inputs: StageInputs) -> dict[int, list[ImageFeatures]]:
    """Picture features by shot, from the arrays of the vision stage."""
    arrays = inputs.arrays("picture_features")
    pictures: dict[int, list[ImageFeatures]] = defaultdict(list)
    if not arrays:
        return pictures
    scores = arrays.get("class_scores")
    for row, shot_index in enumerate(arrays["shot_index"]):
        pictures[int(shot_index)].append(
            ImageFeatures(
                embedding=arrays["embedding"][row],
                class_scores=None if scores is None else scores[row],
            )
        )
    return pictures


SPEC = StageSpec(
    name="fuse",
    queue="device",
    code_version=1,
    kinds=frozenset({"video", "image", "audio"}),
    inputs=("shots", "picture_features", "cues", "cue_vectors"),
    outputs=("tags", "classifications", "embeddings"),
    roles=("vision", "text", "labels"),
    optional_roles=frozenset({"labels"}),
    own_model=ModelInfo(
        name=FUSER_NAME,
        revision=FUSER_REVISION,
        task="fusion",
        licence="Apache-2.0",
        source="mediaweave",
    ),
    params=LateFusionParams,
    run=run,
)
