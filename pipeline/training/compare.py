"""How good a trained fuser is on labelled rows, and whether another one is better on them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pipeline.errors import ConfigurationError
from pipeline.fusion.neural.batches import PackedItems
from pipeline.fusion.neural.items import FusionItem
from pipeline.fusion.neural.predict import TaskScores, TrainedFuser
from pipeline.training.data import TrainingSet
from pipeline.training.measure import figures, look
from pipeline.training.metrics import (
    Comparison,
    Interval,
    mcnemar,
    mean_average_precision,
    paired_bootstrap,
)
from pipeline.training.targets import build_targets

#: The mean average precision of many tags takes a while.
_TAG_RESAMPLES = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelComparison:
    """Model b against a. ``rows``: how many both can answer. ``accuracy``: with McNemar's test;
    ``mean_average_precision``: with a paired bootstrap over assets; ``None`` where there are no
    such labels."""

    rows: int
    accuracy: Comparison | None
    mean_average_precision: Comparison | None


def measure(fuser: TrainedFuser, data: TrainingSet, rows: Sequence[int]) -> dict[str, Interval]:
    """The :func:`pipeline.training.measure.figures` of a fuser on these rows of a set; it is given
    the modalities that it knows.

    Raises:
        ConfigurationError: a row has a label that the fuser does not tell.
        ContractError: an item does not fit it.
    """
    config = fuser.config
    for kind, known, labels in (
        ("tag", config.tags, [data.tags[row] or () for row in rows] if data.tags else []),
        ("class", config.classes, [(data.classes[row],) for row in rows] if data.classes else []),
    ):
        other = {name for own in labels for name in own if name is not None} - set(known)
        if other:
            raise ConfigurationError(
                f"the fuser was not trained to tell the {kind} {min(other)!r}: measure it on what "
                "it tells, or train it on these labels"
            )
    own = TrainingSet(
        items=[_known(fuser, data.items[row]) for row in rows],
        groups=[data.groups[row] for row in rows],
        tags=[data.tags[row] for row in rows] if data.tags else (),
        classes=[data.classes[row] for row in rows] if data.classes else (),
    )
    everything = torch.arange(len(rows))
    device = fuser.network.class_temperature.device
    packed = PackedItems(own.items, config)
    (seen,) = look(fuser.network, packed, everything, [frozenset()], device)
    truth = build_targets(own, config, None).rows(everything, torch.device("cpu"))
    return figures(fuser.network, seen, truth, own.groups)


def compare(
    a: TrainedFuser, b: TrainedFuser, data: TrainingSet, rows: Sequence[int]
) -> ModelComparison:
    """Compare two fusers of the same labels on these rows of a set, those that both can answer.

    They may read different modalities: each is given those it knows.

    Raises:
        ConfigurationError: the fusers tell different labels.
        ContractError: an item does not fit one of them.
    """
    if (a.config.tags, a.config.classes) != (b.config.tags, b.config.classes):
        raise ConfigurationError(
            "two fusers that tell different tags or classes cannot be compared; train both for "
            "the same"
        )
    answers = zip(rows, _scores(a, data, rows), _scores(b, data, rows), strict=True)
    both = [(row, x, y) for row, x, y in answers if x is not None and y is not None]
    return ModelComparison(
        rows=len(both),
        accuracy=_by_class(a.config.classes, data, both),
        mean_average_precision=_by_tag(a.config.tags, data, both),
    )


_Answers = list[tuple[int, TaskScores, TaskScores]]


def _by_class(names: Sequence[str], data: TrainingSet, answers: _Answers) -> Comparison | None:
    own = [each for each in answers if data.classes and data.classes[each[0]] in names]
    if not own:
        return None
    truth = np.array([names.index(str(data.classes[row])) for row, _, _ in own])
    right_a = np.stack([x.classes for _, x, _ in own]).argmax(axis=1) == truth
    right_b = np.stack([y.classes for _, _, y in own]).argmax(axis=1) == truth
    paired = paired_bootstrap(
        lambda at: float(right_a[at].mean()),
        lambda at: float(right_b[at].mean()),
        [data.groups[row] for row, _, _ in own],
    )
    return Comparison(difference=paired.difference, p_value=mcnemar(right_a, right_b))


def _by_tag(names: Sequence[str], data: TrainingSet, answers: _Answers) -> Comparison | None:
    own = [
        (held, row, x, y)
        for row, x, y in answers
        if data.tags and (held := data.tags[row]) is not None
    ]
    if not own or not names:
        return None
    truth = np.array([[name in held for name in names] for held, _, _, _ in own])
    scores_a = np.stack([x.tags for _, _, x, _ in own])
    scores_b = np.stack([y.tags for _, _, _, y in own])
    return paired_bootstrap(
        lambda at: mean_average_precision(scores_a[at], truth[at]),
        lambda at: mean_average_precision(scores_b[at], truth[at]),
        [data.groups[row] for _, row, _, _ in own],
        resamples=_TAG_RESAMPLES,
    )


def _scores(fuser: TrainedFuser, data: TrainingSet, rows: Sequence[int]) -> list[TaskScores | None]:
    return fuser.score([_known(fuser, data.items[row]) for row in rows])


def _known(fuser: TrainedFuser, item: FusionItem) -> FusionItem:
    known = fuser.config.modality_names
    return FusionItem(
        modalities={name: own for name, own in item.modalities.items() if name in known}
    )
