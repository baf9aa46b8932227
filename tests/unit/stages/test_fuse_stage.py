"""A trained fuser in the fuse stage: whose features it takes, and what stays late fusion's."""

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from pipeline.errors import ConfigurationError
from pipeline.fusion.neural.config import FuserConfig, ModalityConfig
from pipeline.fusion.neural.items import FusionItem
from pipeline.fusion.neural.model import Said
from pipeline.fusion.neural.predict import Prediction, TaskScores
from pipeline.fusion.params import LateFusionParams
from pipeline.models.base import ModelInfo
from pipeline.stages import fuse
from pipeline.stages.base import Models, StageInputs
from schemas.records import Cue, FloatArray, Shot, SoundEvent, Tag


def info(name: str) -> ModelInfo:
    return ModelInfo(name=name, revision="1", task="fusion", licence="none", source="here")


def floats(*values: float) -> FloatArray:
    return np.array(values, np.float32)


class Fuser:
    """Says "goal" of everything, and remembers what it was given."""

    info = info("mine")

    def __init__(self, **spaces: str) -> None:
        self.config = FuserConfig(
            kind="concat",
            modalities=tuple(
                ModalityConfig(name=name, dimension=2, space=space)
                for name, space in spaces.items()
            ),
            tags=("goal",),
        )
        self.given: list[FusionItem] = []

    def answer(self, item: FusionItem) -> Said | None:
        self.given.append(item)
        if not item.modalities:
            return None
        present = tuple(item.modalities)
        scores = TaskScores(tags=floats(0.5), classes=floats())
        return Said(
            prediction=Prediction(
                tag_scores=floats(0.75),
                class_scores=floats(),
                embedding=floats(1, 0),
                present=present,
                without=dict.fromkeys(present, scores),
                alone=dict.fromkeys(present, scores),
                loudest_tags=(None,),
                loudest_class=None,
            ),
            caption=None,
        )


class Text:
    info = info("text")
    space = "words"


class Given:
    def __init__(self, fuser: Fuser) -> None:
        vision = SimpleNamespace(info=info("vision"), class_names=(), space="pictures")
        self.models: dict[str, Any] = {"vision": vision, "text": Text(), "fuser": fuser}

    def has(self, role: str) -> bool:
        return role in self.models

    def get(self, role: str) -> Any:
        return self.models[role]

    def info(self, role: str) -> ModelInfo:
        return cast("ModelInfo", self.models[role].info)

    def map(self, role: str, items: Iterator[Any]) -> Iterator[Any]:
        return map(self.models[role].answer, items)

    def infer(self, _role: str, items: list[Any]) -> list[Any]:
        return [floats(len(text), 1) / np.float32(np.hypot(len(text), 1)) for text in items]


SHOTS = [
    Shot(shot_index=0, start_ms=0, end_ms=1000),
    Shot(shot_index=1, start_ms=1000, end_ms=2000),
]
ARRAYS: dict[str, dict[str, Any]] = {
    "cue_vectors": {"vectors": np.array([[0.6, 0.8]], np.float32)},
    "picture_features": {},
    "sound_features": {
        "start_ms": np.array([0]),
        "end_ms": np.array([1000]),
        "embedding": np.array([[0, 1]], np.float32),
        "model": np.frombuffer(json.dumps(["listener", "3"]).encode(), np.uint8),
    },
}


def inputs() -> StageInputs:
    return cast(
        "StageInputs",
        SimpleNamespace(
            shots=lambda: SHOTS,
            cues=lambda: [Cue(origin="speech", start_ms=0, end_ms=900, text="what a goal this is")],
            sound_events=lambda: [SoundEvent(start_ms=0, end_ms=900, label="crowd", score=0.9)],
            arrays=lambda name: ARRAYS[name],
        ),
    )


def test_a_trained_fuser_takes_the_features_it_was_trained_on() -> None:
    fuser = Fuser(audio="text@1", sound="listener@3", visual="vision@1")
    output = fuse.run(inputs(), LateFusionParams(), cast("Models", Given(fuser)))
    heard, silent = fuser.given
    assert set(heard.modalities) == {"audio", "sound"}
    assert heard.modalities["sound"].values.tolist() == [[0, 1]]
    assert silent.modalities == {}
    (tag,) = cast("list[Tag]", output.records["tags"])
    assert (tag.shot_index, tag.label, tag.score) == (0, "goal", 0.75)
    assert (tag.audio_score, tag.sound_score, tag.visual_score) == (0.5, 0.5, None)
    # Search compares with texts: their space is there besides the fuser's own.
    spaces = [embedding.space for embedding in output.records["embeddings"]]  # type: ignore[union-attr]
    assert spaces == ["words", "mine@1"]


def test_features_of_another_model_are_refused() -> None:
    fuser = Fuser(audio="text@1", sound="listener@2")
    with pytest.raises(ConfigurationError, match=r"sound features of listener@2.*of listener@3"):
        fuse.run(inputs(), LateFusionParams(), cast("Models", Given(fuser)))
