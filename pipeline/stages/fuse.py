"""fuse: what was seen, heard and read in each shot → tags, classes and a joint embedding."""

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from pipeline.fusion.evidence import ShotEvidence, SoundWindow, align
from pipeline.fusion.late import FUSER_NAME, FUSER_REVISION, FusionResult, LateFuser
from pipeline.fusion.params import LateFusionParams
from pipeline.fusion.tokens import tokens_of
from pipeline.fusion.trained import check_features, results_of
from pipeline.models.base import ImageFeatures, ModelInfo
from pipeline.stages.base import Models, StageInputs, StageOutput, StageSpec
from schemas.records import FloatArray, Modality

#: Fusers by text model; building one embeds hundreds of labels.
_fusers: WeakKeyDictionary[Any, dict[Any, LateFuser]] = WeakKeyDictionary()
MAX_FUSERS = 16


def run(inputs: StageInputs, params: LateFusionParams, models: Models) -> StageOutput:
    gathered = gather(inputs)
    late = _fuser(params, models)
    if models.has("fuser"):
        result = _by_network(gathered, params, models, late)
    else:
        result = late.fuse(gathered.evidence)
    return StageOutput(
        records={
            "tags": result.tags,
            "classifications": result.classifications,
            "embeddings": result.embeddings,
            "captions": result.captions,
        }
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """What is known of each shot of the asset. ``sound_model``: name and revision of whose windows
    of sound they are."""

    evidence: Sequence[ShotEvidence]
    sound_model: tuple[str, str] | None


def gather(inputs: StageInputs) -> Gathered:
    vectors = inputs.arrays("cue_vectors").get("vectors")
    if vectors is None:
        vectors = np.zeros((0, 0), np.float32)
    heard = inputs.arrays("sound_features")
    return Gathered(
        evidence=align(
            inputs.shots(),
            _pictures(inputs),
            inputs.cues(),
            vectors,
            inputs.sound_events(),
            _sound_windows(heard),
        ),
        sound_model=tuple(json.loads(heard["model"].tobytes())) if heard else None,
    )


def feature_models(
    gathered: Gathered, vision: tuple[str, str], text: tuple[str, str]
) -> dict[Modality, str]:
    """Whose features each modality's are: what a fuser is trained on, and works with alone."""
    makers: dict[Modality, tuple[str, str]] = {"visual": vision, "audio": text, "text": text}
    if gathered.sound_model is not None:
        makers["sound"] = gathered.sound_model
    return {modality: f"{name}@{revision}" for modality, (name, revision) in makers.items()}


def _by_network(
    gathered: Gathered, params: LateFusionParams, models: Models, late: LateFuser
) -> FusionResult:
    """Tags and classes by the trained fuser. The joint embedding in the text model's space is made
    as ever, beside the fuser's own: search needs one that texts lie in too."""
    config, info = models.get("fuser").config, models.info("fuser")
    vision, text = (models.info(role) for role in ("vision", "text"))
    made_by = feature_models(gathered, (vision.name, vision.revision), (text.name, text.revision))
    check_features(info.name, config, made_by)
    tokens = [
        tokens_of(item, config.modality_names, params.text_languages) for item in gathered.evidence
    ]
    answers = models.map("fuser", (own.item for own in tokens))
    result = results_of(
        [item.shot for item in gathered.evidence],
        tokens,
        answers,
        config,
        params,
        name=info.name,
        space=f"{info.name}@{info.revision}",
    )
    return replace(result, embeddings=(*late.embeddings(gathered.evidence), *result.embeddings))


def _sound_windows(heard: Mapping[str, Any]) -> list[SoundWindow]:
    """An embedding where the model makes one, else its scores."""
    vectors = heard.get("embedding", heard.get("scores"))
    if vectors is None:
        return []
    return [
        SoundWindow(start_ms=int(start_ms), end_ms=int(end_ms), vector=vector)
        for start_ms, end_ms, vector in zip(
            heard["start_ms"], heard["end_ms"], vectors, strict=True
        )
    ]


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


def _pictures(inputs: StageInputs) -> dict[int, list[tuple[int, ImageFeatures]]]:
    """Times and picture features by shot, from the arrays of the vision stage."""
    arrays = inputs.arrays("picture_features")
    pictures: dict[int, list[tuple[int, ImageFeatures]]] = defaultdict(list)
    if not arrays:
        return pictures
    scores = arrays.get("class_scores")
    for row, shot_index in enumerate(arrays["shot_index"]):
        features = ImageFeatures(
            embedding=arrays["embedding"][row],
            class_scores=None if scores is None else scores[row],
        )
        pictures[int(shot_index)].append((int(arrays["at_ms"][row]), features))
    return pictures


SPEC = StageSpec(
    name="fuse",
    queue="device",
    code_version=2,
    kinds=frozenset({"video", "image", "audio"}),
    inputs=("shots", "picture_features", "cues", "cue_vectors", "sound_events", "sound_features"),
    outputs=("tags", "classifications", "embeddings", "captions"),
    roles=("vision", "text", "labels", "fuser"),
    optional_roles=frozenset({"labels", "fuser"}),
    credited_role="fuser",
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
