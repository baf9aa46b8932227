import numpy as np
import pytest

from pipeline.errors import ContractError
from pipeline.fusion.evidence import ShotEvidence, align, modality_of, overlap_weight
from pipeline.models.base import ImageFeatures
from schemas.records import Cue, CueOrigin, Shot


def shot(start_ms: int, end_ms: int, index: int = 0) -> Shot:
    return Shot(shot_index=index, start_ms=start_ms, end_ms=end_ms)


def cue(start_ms: int, end_ms: int, text: str = "hello") -> Cue:
    return Cue(origin="speech", start_ms=start_ms, end_ms=end_ms, text=text)


@pytest.mark.parametrize(
    ("shot_span", "cue_span", "weight"),
    [
        ((0, 4000), (1000, 2000), 1.0),
        ((1000, 2000), (0, 4000), 1.0),
        ((0, 4000), (3000, 7000), 0.25),
        ((0, 4000), (4000, 5000), 0.0),
        ((0, 4000), (1500, 1500), 1.0),
        ((0, 4000), (4000, 4000), 0.0),
        ((0, 0), (0, 0), 1.0),
        ((0, 0), (0, 5000), 1.0),
        ((0, 0), (10, 20), 0.0),
    ],
)
def test_overlap_is_measured_against_the_shorter_span(
    shot_span: tuple[int, int], cue_span: tuple[int, int], weight: float
) -> None:
    assert overlap_weight(shot(*shot_span), cue(*cue_span)) == weight


def test_each_shot_gets_the_cues_it_overlaps_and_its_own_pictures() -> None:
    picture = ImageFeatures(embedding=np.ones(2, dtype=np.float32), class_scores=None)
    cues = [cue(0, 900, "a"), cue(800, 2200, "b"), cue(1000, 1500, "c"), cue(5000, 6000, "late")]
    vectors = np.arange(8, dtype=np.float32).reshape(4, 2)

    first, second = align(
        [shot(0, 1000, 0), shot(1000, 2000, 1)], {1: [(1500, picture)]}, cues, vectors
    )

    assert [c.text for c in first.cues] == ["a", "b"]
    assert [c.text for c in second.cues] == ["b", "c"]
    assert first.pictures == ()
    assert second.pictures == (picture,)
    assert second.cue_vectors.tolist() == [[2.0, 3.0], [4.0, 5.0]]


def test_without_cues_and_pictures_a_shot_still_has_evidence() -> None:
    (only,) = align([shot(0, 0)], {}, [], np.zeros((0, 384), dtype=np.float32))
    assert only.cues == ()
    assert only.cue_vectors.shape == (0, 384)


def test_cues_and_vectors_must_agree() -> None:
    with pytest.raises(ContractError, match="one cue vector per cue"):
        align([shot(0, 1)], {}, [cue(0, 1)], np.zeros((2, 3), dtype=np.float32))
    with pytest.raises(ContractError, match=r"cue_vectors.shape=\(3,\)"):
        ShotEvidence(
            shot=shot(0, 1),
            pictures=(),
            picture_ms=(),
            cues=(),
            cue_vectors=np.zeros(3, dtype=np.float32),
        )


def test_pictures_of_a_shot_that_does_not_exist_are_refused() -> None:
    with pytest.raises(ContractError, match=r"shots \[7\], which do not exist"):
        align([shot(0, 1)], {7: []}, [], np.zeros((0, 3), dtype=np.float32))


def test_speech_is_audio_and_written_words_are_text() -> None:
    origins: tuple[CueOrigin, ...] = ("speech", "subtitle", "ocr")
    assert [
        modality_of(Cue(origin=origin, start_ms=0, end_ms=1, text="x")) for origin in origins
    ] == ["audio", "text", "text"]
