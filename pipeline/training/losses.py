"""What is minimised: one loss per task, and auxiliary losses that only training knows."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from pipeline.fusion.neural.base import Answers, Encoded, Logits, Pool
from pipeline.fusion.neural.caption import PAD
from pipeline.fusion.neural.config import FuserConfig

#: How sharply the contrastive loss tells neighbours apart.
_SHARPNESS = 0.1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Targets:
    """Labels as tensors, N rows.

    ``tags`` float ``(N, n_tags)`` 0-1, ``tags_known`` bool ``(N,)``; ``classes`` float
    ``(N, n_classes)``, shares that sum to 1, ``classes_known`` bool ``(N,)``; ``captions`` int64
    ``(N, L)``, padded.
    """

    tags: Tensor
    tags_known: Tensor
    classes: Tensor
    classes_known: Tensor
    captions: Tensor

    def rows(self, indices: Tensor, device: torch.device) -> "Targets":
        return Targets(
            tags=self.tags[indices].to(device),
            tags_known=self.tags_known[indices].to(device),
            classes=self.classes[indices].to(device),
            classes_known=self.classes_known[indices].to(device),
            captions=self.captions[indices].to(device),
        )

    def mixed(self, partner: Tensor, share: Tensor) -> "Targets":
        """As features are by :func:`pipeline.training.augment.mix`, where both labels are known;
        captions stay the item's own."""
        part = share[:, None]
        return Targets(
            tags=part * self.tags + (1 - part) * self.tags[partner],
            tags_known=self.tags_known & self.tags_known[partner],
            classes=part * self.classes + (1 - part) * self.classes[partner],
            classes_known=self.classes_known & self.classes_known[partner],
            captions=self.captions,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelWeights:
    """How much a tag that holds counts, ``(n_tags,)``, and each class, ``(n_classes,)``."""

    tags: Tensor
    classes: Tensor

    def to(self, device: torch.device) -> "LabelWeights":
        return LabelWeights(tags=self.tags.to(device), classes=self.classes.to(device))


def task_loss(
    logits: Logits, targets: Targets, weights: LabelWeights | None, smoothing: float = 0.0
) -> Tensor:
    """Binary cross entropy of the tags and cross entropy of the classes, each the mean over the
    rows whose labels are known; 0 where there are none."""
    total = logits.classes.new_zeros(()) + 0 * (logits.tags.sum() + logits.classes.sum())
    known = targets.tags_known
    if logits.tags.shape[1] and known.any():
        wanted = targets.tags[known] * (1 - smoothing) + smoothing / 2
        total = total + F.binary_cross_entropy_with_logits(
            logits.tags[known], wanted, pos_weight=weights.tags if weights else None
        )
    known = targets.classes_known
    if logits.classes.shape[1] and known.any():
        total = total + F.cross_entropy(
            logits.classes[known],
            targets.classes[known],
            weight=weights.classes if weights else None,
            label_smoothing=smoothing,
        )
    return total


def soft_loss(logits: Logits, teacher: Logits, temperature: float) -> Tensor:
    """How far the answers are from a teacher's, both softened (Hinton et al. 2015)."""
    total = logits.classes.new_zeros(())
    if logits.tags.shape[1]:
        soft = torch.sigmoid(teacher.tags / temperature)
        entropy = F.binary_cross_entropy_with_logits(logits.tags / temperature, soft)
        total = total + temperature**2 * entropy
    if logits.classes.shape[1]:
        soft = F.softmax(teacher.classes / temperature, dim=1)
        total = total + temperature**2 * F.cross_entropy(logits.classes / temperature, soft)
    return total


def caption_loss(logits: Tensor, captions: Tensor) -> Tensor:
    """Cross entropy of each next token; 0 where no row has a caption."""
    if not (captions != PAD).any():
        return 0 * logits.sum()
    return F.cross_entropy(logits.flatten(0, 1), captions[:, 1:].flatten(), ignore_index=PAD)


class Auxiliary(nn.Module):
    """Heads that only training has: each modality answers by itself, and has a place in the space
    of the joint embedding."""

    def __init__(self, config: FuserConfig) -> None:
        super().__init__()
        names = config.modality_names
        self.pools = nn.ModuleDict({name: Pool(config.width) for name in names})
        self.answers = nn.ModuleDict({name: Answers(config) for name in names})
        self.places = nn.ModuleDict(
            {name: nn.Linear(config.width, config.embedding_dimension) for name in names}
        )

    def forward(self, encoded: Encoded) -> tuple[dict[str, Logits], dict[str, Tensor]]:
        """By modality, the logits and the L2-normalised place ``(B, embedding_dimension)``."""
        logits, places = {}, {}
        for name, tokens in encoded.tokens.items():
            feature = self.pools[name](tokens)
            logits[name] = self.answers[name](feature)
            places[name] = F.normalize(self.places[name](feature).float(), dim=-1)
        return logits, places


def unimodal_loss(
    logits: Mapping[str, Logits],
    present: Tensor,
    targets: Targets,
    weights: LabelWeights,
    smoothing: float,
) -> Tensor:
    """The mean of the modalities' own task losses, each over the rows that have it.

    Without it the modality that learns fastest keeps the others from learning (Wang et al. 2020,
    "What makes training multi-modal classification networks hard?").
    """
    losses = []
    for at, own in enumerate(logits.values()):
        here = present[:, at]
        seen = Targets(
            tags=targets.tags,
            tags_known=targets.tags_known & here,
            classes=targets.classes,
            classes_known=targets.classes_known & here,
            captions=targets.captions,
        )
        losses.append(task_loss(own, seen, weights, smoothing))
    return torch.stack(losses).mean()


def contrastive_loss(
    joint: Tensor, places: Mapping[str, Tensor], present: Tensor, targets: Targets
) -> Tensor:
    """Each view of an item (a modality, or all together) near its other views, far from others.

    Items whose known class is the same count as one (Khosla et al. 2020, "Supervised contrastive
    learning"); the rest is the symmetric loss of CLIP (Radford et al. 2021).
    """
    alike = torch.eye(len(joint), dtype=torch.bool, device=joint.device)
    if targets.classes.shape[1]:
        best = targets.classes.argmax(dim=1)
        known = targets.classes_known
        alike = alike | ((best[:, None] == best) & known[:, None] & known)
    everywhere = torch.ones_like(present[:, 0])
    views = [(joint, everywhere)]
    views += [(place, present[:, at]) for at, place in enumerate(places.values())]
    losses = [
        _aligned(one, other, alike, here & there)
        for at, (one, here) in enumerate(views)
        for other, there in views[:at]
    ]
    return torch.stack(losses).mean()


def _aligned(one: Tensor, other: Tensor, alike: Tensor, here: Tensor) -> Tensor:
    likeness = one[here] @ other[here].T / _SHARPNESS
    if len(likeness) < 2:
        return 0 * one.sum()
    wanted = alike[here][:, here].float()
    wanted = wanted / wanted.sum(dim=1, keepdim=True)
    return (F.cross_entropy(likeness, wanted) + F.cross_entropy(likeness.T, wanted)) / 2
