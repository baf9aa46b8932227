"""What items may look like."""

import numpy as np
import pytest
import torch
from fusion_sets import random_item, small_config, tower_config, vectors

from pipeline.errors import ContractError
from pipeline.fusion.neural.batches import PackedItems
from pipeline.fusion.neural.items import FusionItem, TokenSet


def test_numbers_that_are_none() -> None:
    with pytest.raises(ContractError, match=r"tokens \[1\] are not finite"):
        vectors([1, 2], [np.nan, 2], [3, 4])
    with pytest.raises(ContractError, match="float32"):
        TokenSet(values=np.zeros((1, 2)), spans=np.zeros((1, 2), np.float32), weights=np.zeros(1))


@pytest.mark.parametrize("values", [np.zeros((0, 3)), np.zeros(3), np.zeros((1, 2, 3))])
def test_shapes_of_tokens(values: np.ndarray) -> None:
    with pytest.raises(ContractError, match="expected"):
        TokenSet.whole(values)


def test_spans_and_weights() -> None:
    values, one = np.zeros((1, 2), np.float32), np.ones(1, np.float32)
    for span in ([0.5, 0.2], [0, 1.1], [np.nan, 1]):
        with pytest.raises(ContractError, match="spans"):
            TokenSet(values=values, spans=np.array([span], np.float32), weights=one)
    with pytest.raises(ContractError, match="weights"):
        TokenSet(values=values, spans=np.array([[0, 1]], np.float32), weights=2 * one)
    with pytest.raises(ContractError, match="a span and a weight for each"):
        TokenSet(
            values=values, spans=np.array([[0, 1]], np.float32), weights=np.ones(2, np.float32)
        )


def test_items_that_do_not_fit_a_fuser() -> None:
    config = small_config()
    with pytest.raises(ContractError, match="was given 'c'"):
        PackedItems([FusionItem(modalities={"c": vectors([0] * 6)})], config)
    with pytest.raises(ContractError, match=r"expected a tokens of \(6,\)"):
        PackedItems([FusionItem(modalities={"a": vectors([0] * 5)})], config)


def test_batches_are_padded_and_masked() -> None:
    rng = np.random.default_rng(0)
    config = tower_config()
    items = [random_item(config, rng, *counts) for counts in ((2, 0, 1), (0, 0, 0), (3, 0, 2))]
    packed = PackedItems(items, config)
    batch = packed.batch(torch.tensor([2, 1, 0]), torch.device("cpu"))
    assert batch["words"].mask.tolist() == [[True] * 3, [False] * 3, [True, True, False]]
    assert batch["picture"].mask.tolist() == [[False], [False], [False]]
    assert batch["sound"].values.shape == (3, 2, 2, 8, 8)
    np.testing.assert_array_equal(batch["words"].values[0], items[2].modalities["words"].values)
    np.testing.assert_array_equal(
        batch["sound"].values[2, 0], items[0].modalities["sound"].values[0]
    )
    np.testing.assert_array_equal(batch["words"].spans[2, :2], items[0].modalities["words"].spans)
    own = packed.values_of("sound", torch.tensor([2, 1, 0]))
    expected = [items[2].modalities["sound"].values, items[0].modalities["sound"].values]
    np.testing.assert_array_equal(own, np.concatenate(expected))
