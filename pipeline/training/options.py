"""How a fuser is trained: every choice with its default and bounds. No torch."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal

from pipeline.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class TowerAugment:
    """How the inputs of a tower are varied in training, each token by itself.

    ``shift``: most rows and columns an input is moved by, its edge repeated. ``mask``: most rows
    and columns of the band that is blanked, one of each (SpecAugment, Park et al. 2019; for
    spectrograms rows are frequencies). ``noise``: standard deviations of Gaussian noise, in those
    of the training part.
    """

    shift: tuple[int, int] = (0, 0)
    mask: tuple[int, int] = (0, 0)
    noise: float = 0.0

    def __post_init__(self) -> None:
        for what, value in (("shift", self.shift), ("mask", self.mask)):
            if min(value) < 0:
                raise ConfigurationError(
                    f"the {what} of a tower's inputs is {value}; use 0 or more"
                )
        _bound("noise", self.noise, 0, 10)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions:
    """The defaults suit a few thousand items.

    ``learning_rate``: at its peak, after ``warmup`` of all steps; from there it falls to 0 by a
    cosine (one cycle, Smith and Topin 2018). ``block_rate``: the share of it that transformer
    blocks learn at, which overshoot at what convolutions and linear layers like. ``patience``:
    epochs without a better validation part until training stops. ``modality_dropout``: the share
    of modalities that is hidden from the fuser, never the last of an item. ``mixup``: alpha of the
    Beta distribution that features are mixed by (Verma et al. 2019), 0 for none.
    ``feature_noise``: standard deviation of noise on features. ``unimodal``, ``contrastive``:
    weights of the auxiliary losses: each modality answers alone; the modalities and the joint
    embedding of an item lie together (without it, embeddings mean nothing). ``class_weights``:
    rare labels count more (their scores are then higher than their frequency). ``distill``,
    ``distill_temperature``: the share of the loss that is taken from a teacher, where there is
    one, and how soft its answers are made (Hinton et al. 2015). ``augment``: of the inputs of
    towers, by modality.
    ``precision``: ``bfloat16`` is faster on CPUs and GPUs that have it.
    """

    epochs: int = 30
    batch_size: int = 64
    learning_rate: float = 2e-3
    block_rate: float = 0.25
    weight_decay: float = 0.02
    warmup: float = 0.25
    patience: int = 12
    label_smoothing: float = 0.05
    modality_dropout: float = 0.15
    mixup: float = 0.0
    feature_noise: float = 0.0
    unimodal: float = 0.5
    contrastive: float = 0.1
    class_weights: bool = False
    distill: float = 0.5
    distill_temperature: float = 2.0
    augment: Mapping[str, TowerAugment] = field(default_factory=dict)
    precision: Literal["float32", "bfloat16"] = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        _bound("epochs", self.epochs, 1, 10_000)
        _bound("batch_size", self.batch_size, 2, 65_536)
        _bound("learning_rate", self.learning_rate, 1e-7, 1)
        _bound("block_rate", self.block_rate, 0.001, 10)
        _bound("weight_decay", self.weight_decay, 0, 1)
        _bound("warmup", self.warmup, 0, 0.9)
        _bound("patience", self.patience, 1, 10_000)
        _bound("label_smoothing", self.label_smoothing, 0, 0.5)
        _bound("modality_dropout", self.modality_dropout, 0, 0.9)
        _bound("mixup", self.mixup, 0, 10)
        _bound("feature_noise", self.feature_noise, 0, 10)
        _bound("unimodal", self.unimodal, 0, 10)
        _bound("contrastive", self.contrastive, 0, 10)
        _bound("distill", self.distill, 0, 1)
        _bound("distill_temperature", self.distill_temperature, 0.1, 100)
        _bound("seed", self.seed, 0, 2**31 - 1)
        if self.precision not in {"float32", "bfloat16"}:
            raise ConfigurationError(
                f"the precision of training is {self.precision!r}; use float32 or bfloat16"
            )

    def to_json(self) -> str:
        """Equal options give equal text."""
        return json.dumps(asdict(self), sort_keys=True)


def _bound(what: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ConfigurationError(f"the {what} of training is {value}; use {low:g} to {high:g}")
