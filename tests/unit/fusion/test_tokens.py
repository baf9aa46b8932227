"""Keyframes, cues and sounds of a shot as the tokens of a trained fuser."""

import numpy as np
import pytest

from pipeline.fusion import tokens
from pipeline.fusion.evidence import ShotEvidence, SoundWindow
from pipeline.fusion.tokens import tokens_of
from pipeline.models.base import ImageFeatures
from schemas.records import Cue, CueOrigin, FloatArray, Shot

EVERYTHING = ("visual", "audio", "text", "sound")


def vector(*values: float) -> FloatArray:
    return np.array(values, np.float32)


def cue(origin: CueOrigin, span: tuple[int, int], text: str, **more: object) -> Cue:
    return Cue(origin=origin, start_ms=span[0], end_ms=span[1], text=text, **more)  # type: ignore[arg-type]


def evidence(*cues: Cue, pictures: int = 0, windows: tuple[SoundWindow, ...] = ()) -> ShotEvidence:
    return ShotEvidence(
        shot=Shot(shot_index=3, start_ms=1000, end_ms=5000),
        pictures=tuple(
            ImageFeatures(embedding=vector(n, 1), class_scores=None) for n in range(pictures)
        ),
        picture_ms=tuple(1500 + 1000 * n for n in range(pictures)),
        cues=cues,
        cue_vectors=np.stack([vector(n, 2, 3) for n in range(len(cues))])
        if cues
        else np.zeros((0, 0), np.float32),
        sound_windows=windows,
    )


def test_tokens_have_their_place_in_the_shot_and_their_weight() -> None:
    found = tokens_of(
        evidence(
            cue("speech", (0, 3000), "said", confidence=0.5),
            cue("ocr", (2000, 2000), "written"),
            pictures=2,
            windows=(SoundWindow(start_ms=4000, end_ms=6000, vector=vector(7)),),
        ),
        EVERYTHING,
        ("en",),
    )
    items = found.item.modalities
    assert set(items) == set(EVERYTHING)
    assert items["visual"].values.tolist() == [[0, 1], [1, 1]]
    np.testing.assert_allclose(items["visual"].spans, [[0.125, 0.125], [0.375, 0.375]])
    # Two of its three seconds lie in the shot, heard with half the confidence.
    np.testing.assert_allclose(items["audio"].spans, [[0, 0.5]])
    np.testing.assert_allclose(items["audio"].weights, [0.5 * 2 / 3], rtol=1e-6)
    assert items["text"].values.tolist() == [[1, 2, 3]]
    np.testing.assert_allclose(items["sound"].spans, [[0.75, 1]])
    assert items["sound"].weights.tolist() == [0.5]
    assert found.spans_ms["audio"] == [(0, 3000)]
    assert found.spans_ms["visual"] == [(1500, 1500), (2500, 2500)]


def test_what_is_absent_not_wanted_or_not_understood_is_no_token() -> None:
    german = cue("subtitle", (1000, 2000), "Guten Tag", language="de")
    assert tokens_of(evidence(), EVERYTHING, ("en",)).item.modalities == {}
    assert tokens_of(evidence(german), EVERYTHING, ("en",)).item.modalities == {}
    assert set(tokens_of(evidence(german), EVERYTHING, ("de",)).item.modalities) == {"text"}
    both = evidence(german, pictures=1)
    assert set(tokens_of(both, ("visual",), ("de",)).item.modalities) == {"visual"}


def test_of_thousands_of_cues_the_weightiest_are_taken_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tokens, "MAX_TOKENS", 3)
    many = [
        cue("speech", (1000 + 100 * n, 1100 + 100 * n), f"line {n}", confidence=0.1 * (1 + n % 5))
        for n in range(20)
    ]
    found = tokens_of(evidence(*many), EVERYTHING, ("en",))
    assert [start for start, _ in found.spans_ms["audio"]] == [1400, 1900, 2400]
    np.testing.assert_allclose(found.item.modalities["audio"].weights, [0.5, 0.5, 0.5])


def test_a_picture_lasts_no_time() -> None:
    still = ShotEvidence(
        shot=Shot(shot_index=0, start_ms=0, end_ms=0),
        pictures=(ImageFeatures(embedding=vector(1), class_scores=None),),
        picture_ms=(0,),
        cues=(),
        cue_vectors=np.zeros((0, 0), np.float32),
    )
    found = tokens_of(still, EVERYTHING, ("en",))
    assert found.item.modalities["visual"].spans.tolist() == [[0, 0]]
