from collections.abc import Callable, Sequence

import numpy as np
import pytest

from pipeline.errors import ContractError
from pipeline.fusion.vocabulary import load_vocabulary
from pipeline.fusion.zero_shot import (
    FIT_CENTRE,
    TOP_CLASSES,
    ConseScorer,
    LabelSpace,
    NativeScorer,
    probability,
)
from pipeline.models.base import ImageFeatures
from schemas.records import FloatArray

Embed = Callable[[Sequence[str]], FloatArray]


def picture(scores: Sequence[float] | None, embedding: FloatArray | None = None) -> ImageFeatures:
    return ImageFeatures(
        embedding=np.zeros(3, dtype=np.float32) if embedding is None else embedding,
        class_scores=None if scores is None else np.array(scores, dtype=np.float32),
    )


def test_the_place_of_a_picture_is_the_mean_of_its_likeliest_classes(embed: Embed) -> None:
    names = tuple(f"thing{i}" for i in range(TOP_CLASSES + 2))
    scorer = ConseScorer(names, LabelSpace("words", embed))
    scores = [0.5, 0.3] + [0.02] * (TOP_CLASSES - 2) + [0.01, 0.01]
    vectors = embed(names)
    expected = np.array(scores[:TOP_CLASSES], dtype=np.float32) @ vectors[:TOP_CLASSES]
    place = scorer.place([picture(scores)])
    assert place is not None
    np.testing.assert_allclose(place, expected / np.linalg.norm(expected), atol=1e-6)


def test_a_picture_without_any_probability_has_no_place(embed: Embed) -> None:
    scorer = ConseScorer(("a", "b"), LabelSpace("words", embed))
    assert scorer.place([picture([0.0, 0.0])]) is None
    assert scorer.place([]) is None
    labels = scorer.vectors([("a",)])
    assert probability(scorer.fit(picture([0.0, 0.0]), labels)).tolist() == pytest.approx([0.0])


def test_the_label_named_by_the_classes_stands_out_from_the_bank(embed: Embed) -> None:
    scorer = ConseScorer(("purple zeppelin", "b"), LabelSpace("words", embed))
    fit = scorer.fit(picture([0.9, 0.1]), scorer.vectors([("purple zeppelin",), ("rainbow",)]))
    assert probability(fit)[0] > 0.9
    assert probability(fit)[1] < 0.1


def test_probability_is_a_half_at_the_centre_and_rises() -> None:
    assert probability(np.array([FIT_CENTRE]))[0] == 0.5
    assert (np.diff(probability(np.array([-np.inf, -1.0, 0.0, 3.0, 6.0, 1000.0]))) >= 0).all()


def test_a_native_space_compares_with_prompted_labels(embed: Embed) -> None:
    seen: list[str] = []

    def embed_labels(texts: Sequence[str]) -> FloatArray:
        seen.extend(texts)
        return embed(texts)

    scorer = NativeScorer("prompted towers", embed_labels, LabelSpace("words", embed))
    labels = scorer.vectors([("cat",), ("volcano",)])
    assert "a photo of a volcano" in seen
    fit = scorer.fit(picture(None, embed(["a photo of a volcano"])[0]), labels)
    assert fit[1] > fit[0]
    place = scorer.place([picture(None, embed(["a photo of a volcano"])[0])])
    assert place is not None
    bank = tuple(load_vocabulary().concepts)
    assert bank[int(np.argmax(embed(bank) @ place))] == "volcano"


def test_labels_are_embedded_once_per_space(embed: Embed) -> None:
    calls: list[int] = []

    def counting(texts: Sequence[str]) -> FloatArray:
        calls.append(len(texts))
        return embed(texts)

    names = ("quokka", "numbat")
    first = LabelSpace("counted", counting).vectors(names)
    embedded = len(calls)
    second = LabelSpace("counted", counting).vectors(names)
    assert calls[embedded:] == [1]
    assert second is first


def test_two_models_under_one_name_do_not_share_vectors(embed: Embed) -> None:
    def mirrored(texts: Sequence[str]) -> FloatArray:
        return -embed(texts)

    one = LabelSpace("shared", embed).vectors(("quokka",))
    other = LabelSpace("shared", mirrored).vectors(("quokka",))
    np.testing.assert_array_equal(one, -other)


def test_models_that_break_their_promise_are_named(embed: Embed) -> None:
    def too_few(texts: Sequence[str]) -> FloatArray:
        return embed(texts)[:1]

    def not_finite(texts: Sequence[str]) -> FloatArray:
        return embed(texts) * np.float32("nan")

    with pytest.raises(ContractError, match="finite vectors, got"):
        LabelSpace("broken", too_few).vectors(("a", "b"))
    with pytest.raises(ContractError, match="expected 1 finite vectors"):
        LabelSpace("broken", not_finite)
    text = LabelSpace("words", embed)
    with pytest.raises(ContractError, match="expected 2 class scores"):
        ConseScorer(("a", "b"), text).place([picture([1.0])])
    with pytest.raises(ContractError, match="got shape None"):
        ConseScorer(("a", "b"), text).place([picture(None)])
    with pytest.raises(ContractError, match="96 dimensions in towers"):
        NativeScorer("towers", embed, text).place([picture(None)])
