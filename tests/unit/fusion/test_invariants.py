"""What must hold for any evidence whatever."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.fusion.evidence import ShotEvidence
from pipeline.fusion.late import FusionResult, LateFuser
from schemas.records import Cue, CueOrigin, Tag

MakeFuser = Callable[..., LateFuser]
MakeEvidence = Callable[..., ShotEvidence]

#: One step of a float: sums of products are monotone up to rounding.
ROUNDING = 1e-12

WORDS = ("cat", "dogs", "espresso", "shield", "hot dog", "stock market", "the", "weekly", "quiz")

ORIGINS: tuple[CueOrigin, ...] = ("speech", "subtitle", "ocr")

texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=6).map(" ".join)


@st.composite
def cue(draw: st.DrawFn) -> Cue:
    start_ms = draw(st.integers(0, 5000))
    return Cue(
        origin=draw(st.sampled_from(ORIGINS)),
        start_ms=start_ms,
        end_ms=start_ms + draw(st.integers(0, 5000)),
        text=draw(texts),
        confidence=draw(st.none() | st.floats(0, 1)),
        language=draw(st.sampled_from((None, "en", "fr"))),
    )


cues = st.lists(cue(), max_size=6)
scores = st.lists(st.floats(0, 1, width=32), min_size=6, max_size=6)
pictures = st.lists(scores, max_size=3)
relaxed = settings(max_examples=60, deadline=None)


@pytest.fixture(scope="module")
def fuser(make_fuser: MakeFuser) -> LateFuser:
    return make_fuser(labels=("cat", "weekly quiz", "zeppelin"), max_tags_per_shot=1000)


@pytest.fixture(scope="module")
def listening_otherwise(make_fuser: MakeFuser) -> LateFuser:
    return make_fuser(
        labels=("cat", "weekly quiz", "zeppelin"),
        max_tags_per_shot=1000,
        audio_weight=0.13,
        text_weight=0.97,
    )


def content(result: FusionResult) -> tuple[object, ...]:
    """Everything in a result, bit by bit."""
    return (
        result.tags,
        result.classifications,
        [(e.shot_index, e.space, e.vector.tobytes()) for e in result.embeddings],
    )


def by_label(result: FusionResult) -> dict[str, Tag]:
    return {tag.label: tag for tag in result.tags}


@relaxed
@given(pictures=pictures, cues=cues)
def test_scores_are_probabilities(
    fuser: LateFuser, make_evidence: MakeEvidence, pictures: list[list[float]], cues: list[Cue]
) -> None:
    result = fuser.fuse([make_evidence(*pictures, cues=cues)])
    for tag in result.tags:
        parts = [tag.visual_score, tag.audio_score, tag.text_score]
        spoke = [part for part in parts if part is not None]
        assert spoke
        assert all(0.0 < part <= 1.0 for part in [tag.score, *spoke])
    assert all(0.0 <= row.score <= 1.0 for row in result.classifications)
    for embedding in result.embeddings:
        assert np.linalg.norm(embedding.vector) == pytest.approx(1.0, abs=1e-5)


@relaxed
@given(pictures=pictures)
def test_silence_changes_nothing(
    fuser: LateFuser,
    listening_otherwise: LateFuser,
    make_evidence: MakeEvidence,
    pictures: list[list[float]],
) -> None:
    evidence = [make_evidence(*pictures)]
    assert content(fuser.fuse(evidence)) == content(listening_otherwise.fuse(evidence))


@relaxed
@given(pictures=pictures, cues=cues)
def test_what_one_modality_says_does_not_depend_on_the_others(
    fuser: LateFuser, make_evidence: MakeEvidence, pictures: list[list[float]], cues: list[Cue]
) -> None:
    together = by_label(fuser.fuse([make_evidence(*pictures, cues=cues)]))
    seen = by_label(fuser.fuse([make_evidence(*pictures)]))
    heard = by_label(fuser.fuse([make_evidence(cues=cues)]))
    for label, tag in seen.items():
        assert together[label].visual_score == tag.visual_score
    for label, tag in heard.items():
        assert together[label].audio_score == tag.audio_score
        assert together[label].text_score == tag.text_score


@relaxed
@given(pictures=pictures, cues=cues, more=cue())
def test_more_evidence_never_lowers_a_tag(
    fuser: LateFuser,
    make_evidence: MakeEvidence,
    pictures: list[list[float]],
    cues: list[Cue],
    more: Cue,
) -> None:
    before = by_label(fuser.fuse([make_evidence(*pictures, cues=cues)]))
    after = by_label(fuser.fuse([make_evidence(*pictures, cues=[*cues, more])]))
    assert all(after[label].score >= tag.score - ROUNDING for label, tag in before.items())


@relaxed
@given(scores=scores, at=st.integers(0, 1), cues=cues)
def test_a_likelier_class_never_lowers_its_tags(
    fuser: LateFuser, make_evidence: MakeEvidence, scores: list[float], at: int, cues: list[Cue]
) -> None:
    higher = [*scores]
    higher[at] = (higher[at] + 1.0) / 2
    before = by_label(fuser.fuse([make_evidence(scores, cues=cues)]))
    after = by_label(fuser.fuse([make_evidence(higher, cues=cues)]))
    for label in {"cat", "animal", ("tabby cat", "tiger cat")[at]} & set(before):
        assert after[label].score >= before[label].score - ROUNDING


@relaxed
@given(pictures=pictures, cues=cues, data=st.data())
def test_the_order_of_cues_does_not_matter(
    fuser: LateFuser,
    make_evidence: MakeEvidence,
    pictures: list[list[float]],
    cues: list[Cue],
    data: st.DataObject,
) -> None:
    shuffled = data.draw(st.permutations(cues))
    assert content(fuser.fuse([make_evidence(*pictures, cues=cues)])) == content(
        fuser.fuse([make_evidence(*pictures, cues=shuffled)])
    )


@relaxed
@given(pictures=pictures, cues=cues)
def test_saying_it_twice_changes_nothing(
    fuser: LateFuser, make_evidence: MakeEvidence, pictures: list[list[float]], cues: list[Cue]
) -> None:
    assert content(fuser.fuse([make_evidence(*pictures, cues=cues)])) == content(
        fuser.fuse([make_evidence(*pictures, cues=[*cues, *cues])])
    )


@relaxed
@given(pictures=pictures, cues=cues)
def test_shots_do_not_influence_each_other(
    fuser: LateFuser, make_evidence: MakeEvidence, pictures: list[list[float]], cues: list[Cue]
) -> None:
    first, second = make_evidence(*pictures), make_evidence(cues=cues)
    both = fuser.fuse([first, second])
    alone = [fuser.fuse([first]), fuser.fuse([second])]
    assert both.tags == alone[0].tags + alone[1].tags
    assert both.classifications == alone[0].classifications + alone[1].classifications
