import dataclasses
import json
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from pipeline.errors import ConfigurationError, ContractError
from pipeline.fusion.evidence import ShotEvidence
from pipeline.fusion.late import FusionResult, LateFuser, LateFusionParams
from pipeline.models.base import ImageFeatures
from schemas.records import Cue, Evidence, FloatArray, Shot, SoundEvent, Tag

Embed = Callable[[Sequence[str]], FloatArray]
MakeFuser = Callable[..., LateFuser]
MakeEvidence = Callable[..., ShotEvidence]
MakeCue = Callable[..., Cue]

# tabby, tiger cat, Golden Retriever, espresso, shield, sports car
CATS = (0.5, 0.25, 0.125, 0.0625, 0.0, 0.0)
CAR = (0.0, 0.0, 0.0, 0.0, 0.25, 0.75)
NOTHING = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


def by_label(result: FusionResult) -> dict[str, Tag]:
    return {tag.label: tag for tag in result.tags}


def test_breeds_add_up_to_what_they_are(make_fuser: MakeFuser, make_evidence: MakeEvidence) -> None:
    tags = by_label(make_fuser(zero_shot_threshold=1.0).fuse([make_evidence(CATS)]))
    assert {label: tag.score for label, tag in tags.items()} == {
        "animal": 0.875,
        "cat": 0.75,
        "tabby cat": 0.5,
        "tiger cat": 0.25,
    }
    assert tags["cat"].visual_score == 0.75
    assert tags["cat"].audio_score is None
    assert tags["cat"].text_score is None


def test_the_best_keyframe_speaks(make_fuser: MakeFuser, make_evidence: MakeEvidence) -> None:
    tags = by_label(make_fuser().fuse([make_evidence(CATS, CAR)]))
    assert tags["cat"].score == 0.75
    assert tags["car"].score == 0.75


def test_modalities_that_agree_add_up_by_noisy_or(
    make_fuser: MakeFuser, make_evidence: MakeEvidence, make_cue: MakeCue
) -> None:
    cues = [
        make_cue("The cats are asleep", confidence=0.5),
        make_cue("CAT", "ocr", confidence=0.25),
    ]
    fuser = make_fuser(audio_weight=0.5, text_weight=1.0)
    cat = by_label(fuser.fuse([make_evidence(CATS, cues=cues)]))["cat"]
    assert (cat.visual_score, cat.audio_score, cat.text_score) == (0.75, 0.5, 0.25)
    assert cat.score == pytest.approx(1 - (1 - 0.75) * (1 - 0.5 * 0.5) * (1 - 1.0 * 0.25))


def test_a_tag_says_who_spoke_loudest_and_what_it_were_without_each(
    make_fuser: MakeFuser, make_evidence: MakeEvidence, make_cue: MakeCue
) -> None:
    cues = [
        make_cue("a cat", confidence=0.25, span=(0, 1500)),
        make_cue("that cat again", confidence=0.5, span=(1500, 3000)),
        make_cue("CAT", "ocr", confidence=0.25, span=(2000, 2000)),
    ]
    fuser = make_fuser(audio_weight=1.0, text_weight=1.0)
    seen = by_label(fuser.fuse([make_evidence(NOTHING, CATS, cues=cues)]))["cat"]
    assert seen.without_visual == pytest.approx(1 - 0.5 * 0.75)
    assert seen.without_audio == pytest.approx(1 - 0.25 * 0.75)
    assert seen.without_text == pytest.approx(1 - 0.25 * 0.5)
    assert seen.evidence == Evidence(modality="visual", start_ms=1000, end_ms=1000)

    heard = by_label(fuser.fuse([make_evidence(CAR, cues=cues)]))["cat"]
    assert (heard.without_visual, heard.without_audio) == (None, pytest.approx(0.25))
    assert heard.evidence == Evidence(modality="audio", start_ms=1500, end_ms=3000)

    alone = by_label(fuser.fuse([make_evidence(CATS)]))["cat"]
    assert (alone.score, alone.without_visual) == (0.75, 0.0)


def test_a_sound_speaks_for_what_it_is_called(
    make_fuser: MakeFuser, make_evidence: MakeEvidence
) -> None:
    bark = SoundEvent(start_ms=3000, end_ms=5000, label="A dog barking", score=0.5)
    evidence = dataclasses.replace(make_evidence(CATS), sounds=(bark,))
    tags = by_label(make_fuser(sound_weight=1.0, tag_threshold=0.1).fuse([evidence]))
    # Half of it lies in the shot, and a retriever may be seen.
    assert (tags["dog"].visual_score, tags["dog"].sound_score) == (0.125, 0.25)
    assert (tags["dog"].without_visual, tags["dog"].without_sound) == (0.25, 0.125)
    assert tags["dog"].evidence == Evidence(modality="sound", start_ms=3000, end_ms=5000)
    assert tags["cat"].sound_score is None
    assert "dog" not in by_label(make_fuser(sound_weight=0.0).fuse([evidence]))


def test_words_alone_make_tags(
    make_fuser: MakeFuser, make_evidence: MakeEvidence, make_cue: MakeCue
) -> None:
    cues = [make_cue("Two puppies by the lake", "subtitle")]
    tags = by_label(make_fuser(text_weight=0.5).fuse([make_evidence(cues=cues)]))
    assert {label: tag.score for label, tag in tags.items()} == {"dog": 0.5, "lake": 0.5}
    assert tags["dog"].text_score == 1.0
    assert tags["dog"].visual_score is None


def test_a_bare_class_name_is_heard_only_where_it_is_seen(
    make_fuser: MakeFuser, make_evidence: MakeEvidence, make_cue: MakeCue
) -> None:
    cues = [make_cue("hold up the shield")]
    fuser = make_fuser()
    assert "shield" not in by_label(fuser.fuse([make_evidence(NOTHING, cues=cues)]))
    shield = by_label(fuser.fuse([make_evidence(CAR, cues=cues)]))["shield"]
    assert (shield.visual_score, shield.audio_score) == (0.25, 1.0)


def test_a_cue_counts_by_its_overlap(
    make_fuser: MakeFuser, make_evidence: MakeEvidence, make_cue: MakeCue
) -> None:
    cue = make_cue("a volcano", span=(3000, 7000))
    tags = by_label(make_fuser(audio_weight=1.0).fuse([make_evidence(cues=[cue])]))
    assert tags["volcano"].score == 0.25


def test_a_text_close_in_meaning_speaks_for_a_label_it_does_not_name(
    make_fuser: MakeFuser, make_evidence: MakeEvidence, make_cue: MakeCue
) -> None:
    cue = make_cue("weekly quiz about kite flyers kite flying kite flying")
    tags = by_label(
        make_fuser(labels=("weekly quiz show",), tag_threshold=0.1).fuse(
            [make_evidence(cues=[cue])]
        )
    )
    assert tags["kite flying"].audio_score == 1.0
    similar = make_cue("weekly show with another quiz")
    tags = by_label(make_fuser(labels=("weekly quiz show",)).fuse([make_evidence(cues=[similar])]))
    assert 0.2 <= tags["weekly quiz show"].score < 1.0
    foreign = make_cue("weekly show with another quiz", language="fr-CA")
    tags = by_label(make_fuser(labels=("weekly quiz show",)).fuse([make_evidence(cues=[foreign])]))
    assert tags == {}


def test_a_user_label_takes_over_what_is_known_of_its_concept(
    make_fuser: MakeFuser, make_evidence: MakeEvidence
) -> None:
    fuser = make_fuser(labels=("Cats", "automobile", "golden retriever"))
    tags = by_label(fuser.fuse([make_evidence(CATS)]))
    assert tags["Cats"].score == 0.75
    assert "cat" not in tags
    assert by_label(fuser.fuse([make_evidence(CAR)]))["automobile"].score == 0.75


def test_labels_of_one_shot_never_repeat(
    make_fuser: MakeFuser, make_evidence: MakeEvidence
) -> None:
    fuser = make_fuser(labels=("Shield", "tabby cat", "kitty"), tag_threshold=0.0)
    labels = [tag.label.casefold() for tag in fuser.fuse([make_evidence(CATS, CAR)]).tags]
    assert len(labels) == len(set(labels))


def test_classes_come_from_pictures_and_words(
    make_fuser: MakeFuser, make_evidence: MakeEvidence, make_cue: MakeCue
) -> None:
    fuser = make_fuser(labels=("cat", "sports car"), label_set_name="mine")
    both = fuser.fuse([make_evidence(CATS)]).classifications
    assert [(c.taxonomy, c.class_name) for c in both] == [
        ("mediaweave", "animals"),
        ("mine", "cat"),
    ]
    assert both[0].score > 0.85
    spoken = [make_cue("stock market business company meeting")]
    (row,) = make_fuser().fuse([make_evidence(cues=spoken)]).classifications
    assert row.class_name == "business and finance"


def test_classification_is_the_weighted_mean_of_log_probabilities(
    make_fuser: MakeFuser, make_evidence: MakeEvidence, make_cue: MakeCue
) -> None:
    fuser = make_fuser(labels=("cat", "sports car"), audio_weight=1.0)
    words = [make_cue("sports car")]

    def score(result: FusionResult) -> tuple[str, float]:
        (row,) = [c for c in result.classifications if c.taxonomy == "custom"]
        return row.class_name, row.score

    _, seen = score(fuser.fuse([make_evidence(CAR)]))
    _, heard = score(fuser.fuse([make_evidence(cues=words)]))
    name, fused = score(fuser.fuse([make_evidence(CAR, cues=words)]))
    odds = (seen / (1 - seen) * heard / (1 - heard)) ** 0.5
    assert name == "sports car"
    assert fused == pytest.approx(odds / (1 + odds), rel=1e-5)


def test_a_tie_goes_to_the_class_that_comes_first(
    make_fuser: MakeFuser, make_evidence: MakeEvidence
) -> None:
    even = (0.5, 0.0, 0.0, 0.5, 0.0, 0.0)
    for labels in (("tabby", "espresso"), ("espresso", "tabby")):
        result = make_fuser(labels=labels).fuse([make_evidence(even)])
        (row,) = [c for c in result.classifications if c.taxonomy == "custom"]
        assert row.class_name == labels[0]
        assert row.score == pytest.approx(0.5)


def test_a_shot_without_evidence_gets_nothing(
    make_fuser: MakeFuser, make_evidence: MakeEvidence, make_cue: MakeCue
) -> None:
    silent = [make_cue("   "), make_cue("cat", confidence=0.0)]
    result = make_fuser(labels=("a", "b")).fuse(
        [make_evidence(), make_evidence(cues=silent), make_evidence(NOTHING)]
    )
    assert result == FusionResult(tags=(), classifications=(), embeddings=())


def test_the_joint_embedding_lies_between_picture_and_words(
    make_fuser: MakeFuser, make_evidence: MakeEvidence, make_cue: MakeCue, embed: Embed
) -> None:
    only_tabby = (1.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    cues = [make_cue("good morning"), make_cue("hello", "ocr")]
    fuser = make_fuser(audio_weight=0.5, text_weight=0.25)
    (joint,) = fuser.fuse([make_evidence(only_tabby, cues=cues)]).embeddings
    tabby, morning, hello = embed(["tabby cat", "good morning", "hello"])
    expected = tabby + 0.5 * morning + 0.25 * hello
    np.testing.assert_allclose(joint.vector, expected / np.linalg.norm(expected), atol=1e-6)
    assert joint.vector.dtype == np.float32
    assert joint.space == "words"
    (words_only,) = fuser.fuse([make_evidence(cues=cues[:1])]).embeddings
    np.testing.assert_allclose(words_only.vector, morning, atol=1e-6)


def test_results_follow_the_order_and_times_of_the_shots(
    make_fuser: MakeFuser, make_evidence: MakeEvidence
) -> None:
    shots = [Shot(shot_index=i, start_ms=i * 1000, end_ms=i * 1000 + 1000) for i in (4, 2)]
    fuser = make_fuser(zero_shot_threshold=1.0)
    result = fuser.fuse([make_evidence(CATS, shot=shot) for shot in shots])
    assert [(e.shot_index, e.start_ms, e.end_ms) for e in result.embeddings] == [
        (4, 4000, 5000),
        (2, 2000, 3000),
    ]
    assert [tag.shot_index for tag in result.tags] == [4] * 4 + [2] * 4
    assert [tag.label for tag in result.tags[:4]] == ["animal", "cat", "tabby cat", "tiger cat"]


def test_a_model_with_its_own_text_tower_needs_no_class_names(
    embed: Embed, make_cue: MakeCue
) -> None:
    def embed_labels(texts: Sequence[str]) -> FloatArray:
        return embed([text.removeprefix("a photo of a ") for text in texts])

    params = LateFusionParams(labels=("quokka", "volcano"))
    fuser = LateFuser(params, (), "towers", "words", embed, embed_labels)
    evidence = ShotEvidence(
        shot=Shot(shot_index=0, start_ms=0, end_ms=0),
        pictures=(ImageFeatures(embedding=embed(["volcano"])[0], class_scores=None),),
        picture_ms=(0,),
        cues=(),
        cue_vectors=np.zeros((0, 0), dtype=np.float32),
    )
    result = fuser.fuse([evidence])
    assert [tag.label for tag in result.tags] == ["volcano"]
    assert result.classifications[1].class_name == "volcano"
    assert float(result.embeddings[0].vector @ embed(["volcano"])[0]) > 0.9

    mute = LateFuser(params, (), "pixels", "words", embed, None).fuse([evidence])
    assert mute == FusionResult(tags=(), classifications=(), embeddings=())


def test_cue_vectors_of_another_space_are_refused(
    make_fuser: MakeFuser, make_evidence: MakeEvidence, make_cue: MakeCue
) -> None:
    evidence = dataclasses.replace(
        make_evidence(cues=[make_cue("hi")]), cue_vectors=np.ones((1, 5), dtype=np.float32)
    )
    with pytest.raises(ContractError, match="96 dimensions in words"):
        make_fuser().fuse([evidence])


def test_params_survive_json() -> None:
    params = LateFusionParams(labels=("cat", "dog"), text_languages=("en", "de"))
    assert LateFusionParams(**json.loads(json.dumps(dataclasses.asdict(params)))) == params


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"labels": ()}, "the list of labels is empty"),
        ({"tag_threshold": 1.5}, "tag_threshold is 1.5: give a number from 0 to 1"),
        ({"audio_weight": float("nan")}, "audio_weight is nan"),
        ({"max_tags_per_shot": 0}, "give at least 1"),
        ({"taxonomy": "iab"}, 'no taxonomy called "iab"'),
        ({"label_set_name": "mediaweave"}, "a name other than mediaweave and safety"),
    ],
)
def test_params_out_of_bounds_are_refused(changed: dict[str, object], complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        LateFusionParams(**changed)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changed",
    [
        {"labels": ("cat", "car")},
        {"labels": ("cat", "car"), "label_set_name": "mine"},
        {"tag_threshold": 0.7},
        {"zero_shot_threshold": 0.0},
        {"max_tags_per_shot": 1},
        {"visual_weight": 0.5},
        {"audio_weight": 0.1},
        {"text_weight": 0.1},
        {"text_languages": ("fr",)},
    ],
)
def test_every_param_has_an_effect(
    changed: dict[str, object],
    make_fuser: MakeFuser,
    make_evidence: MakeEvidence,
    make_cue: MakeCue,
) -> None:
    cues = [
        make_cue("the coral reef by the sea is full of life", language="en"),
        make_cue("good evening and welcome", "subtitle", language="en"),
    ]
    evidence = [make_evidence(CATS, cues=cues)]

    def content(result: FusionResult) -> tuple[object, ...]:
        vectors = [(e.space, e.vector.tobytes()) for e in result.embeddings]
        return result.tags, result.classifications, vectors

    base = {"labels": ("cat", "car")} if "label_set_name" in changed else {}
    assert content(make_fuser(**base).fuse(evidence)) != content(
        make_fuser(**changed).fuse(evidence)
    )


def test_a_modality_of_weight_nought_is_ignored(
    make_fuser: MakeFuser, make_evidence: MakeEvidence, make_cue: MakeCue
) -> None:
    cues = [make_cue("a cat on a volcano")]
    deaf = make_fuser(audio_weight=0.0).fuse([make_evidence(CATS, cues=cues)])
    alone = make_fuser().fuse([make_evidence(CATS)])
    assert deaf.tags == alone.tags
    assert deaf.classifications == alone.classifications
    np.testing.assert_array_equal(deaf.embeddings[0].vector, alone.embeddings[0].vector)
    blind = make_fuser(visual_weight=0.0).fuse([make_evidence(CATS)])
    assert blind == FusionResult(tags=(), classifications=(), embeddings=())
