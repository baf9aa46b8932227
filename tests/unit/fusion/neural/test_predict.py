"""Predictions: what is absent, what stands beside, what is left out."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fusion_sets import KINDS, random_item, tower_config

from pipeline.errors import ContractError
from pipeline.fusion.neural.items import FusionItem, TokenSet
from pipeline.fusion.neural.network import build_network
from pipeline.fusion.neural.predict import Prediction, TokenRef, TrainedFuser

COUNTS = ((3, 1, 2), (0, 0, 0), (1, 0, 0), (0, 2, 0), (4, 1, 0), (2, 2, 2))


def make_fuser(kind: str) -> TrainedFuser:
    """With random weights that say something, and temperatures that differ."""
    torch.manual_seed(3)
    network = build_network(tower_config(kind=kind))
    for parameter in network.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    network.tag_temperature.copy_(torch.tensor([0.2, 0.3, -0.1, 0.1]))
    network.class_temperature.copy_(torch.tensor([-0.1, 0.2, 0.4, 0.0]))
    return TrainedFuser(network)


def make_items(kind: str) -> list[FusionItem]:
    rng = np.random.default_rng(5)
    return [random_item(tower_config(kind=kind), rng, *counts) for counts in COUNTS]


def without(item: FusionItem, ref: TokenRef) -> FusionItem:
    """The item less a token."""
    tokens = item.modalities[ref.modality]
    keep = [at for at in range(len(tokens.values)) if at != ref.index]
    others = {name: each for name, each in item.modalities.items() if name != ref.modality}
    if keep:
        others[ref.modality] = TokenSet(
            values=tokens.values[keep], spans=tokens.spans[keep], weights=tokens.weights[keep]
        )
    return FusionItem(modalities=others)


def predict_one(fuser: TrainedFuser, item: FusionItem) -> Prediction:
    (found,) = fuser.predict([item])
    assert found is not None
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_and_ranges(kind: str) -> None:
    fuser = make_fuser(kind)
    found = fuser.predict(make_items(kind))
    assert [each is None for each in found] == [not any(counts) for counts in COUNTS]
    for each, counts in zip(found, COUNTS, strict=True):
        if each is None:
            continue
        assert each.tag_scores.shape == (2,)
        assert each.class_scores.shape == (2,)
        assert each.tag_scores.dtype == each.class_scores.dtype == each.embedding.dtype
        assert each.class_scores.sum() == pytest.approx(1)
        assert ((each.tag_scores > 0) & (each.tag_scores < 1)).all()
        assert np.linalg.norm(each.embedding) == pytest.approx(1, abs=1e-5)
        names = ("words", "picture", "sound")
        assert each.present == tuple(n for n, count in zip(names, counts, strict=True) if count)


@pytest.mark.parametrize("kind", KINDS)
def test_neighbours_and_padding_change_nothing(kind: str) -> None:
    fuser, items = make_fuser(kind), make_items(kind)
    together = fuser.predict(items * 20)
    for at, item in enumerate(items):
        (alone,) = fuser.predict([item])
        for other in (together[at], together[at + 19 * len(items)]):
            if alone is None or other is None:
                assert alone is other
                continue
            np.testing.assert_allclose(alone.tag_scores, other.tag_scores, atol=1e-5)
            np.testing.assert_allclose(alone.class_scores, other.class_scores, atol=1e-5)
            np.testing.assert_allclose(alone.embedding, other.embedding, atol=1e-5)
            assert alone.loudest_tags == other.loudest_tags
            assert alone.loudest_class == other.loudest_class


@pytest.mark.parametrize("kind", KINDS)
def test_left_out_is_as_if_never_there(kind: str) -> None:
    fuser, items = make_fuser(kind), make_items(kind)
    for item in items:
        if not item.modalities:
            continue
        found = predict_one(fuser, item)
        assert tuple(found.without) == found.present
        for name, scores in found.without.items():
            rest = {own: tokens for own, tokens in item.modalities.items() if own != name}
            if not rest:
                assert scores is None
                continue
            assert scores is not None
            expected = predict_one(fuser, FusionItem(modalities=rest))
            np.testing.assert_allclose(scores.tags, expected.tag_scores, atol=1e-5)
            np.testing.assert_allclose(scores.classes, expected.class_scores, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_loudest_token_is_the_one_whose_removal_costs_most(kind: str) -> None:
    fuser, item = make_fuser(kind), make_items(kind)[0]
    found = predict_one(fuser, item)
    refs = [
        TokenRef(modality=name, index=at)
        for name, tokens in item.modalities.items()
        for at in range(len(tokens.values))
    ]
    less = [predict_one(fuser, without(item, ref)) for ref in refs]
    winner = int(found.class_scores.argmax())
    drops = np.array([found.class_scores[winner] - each.class_scores[winner] for each in less])
    assert found.loudest_class == (refs[drops.argmax()] if drops.max() > 1e-5 else None)
    for tag, loudest in enumerate(found.loudest_tags):
        drops = np.array([found.tag_scores[tag] - each.tag_scores[tag] for each in less])
        assert loudest == (refs[drops.argmax()] if drops.max() > 1e-5 else None)


@pytest.mark.parametrize("kind", KINDS)
def test_the_only_token_is_the_loudest(kind: str) -> None:
    found = predict_one(make_fuser(kind), make_items(kind)[2])
    only = TokenRef(modality="words", index=0)
    assert found.loudest_class == only
    assert found.loudest_tags == (only, only)
    assert found.without == {"words": None}


def test_of_equal_tokens_the_first_is_named() -> None:
    fuser = make_fuser("attention")
    one = make_items("attention")[2].modalities["words"]
    twins = TokenSet(
        values=np.repeat(one.values, 3, axis=0),
        spans=np.repeat(one.spans, 3, axis=0),
        weights=np.repeat(one.weights, 3),
    )
    found = predict_one(fuser, FusionItem(modalities={"words": twins}))
    for ref in (*found.loudest_tags, found.loudest_class):
        assert ref is None or ref.index == 0


@pytest.mark.parametrize("kind", KINDS)
def test_scores_alone_are_those_of_predictions(kind: str) -> None:
    fuser, items = make_fuser(kind), make_items(kind)
    for scores, found in zip(fuser.score(items), fuser.predict(items), strict=True):
        if scores is None or found is None:
            assert scores is found is None
            continue
        np.testing.assert_array_equal(scores.tags, found.tag_scores)
        np.testing.assert_array_equal(scores.classes, found.class_scores)


def test_weights_of_tokens_count() -> None:
    fuser, item = make_fuser("concat"), make_items("concat")[0]
    words = item.modalities["words"]
    hushed = replace(words, weights=np.array([0, 1, 0], dtype=np.float32))
    only = TokenSet(values=words.values[1:2], spans=words.spans[1:2], weights=words.weights[1:2])
    with_hushed = predict_one(fuser, FusionItem(modalities={"words": hushed}))
    with_one = predict_one(fuser, FusionItem(modalities={"words": only}))
    np.testing.assert_allclose(with_hushed.tag_scores, with_one.tag_scores, atol=0.05)


def test_broken_weights_are_told() -> None:
    fuser = make_fuser("concat")
    next(fuser.network.parameters()).data.fill_(float("nan"))
    with pytest.raises(ContractError, match="not finite"):
        fuser.predict(make_items("concat"))


def test_captions_need_a_decoder() -> None:
    with pytest.raises(ContractError, match="trained without"):
        make_fuser("attention").caption(make_items("attention"))


def test_nothing_to_predict() -> None:
    fuser = make_fuser("late")
    assert fuser.predict([]) == []
    assert fuser.predict([FusionItem(modalities={})]) == [None]
