"""Variations of training inputs."""

import numpy as np
import pytest
import torch
from fusion_sets import random_item, tower_config

from pipeline.errors import ConfigurationError
from pipeline.fusion.neural.base import Encoded, Logits
from pipeline.fusion.neural.batches import ModalityBatch, PackedItems
from pipeline.fusion.neural.towers import Tower
from pipeline.training.augment import (
    add_noise,
    draw_mix,
    hide_modalities,
    mix,
    mix_answers,
    vary_inputs,
)
from pipeline.training.options import TowerAugment, TrainOptions

CPU = torch.device("cpu")


def encoded_of(*counts: tuple[int, ...], names: str = "abc") -> Encoded:
    """Token values that count up, ``counts`` by item and modality."""
    tokens = {}
    for at, name in enumerate(names):
        own = torch.tensor([each[at] for each in counts])
        longest = max(1, int(own.max()))
        values = torch.arange(len(counts) * longest * 2, dtype=torch.float32)
        tokens[name] = ModalityBatch(
            values=values.view(len(counts), longest, 2),
            spans=torch.zeros(len(counts), longest, 2),
            weights=torch.ones(len(counts), longest),
            mask=torch.arange(longest) < own[:, None],
        )
    return Encoded(tokens=tokens)


def test_one_modality_always_stays() -> None:
    torch.manual_seed(0)
    encoded = encoded_of(*[(1, 2, 1), (1, 0, 0), (0, 1, 1), (0, 0, 0)] * 500)
    hidden = hide_modalities(encoded, 0.4).present()
    before = encoded.present()
    assert (hidden <= before).all()
    assert (hidden.any(dim=1) == before.any(dim=1)).all()
    # A modality that is not the last is hidden at the rate asked for, less those that had to stay.
    share = 1 - float(hidden[::4].float().mean())
    assert share == pytest.approx(0.4 - 0.4**3 / 3, abs=0.03)
    assert hide_modalities(encoded, 0.0) is encoded


def test_features_are_mixed_where_both_have_a_token() -> None:
    encoded = encoded_of((2, 1), (1, 0), names="ab")
    mixed = mix(encoded, torch.tensor([1, 0]), torch.tensor([0.75, 0.6]))
    a, before = mixed.tokens["a"].values, encoded.tokens["a"].values
    torch.testing.assert_close(a[0, 0], 0.75 * before[0, 0] + 0.25 * before[1, 0])
    torch.testing.assert_close(a[1, 0], 0.6 * before[1, 0] + 0.4 * before[0, 0])
    assert (a[0, 1] == before[0, 1]).all()
    assert (mixed.tokens["b"].values == encoded.tokens["b"].values).all()


def test_answers_of_a_teacher_are_mixed_like_the_features() -> None:
    said = Logits(tags=torch.tensor([[1.0], [3.0]]), classes=torch.zeros(2, 0))
    mixed = mix_answers(said, torch.tensor([1, 0]), torch.tensor([0.75, 0.5]))
    assert mixed.tags.tolist() == [[1.5], [2.0]]
    assert mixed.classes.shape == (2, 0)


def test_partners_are_everybody_once() -> None:
    torch.manual_seed(0)
    partner, share = draw_mix(50, 0.3, CPU)
    assert sorted(partner.tolist()) == list(range(50))
    assert float(share.min()) >= 0.5
    assert float(share.max()) <= 1


def test_noise_has_its_size() -> None:
    torch.manual_seed(0)
    encoded = encoded_of(*[(1, 1)] * 3000, names="ab")
    moved = add_noise(encoded, 0.5).tokens["a"].values - encoded.tokens["a"].values
    assert float(moved.std()) == pytest.approx(0.5, abs=0.02)


def varied(augment: TowerAugment) -> tuple[torch.Tensor, torch.Tensor]:
    config = tower_config()
    rng = np.random.default_rng(0)
    items = [random_item(config, rng, 1, 2, 1) for _ in range(40)]
    batch = PackedItems(items, config).batch(torch.arange(40), CPU)
    tower = config.modalities[1].tower
    assert tower is not None
    torch.manual_seed(0)
    after = vary_inputs(batch, {"picture": Tower(tower, 8)}, {"picture": augment})
    assert after["sound"] is batch["sound"]
    return batch["picture"].values.flatten(0, 1), after["picture"].values.flatten(0, 1)


def test_shifts_repeat_the_edge() -> None:
    before, after = varied(TowerAugment(shift=(2, 1)))
    seen = set()
    for one, other in zip(before[:, 0], after[:, 0], strict=True):
        matches = [
            (down, right)
            for down in range(-2, 3)
            for right in range(-1, 2)
            if torch.equal(
                one[(torch.arange(8) + down).clamp(0, 7)][:, (torch.arange(8) + right).clamp(0, 7)],
                other,
            )
        ]
        assert len(matches) == 1
        seen.add(matches[0])
    assert len(seen) > 8


def test_masks_blank_one_band_of_rows_and_one_of_columns() -> None:
    before, after = varied(TowerAugment(mask=(3, 2)))
    blanked = (before != after)[:, 0]
    assert (after[:, 0][blanked] == 0).all()
    for one in blanked:
        rows, columns = one.all(dim=1), one.all(dim=0)
        assert rows.sum() <= 3
        assert columns.sum() <= 2
        assert torch.equal(one, rows[:, None] | columns)
    assert blanked.any()


def test_noise_of_inputs() -> None:
    before, after = varied(TowerAugment(noise=0.2))
    assert float((after - before).std()) == pytest.approx(0.2, abs=0.02)


def test_bounds() -> None:
    with pytest.raises(ConfigurationError, match="shift"):
        TowerAugment(shift=(-1, 0))
    with pytest.raises(ConfigurationError, match="epochs of training is 0; use 1 to"):
        TrainOptions(epochs=0)
    with pytest.raises(ConfigurationError, match="modality_dropout of training is 1"):
        TrainOptions(modality_dropout=1.0)
    assert TrainOptions().to_json() == TrainOptions().to_json()
