"""A tiny language model and picture model whose every number can be worked out by hand."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from pipeline.fusion.evidence import ShotEvidence
from pipeline.fusion.late import LateFuser, LateFusionParams
from pipeline.models.base import ImageFeatures
from schemas.records import Cue, CueOrigin, FloatArray, Shot

DIMENSION = 96
CLASS_NAMES = ("tabby", "tiger cat", "Golden Retriever", "espresso", "shield", "sports car")

Embed = Callable[[Sequence[str]], FloatArray]
MakeFuser = Callable[..., LateFuser]
MakeEvidence = Callable[..., ShotEvidence]


def word_vector(word: str) -> FloatArray:
    """A fixed direction per word; different words are nearly at right angles."""
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big")
    return np.random.default_rng(seed).standard_normal(DIMENSION).astype(np.float32)


def embed_words(texts: Sequence[str]) -> FloatArray:
    """The mean direction of a text's words, float32 ``(n, DIMENSION)``, unit length or zero."""
    rows = np.zeros((len(texts), DIMENSION), dtype=np.float32)
    for at, text in enumerate(texts):
        for word in text.casefold().split():
            rows[at] += word_vector(word)
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9))


@pytest.fixture(scope="session")
def embed() -> Embed:
    return embed_words


@pytest.fixture(scope="session")
def make_fuser() -> MakeFuser:
    def make(**params: Any) -> LateFuser:
        settings = LateFusionParams(**params)
        return LateFuser(settings, CLASS_NAMES, "pictures", "words", embed_words)

    return make


@pytest.fixture(scope="session")
def make_evidence() -> MakeEvidence:
    def make(
        *pictures: Sequence[float], cues: Sequence[Cue] = (), shot: Shot | None = None
    ) -> ShotEvidence:
        vectors = (
            embed_words([cue.text for cue in cues])
            if cues
            else np.zeros((0, DIMENSION), dtype=np.float32)
        )
        return ShotEvidence(
            shot=shot or Shot(shot_index=0, start_ms=0, end_ms=4000),
            pictures=tuple(
                ImageFeatures(
                    embedding=np.zeros(4, dtype=np.float32),
                    class_scores=np.array(scores, dtype=np.float32),
                )
                for scores in pictures
            ),
            picture_ms=tuple(range(0, 1000 * len(pictures), 1000)),
            cues=tuple(cues),
            cue_vectors=vectors,
        )

    return make


@pytest.fixture(scope="session")
def make_cue() -> Callable[..., Cue]:
    def make(
        text: str,
        origin: CueOrigin = "speech",
        *,
        confidence: float | None = None,
        span: tuple[int, int] = (0, 4000),
        language: str | None = None,
    ) -> Cue:
        return Cue(
            origin=origin,
            start_ms=span[0],
            end_ms=span[1],
            text=text,
            confidence=confidence,
            language=language,
        )

    return make
