"""Losses: unknown labels, weights, alignment."""

import pytest
import torch
from fusion_sets import small_config, xor_set

from pipeline.fusion.neural.base import Logits
from pipeline.training.losses import (
    Targets,
    contrastive_loss,
    soft_loss,
    task_loss,
    unimodal_loss,
)
from pipeline.training.targets import build_targets, prior_of, weights_of


def targets_of(classes: list[int], tags: list[list[float]], known: list[bool]) -> Targets:
    return Targets(
        tags=torch.tensor(tags),
        tags_known=torch.tensor(known),
        classes=torch.nn.functional.one_hot(torch.tensor(classes), 2).float(),
        classes_known=torch.tensor(known),
        captions=torch.zeros(len(classes), 0, dtype=torch.int64),
    )


def test_unknown_labels_do_not_count() -> None:
    targets = targets_of([0, 1, 1], [[1, 0], [0, 0], [1, 1]], [True, False, True])
    logits = Logits(tags=torch.zeros(3, 2), classes=torch.tensor([[2.0, 0], [9, 9], [0, 3]]))
    expected = (
        torch.log(torch.tensor(2.0))
        + (torch.log1p(torch.exp(torch.tensor(-2.0))) + torch.log1p(torch.exp(torch.tensor(-3.0))))
        / 2
    )
    torch.testing.assert_close(task_loss(logits, targets, None), expected)
    wild = Logits(tags=logits.tags, classes=logits.classes + torch.tensor([[0.0], [50], [0]]))
    torch.testing.assert_close(task_loss(wild, targets, None), expected)
    nobody = targets_of([0, 1, 1], [[1, 0], [0, 0], [1, 1]], [False] * 3)
    assert float(task_loss(logits, nobody, None)) == 0


def test_rare_labels_weigh_more_where_asked() -> None:
    data = xor_set(40)
    rows = torch.tensor(
        [at for at, name in enumerate(data.classes) if name == "odd"][:12]
        + [at for at, name in enumerate(data.classes) if name == "even"][:4]
    )
    targets = build_targets(data, small_config(), None)
    weights = weights_of(targets, rows, balanced=True)
    torch.testing.assert_close(weights.classes, torch.tensor([2.0, 2 / 3]))
    plain = weights_of(targets, rows, balanced=False)
    assert plain.classes.tolist() == [1, 1]
    prior = prior_of(targets, rows)
    torch.testing.assert_close(prior.classes.exp(), torch.tensor([5 / 18, 13 / 18]))


def test_a_modality_that_is_absent_learns_nothing() -> None:
    targets = targets_of([0, 1], [[1, 0], [0, 1]], [True, True])
    logits = {
        name: Logits(
            tags=torch.zeros(2, 2, requires_grad=True),
            classes=torch.zeros(2, 2, requires_grad=True),
        )
        for name in "ab"
    }
    weights = weights_of(targets, torch.arange(2), balanced=False)
    present = torch.tensor([[True, False], [True, True]])
    unimodal_loss(logits, present, targets, weights, 0.0).backward()
    grad = logits["b"].classes.grad
    assert grad is not None
    assert grad[0].tolist() == [0, 0]
    assert grad[1].abs().sum() > 0


def test_views_of_an_item_are_drawn_together() -> None:
    targets = targets_of([0, 1], [[0, 0], [0, 0]], [True, True])
    near = torch.eye(2)
    present = torch.ones(2, 1, dtype=torch.bool)
    together = contrastive_loss(near, {"a": near}, present, targets)
    crossed = contrastive_loss(near, {"a": near.flip(0)}, present, targets)
    assert float(together) < 0.01
    assert float(crossed) == pytest.approx(10, abs=0.1)
    # Of the same class, they count as one.
    alike = targets_of([1, 1], [[0, 0], [0, 0]], [True, True])
    one = contrastive_loss(near, {"a": near}, present, alike)
    other = contrastive_loss(near, {"a": near.flip(0)}, present, alike)
    torch.testing.assert_close(one, other)


def test_a_teachers_own_answer_is_the_best_one() -> None:
    teacher = Logits(tags=torch.tensor([[1.0, -2]]), classes=torch.tensor([[0.5, 2]]))
    best = soft_loss(teacher, teacher, 2.0)
    for shift in (-1.0, 1.0):
        other = Logits(tags=teacher.tags + shift, classes=teacher.classes * (1 + shift / 2))
        assert soft_loss(other, teacher, 2.0) > best


def test_mixed_labels() -> None:
    targets = targets_of([0, 1], [[1, 0], [0, 0]], [True, True])
    mixed = targets.mixed(torch.tensor([1, 0]), torch.tensor([0.75, 1.0]))
    assert mixed.classes.tolist() == [[0.75, 0.25], [0, 1]]
    assert mixed.tags.tolist() == [[0.75, 0], [0, 0]]
