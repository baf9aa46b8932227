"""Labels as tensors, and what follows from how often they occur."""

from collections.abc import Sequence

import torch
from tokenizers import Tokenizer
from torch import Tensor

from pipeline.fusion.neural.base import Logits
from pipeline.fusion.neural.caption import encode_captions
from pipeline.fusion.neural.config import FuserConfig
from pipeline.training.data import TrainingSet
from pipeline.training.losses import LabelWeights, Targets

#: A label counts at most this many times as much, or as little, as another.
_MOST_WEIGHT = 10.0


def build_targets(data: TrainingSet, config: FuserConfig, tokenizer: Tokenizer | None) -> Targets:
    """The labels of all rows that the configuration names."""
    n = len(data.items)
    tags, classes = torch.zeros(n, len(config.tags)), torch.zeros(n, len(config.classes))
    tag_at = {name: at for at, name in enumerate(config.tags)}
    class_at = {name: at for at, name in enumerate(config.classes)}
    for row, names in enumerate(data.tags if config.tags else ()):
        for name in names or ():
            tags[row, tag_at[name]] = 1
    for row, name_of_class in enumerate(data.classes if config.classes else ()):
        if name_of_class is not None:
            classes[row, class_at[name_of_class]] = 1
    captions = torch.zeros(n, 0, dtype=torch.int64)
    if config.caption is not None and tokenizer is not None:
        texts = data.captions or [None] * n
        captions = encode_captions(texts, tokenizer, config.caption)
    return Targets(
        tags=tags,
        tags_known=_known(data.tags, n),
        classes=classes,
        classes_known=_known(data.classes, n),
        captions=captions,
    )


def prior_of(targets: Targets, rows: Tensor) -> Logits:
    """The logits that say how often each label holds in these rows, one added to every count."""
    tags, classes = _counts(targets, rows)
    n_tagged = int(targets.tags_known[rows].sum())
    return Logits(
        tags=torch.log((tags + 1) / (n_tagged - tags + 1)),
        classes=torch.log((classes + 1) / (classes + 1).sum()),
    )


def weights_of(targets: Targets, rows: Tensor, *, balanced: bool) -> LabelWeights:
    """Ones, or weights under which every label counts about as much as every other."""
    tags, classes = _counts(targets, rows)
    if not balanced:
        return LabelWeights(tags=torch.ones_like(tags), classes=torch.ones_like(classes))
    n_tagged = int(targets.tags_known[rows].sum())
    even = classes.sum() / max(1, len(classes))
    low, high = 1 / _MOST_WEIGHT, _MOST_WEIGHT
    return LabelWeights(
        tags=((n_tagged - tags) / tags.clamp(min=1)).clamp(low, high),
        classes=(even / classes.clamp(min=1)).clamp(low, high),
    )


def _counts(targets: Targets, rows: Tensor) -> tuple[Tensor, Tensor]:
    return targets.tags[rows].sum(dim=0), targets.classes[rows].sum(dim=0)


def _known(labels: Sequence[object | None], n: int) -> Tensor:
    if not labels:
        return torch.zeros(n, dtype=torch.bool)
    return torch.tensor([label is not None for label in labels])
