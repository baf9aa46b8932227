"""Towers by themselves."""

import pytest
import torch

from pipeline.fusion.neural.config import TowerConfig
from pipeline.fusion.neural.towers import Tower

CONFIGS = (
    TowerConfig(input_shape=(1, 8, 12), widths=(4, 8), grid=2),
    TowerConfig(input_shape=(3, 4, 4), widths=(4,), grid=8),
    TowerConfig(kind="patch", input_shape=(2, 8, 4), widths=(8,), patch=4, heads=2),
)


@pytest.mark.parametrize("config", CONFIGS)
def test_a_vector_for_each_token_by_itself(config: TowerConfig) -> None:
    torch.manual_seed(0)
    tower = Tower(config, 5).eval()
    values = torch.randn(7, *config.input_shape)
    together = tower(values)
    assert together.shape == (7, 5)
    torch.testing.assert_close(tower(values[3:4])[0], together[3])


@pytest.mark.parametrize("config", CONFIGS)
def test_one_token_can_be_learned_from(config: TowerConfig) -> None:
    tower = Tower(config, 5).train()
    found = tower(torch.randn(1, *config.input_shape))
    assert found.shape == (1, 5)
    assert torch.isfinite(found).all()


def test_inputs_are_standardised_by_channel() -> None:
    tower = Tower(CONFIGS[1], 5).eval()
    values = torch.randn(50, 3, 4, 4) * torch.tensor([1.0, 5, 0])[:, None, None] + 3
    before = tower(values)
    tower.standardise_by(values)
    assert tower.offset.flatten().tolist() == pytest.approx([3, 3, 3], abs=0.6)
    assert tower.scale.flatten().tolist() == pytest.approx([1, 5, 1], rel=0.1)
    other = Tower(CONFIGS[1], 5).eval()
    other.encoder.load_state_dict(tower.encoder.state_dict())
    other.standardise_by(10 * values - 7)
    # The same pictures on another scale; the channel that is constant says nothing.
    torch.testing.assert_close(tower(values), other(10 * values - 7), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(before, tower(values))
