"""Temperatures."""

import numpy as np
import pytest
import torch
from fusion_sets import small_config

from pipeline.fusion.neural.base import Logits
from pipeline.fusion.neural.network import build_network
from pipeline.training.calibrate import fit_temperatures
from pipeline.training.losses import Targets
from pipeline.training.measure import Seen, choices, figures


def overconfident(rows: int, heat: float, present: list[bool], seed: int) -> tuple[Seen, Targets]:
    """Labels drawn by logits, which are then shown ``heat`` times as large."""
    generator = torch.Generator().manual_seed(seed)
    classes = 1.5 * torch.randn(rows, 2, generator=generator)
    tags = 1.5 * torch.randn(rows, 2, generator=generator)
    drawn = torch.rand(rows, generator=generator) < torch.softmax(classes, dim=1)[:, 1]
    targets = Targets(
        tags=(torch.rand(rows, 2, generator=generator) < torch.sigmoid(tags)).float(),
        tags_known=torch.ones(rows, dtype=torch.bool),
        classes=torch.nn.functional.one_hot(drawn.long(), 2).float(),
        classes_known=torch.ones(rows, dtype=torch.bool),
        captions=torch.zeros(rows, 0, dtype=torch.int64),
    )
    seen = Seen(
        logits=Logits(tags=heat * tags, classes=heat * classes),
        present=torch.tensor([present] * rows),
    )
    return seen, targets


def test_temperatures_are_found_for_every_choice_of_modalities() -> None:
    network = build_network(small_config())
    seen = [
        overconfident(4000, 3.0, [True, True], 1),
        overconfident(4000, 6.0, [True, False], 2),
        overconfident(4000, 0.5, [False, True], 3),
    ]
    before = [figures(network, *each, ["x"] * 4000, resamples=0) for each in seen]
    fit_temperatures(network, seen)
    for found in (network.class_temperature, network.tag_temperature):
        heat = np.exp([found[0], found[0] + found[2], found[0] + found[1]])
        assert heat == pytest.approx([3.0, 6.0, 0.5], rel=0.12)
    for each, old in zip(seen, before, strict=True):
        new = figures(network, *each, ["x"] * 4000, resamples=0)
        for name in ("calibration_error", "tag_calibration_error"):
            assert new[name].value < old[name].value / 2
        assert new["accuracy"] == old["accuracy"]


def test_a_handful_of_rows_proves_little() -> None:
    network = build_network(small_config())
    seen, targets = overconfident(3, 1.0, [True, True], 4)
    right = Seen(
        logits=Logits(tags=8 * (targets.tags - 0.5), classes=8 * targets.classes),
        present=seen.present,
    )
    fit_temperatures(network, [(right, targets)])
    assert float(network.class_temperature[0].exp()) > 0.5


def test_choices_name_each_once() -> None:
    assert choices(["a"]) == [frozenset()]
    assert choices(["a", "b"]) == [frozenset(), frozenset("a"), frozenset("b")]
    assert len(choices(["a", "b", "c"])) == 7
