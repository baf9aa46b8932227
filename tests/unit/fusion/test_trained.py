"""From what a trained fuser says to tags, classes and embeddings."""

import numpy as np
import pytest

from pipeline.fusion.neural.config import CaptionConfig, FuserConfig, ModalityConfig
from pipeline.fusion.neural.items import FusionItem
from pipeline.fusion.neural.model import Said
from pipeline.fusion.neural.predict import Prediction, TaskScores, TokenRef
from pipeline.fusion.params import LateFusionParams
from pipeline.fusion.tokens import ShotTokens
from pipeline.fusion.trained import results_of
from schemas.records import Caption, Classification, Evidence, FloatArray, Shot

CONFIG = FuserConfig(
    kind="attention",
    modalities=(
        ModalityConfig(name="visual", dimension=2),
        ModalityConfig(name="text", dimension=2),
    ),
    tags=("goal", "replay", "crowd"),
    classes=("match", "studio"),
    caption=CaptionConfig(language="en"),
)
SHOTS = (
    Shot(shot_index=0, start_ms=0, end_ms=1000),
    Shot(shot_index=1, start_ms=1000, end_ms=2000),
)
TOKENS = ShotTokens(
    item=FusionItem(modalities={}),
    spans_ms={"visual": [(200, 200), (700, 700)], "text": [(500, 1500)]},
)


def scores(*tags: float) -> TaskScores:
    return TaskScores(tags=floats(*tags), classes=floats(0.25, 0.75))


def floats(*values: float) -> FloatArray:
    return np.array(values, np.float32)


SAID = Said(
    prediction=Prediction(
        tag_scores=floats(0.5, 0.125, 0.75),
        class_scores=floats(0.25, 0.75),
        embedding=floats(0.6, 0.8),
        present=("visual", "text"),
        without={"visual": scores(0.25, 0, 0.75), "text": scores(0.5, 0, 0.5)},
        alone={"visual": scores(0.5, 0, 0.5), "text": scores(0.25, 0, 0.75)},
        loudest_tags=(
            TokenRef(modality="visual", index=1),
            None,
            TokenRef(modality="text", index=0),
        ),
        loudest_class=None,
    ),
    caption="They score.",
)


def test_a_prediction_becomes_rows() -> None:
    result = results_of(
        SHOTS, [TOKENS, TOKENS], [SAID, None], CONFIG, LateFusionParams(), name="mine", space="s"
    )
    crowd, goal = result.tags
    assert (crowd.label, crowd.score, crowd.shot_index) == ("crowd", 0.75, 0)
    assert (crowd.visual_score, crowd.text_score, crowd.audio_score) == (0.5, 0.75, None)
    assert (crowd.without_visual, crowd.without_text) == (0.75, 0.5)
    assert crowd.evidence == Evidence(modality="text", start_ms=500, end_ms=1500)
    assert goal.evidence == Evidence(modality="visual", start_ms=700, end_ms=700)
    assert result.classifications == (
        Classification(shot_index=0, taxonomy="mine", class_name="studio", score=0.75),
    )
    assert result.captions == (
        Caption(shot_index=0, start_ms=0, end_ms=1000, text="They score.", language="en"),
    )
    (embedding,) = result.embeddings
    assert (embedding.space, embedding.vector.tolist()) == ("s", pytest.approx([0.6, 0.8]))


def test_thresholds_and_counts_hold_for_trained_tags_too() -> None:
    def labels(**params: float) -> list[str]:
        result = results_of(
            SHOTS[:1],
            [TOKENS],
            [SAID],
            CONFIG,
            LateFusionParams(**params),  # type: ignore[arg-type]
            name="mine",
            space="s",
        )
        return [tag.label for tag in result.tags]

    assert labels(tag_threshold=0.1) == ["crowd", "goal", "replay"]
    assert labels(tag_threshold=0.6) == ["crowd"]
    assert labels(tag_threshold=0.1, max_tags_per_shot=2) == ["crowd", "goal"]
