"""One training in progress: the network, its optimizer, and the best weights so far."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.fusion.neural.base import Encoded, Logits, Outputs
from pipeline.fusion.neural.batches import Batch, PackedItems
from pipeline.fusion.neural.blocks import Block
from pipeline.fusion.neural.caption import CaptioningNetwork
from pipeline.fusion.neural.config import FuserConfig
from pipeline.fusion.neural.network import build_network
from pipeline.fusion.neural.predict import TrainedFuser
from pipeline.fusion.neural.towers import Tower
from pipeline.training.augment import (
    add_noise,
    draw_mix,
    hide_modalities,
    mix,
    mix_answers,
    vary_inputs,
)
from pipeline.training.losses import (
    Auxiliary,
    Targets,
    caption_loss,
    contrastive_loss,
    soft_loss,
    task_loss,
    unimodal_loss,
)
from pipeline.training.measure import figures, look
from pipeline.training.options import TrainOptions
from pipeline.training.state import (
    optimizer_tensors,
    restore_optimizer,
    with_prefix,
    without_prefix,
)
from pipeline.training.targets import prior_of, weights_of

_MOST_GRADIENT = 1.0
_SCORES = ("accuracy", "mean_average_precision")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Material:
    """All items and labels, and the rows of two parts, int64; ``train`` holds at least one."""

    packed: PackedItems
    targets: Targets
    train: Tensor
    validation: Tensor


class Learner:
    """See the module. Draws from torch's global random numbers, seeded anew for each epoch."""

    def __init__(
        self,
        config: FuserConfig,
        options: TrainOptions,
        material: Material,
        teacher: TrainedFuser | None,
        device: torch.device,
    ) -> None:
        self.config, self.options = config, options
        self.material, self.device = material, device
        self._teacher = teacher
        torch.manual_seed(options.seed)
        self.network = build_network(config).to(device)
        self._auxiliary = Auxiliary(config).to(device)
        for name, tower in self.network.towers.items():
            tower.standardise_by(  # type: ignore[operator]
                material.packed.values_of(name, material.train)
            )
        self.network.start_from(prior_of(material.targets, material.train))
        weights = weights_of(material.targets, material.train, balanced=options.class_weights)
        self._weights = weights.to(device)
        self._parameters = [*self.network.parameters(), *self._auxiliary.parameters()]
        self._optimizer = torch.optim.AdamW(
            _groups(self.network, self._parameters, options),
            lr=options.learning_rate,
            fused=True,
        )
        self._best: dict[str, Tensor] = {}
        #: Of the best epoch: its number, score, and loss on the validation part; 0 for none yet.
        self.best: tuple[int, float, float] = (0, -math.inf, math.inf)

    @property
    def best_epoch(self) -> int:
        return self.best[0]

    def is_stuck(self, epochs: int) -> bool:
        """Whether the validation part has not become better for long."""
        return bool(self._best) and epochs - self.best_epoch >= self.options.patience

    def epoch(self, epoch: int) -> float:
        """Train on every row once; ``epoch`` counts from 1. The mean loss."""
        torch.manual_seed(self.options.seed * 1_000_003 + epoch)
        self.network.train()
        order = self.material.train[torch.randperm(len(self.material.train))]
        parts = order.tensor_split(max(1, round(len(order) / self.options.batch_size)))
        total = 0.0
        for at, rows in enumerate(parts):
            rate = self._rate((epoch - 1 + (at + 0.5) / len(parts)) / self.options.epochs)
            for group in self._optimizer.param_groups:
                group["lr"] = rate * group["share"]
            loss = self._loss(rows)
            self._optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self._parameters, _MOST_GRADIENT)
            self._optimizer.step()
            total += float(loss.detach()) * len(rows)
        return total / len(order)

    def judge(self, epoch: int) -> float | None:
        """The score on the validation part; the weights are kept if they are the best so far."""
        rows = self.material.validation
        if not len(rows):
            return None
        (seen,) = look(self.network, self.material.packed, rows, [frozenset()], self.device)
        targets = self.material.targets.rows(rows, torch.device("cpu"))
        loss = float(task_loss(seen.logits, targets, None)) + self._caption_judgement(rows)
        found = figures(self.network, seen, targets, [""] * len(rows), resamples=0)
        scores = [found[name].value for name in _SCORES if name in found]
        score = sum(scores) / max(1, len(scores))
        if (score, -loss) > (self.best[1], -self.best[2]) or not self._best:
            self.best = (epoch, score, loss)
            self._best = {name: value.clone() for name, value in self._weights_now().items()}
        return score if scores else None

    def take_best(self) -> None:
        """Go back to the best weights; without a validation part, the last are kept."""
        if self._best:
            self.network.load_state_dict(self._best)
        self.network.eval()

    def tensors(self) -> dict[str, Tensor]:
        """Everything that :meth:`restore` needs, but for ``best``."""
        return {
            **with_prefix("network.", self._weights_now()),
            **with_prefix("auxiliary.", self._auxiliary.state_dict()),
            **with_prefix("best.", self._best),
            **with_prefix("optimizer.", optimizer_tensors(self._optimizer)),
        }

    def restore(self, tensors: Mapping[str, Tensor], best: Sequence[float]) -> None:
        self.network.load_state_dict(without_prefix("network.", tensors))
        self._auxiliary.load_state_dict(without_prefix("auxiliary.", tensors))
        restore_optimizer(self._optimizer, without_prefix("optimizer.", tensors))
        self._best = without_prefix("best.", tensors)
        self.best = (int(best[0]), best[1], best[2])

    def _weights_now(self) -> dict[str, Tensor]:
        return dict(self.network.state_dict())

    def _rate(self, done: float) -> float:
        """The learning rate after this share of all steps: up, and down by a cosine."""
        warmup = self.options.warmup
        if done < warmup:
            return self.options.learning_rate * (0.05 + 0.95 * done / warmup)
        left = (1 - done) / (1 - warmup)
        return self.options.learning_rate * (1 - math.cos(math.pi * left)) / 2

    def _loss(self, rows: Tensor) -> Tensor:
        options = self.options
        batch = self.material.packed.batch(rows, self.device)
        targets = self.material.targets.rows(rows, self.device)
        towers: dict[str, Tower] = dict(self.network.towers.items())  # type: ignore[arg-type]
        batch = vary_inputs(batch, towers, options.augment)
        with torch.autocast(
            self.device.type, torch.bfloat16, enabled=options.precision == "bfloat16"
        ):
            encoded = add_noise(self.network.encode(batch), options.feature_noise)
            said = self._said(batch)
            if options.mixup:
                partner, share = draw_mix(len(rows), options.mixup, self.device)
                encoded, targets = mix(encoded, partner, share), targets.mixed(partner, share)
                said = None if said is None else mix_answers(said, partner, share)
            outputs = self.network.fuse(hide_modalities(encoded, options.modality_dropout))
            total = self._taught(outputs, targets, said)
            total = total + self._auxiliary_loss(encoded, outputs, targets)
            if isinstance(self.network, CaptioningNetwork):
                captions = targets.captions
                logits = self.network.caption_logits(outputs, captions[:, :-1])
                total = total + caption_loss(logits, captions)
        return total

    @torch.no_grad()
    def _said(self, batch: Batch) -> Logits | None:
        """The answers of the teacher, where there is one. It sees the same variation of the inputs
        (Beyer et al. 2022, "A good teacher is patient and consistent") and all modalities."""
        return None if self._teacher is None else self._teacher.network(batch).logits

    def _taught(self, outputs: Outputs, targets: Targets, said: Logits | None) -> Tensor:
        """The loss of the tasks, by labels and by what the teacher said."""
        smoothing = self.options.label_smoothing
        by_label = task_loss(outputs.logits, targets, self._weights, smoothing)
        if said is None:
            return by_label
        # The weights of late fusion teach its modalities nothing: each is taught by itself.
        pupils = [outputs.logits, *(outputs.alone or {}).values()]
        heat = self.options.distill_temperature
        by_teacher = torch.stack([soft_loss(each, said, heat) for each in pupils]).sum()
        return (1 - self.options.distill) * by_label + self.options.distill * by_teacher

    def _auxiliary_loss(self, encoded: Encoded, outputs: Outputs, targets: Targets) -> Tensor:
        options = self.options
        total = targets.tags.new_zeros(())
        present = encoded.present()
        if outputs.alone is None and not options.unimodal and not options.contrastive:
            return total
        alone, places = self._auxiliary(encoded)
        # What late fusion is made of is its main loss, whatever its weight elsewhere.
        weight = options.unimodal if outputs.alone is None else 1.0
        alone = alone if outputs.alone is None else outputs.alone
        if weight:
            total = total + weight * unimodal_loss(
                alone, present, targets, self._weights, options.label_smoothing
            )
        if options.contrastive:
            total = total + options.contrastive * contrastive_loss(
                outputs.embedding, places, present, targets
            )
        return total

    @torch.no_grad()
    def _caption_judgement(self, rows: Tensor) -> float:
        network = self.network
        if not isinstance(network, CaptioningNetwork):
            return 0.0
        total = 0.0
        for some in rows.split(self.options.batch_size):  # type: ignore[no-untyped-call]
            outputs = network(self.material.packed.batch(some, self.device))
            captions = self.material.targets.captions[some].to(self.device)
            logits = network.caption_logits(outputs, captions[:, :-1])
            total += float(caption_loss(logits, captions)) * len(some)
        return total / len(rows)


def _groups(
    network: nn.Module, parameters: Sequence[nn.Parameter], options: TrainOptions
) -> list[dict[str, Any]]:
    """Parameters by how fast they learn and whether they are drawn towards 0, which biases, norms
    and other single rows are not. ``share``: of the learning rate."""
    blocks = [module for module in network.modules() if isinstance(module, Block)]
    slow = {id(parameter) for block in blocks for parameter in block.parameters()}
    return [
        {
            "params": [p for p in parameters if (id(p) in slow, p.ndim > 1) == (is_slow, decays)],
            "share": options.block_rate if is_slow else 1.0,
            "weight_decay": options.weight_decay if decays else 0.0,
        }
        for is_slow in (False, True)
        for decays in (True, False)
    ]
