"""The interface of all fusers: tokens in, logits of every task and a joint embedding out.

A forward pass has two halves. :meth:`FusionNetwork.encode` turns each token into a feature by
itself; :meth:`FusionNetwork.fuse` reads them together. So whatever is asked about the same tokens
with some of them left out (modality dropout, contributions, the loudest token) costs only the
second half again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from pipeline.fusion.neural.batches import Batch, ModalityBatch
from pipeline.fusion.neural.config import FuserConfig, ModalityConfig
from pipeline.fusion.neural.towers import Tower

#: A token of no weight is nearly, and never wholly, ignored: the softmax over tokens stays defined.
_LEAST_WEIGHT = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Encoded:
    """Features of the tokens, by modality: :class:`ModalityBatch` with values ``(B, T, width)``."""

    tokens: Mapping[str, ModalityBatch]

    def present(self) -> Tensor:
        """bool ``(B, modalities)``, in the order of the configuration."""
        return torch.stack([each.mask.any(dim=1) for each in self.tokens.values()], dim=1)

    def masked(self, keep: Mapping[str, Tensor]) -> "Encoded":
        """The same tokens, those of the given modalities only where ``keep`` ``(B, T)`` (or
        ``(B, 1)``) is true."""
        tokens = {
            name: replace(each, mask=each.mask & keep[name]) if name in keep else each
            for name, each in self.tokens.items()
        }
        return Encoded(tokens=tokens)

    def rows(self, indices: Tensor) -> "Encoded":
        """The items at ``indices``, which may name one several times."""
        return Encoded(
            tokens={
                name: ModalityBatch(
                    values=each.values[indices],
                    spans=each.spans[indices],
                    weights=each.weights[indices],
                    mask=each.mask[indices],
                )
                for name, each in self.tokens.items()
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Logits:
    """``tags`` ``(B, n_tags)`` and ``classes`` ``(B, n_classes)``; width 0 where there are none."""

    tags: Tensor
    classes: Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outputs:
    """What a fuser says of a batch, before calibration.

    ``embedding``: ``(B, embedding_dimension)``, L2-normalised. ``alone``: what each modality says
    by itself, for fusers that decide so. ``memory``, ``memory_mask``: the fused tokens a caption
    is written from, for fusers that have them. Rows of items without any modality mean nothing.
    """

    logits: Logits
    embedding: Tensor
    alone: Mapping[str, Logits] | None = None
    memory: Tensor | None = None
    memory_mask: Tensor | None = None


class FusionNetwork(nn.Module):
    """Base of the fusers; subclasses implement :meth:`fuse`."""

    class_temperature: Tensor
    tag_temperature: Tensor

    def __init__(self, config: FuserConfig) -> None:
        super().__init__()
        self.config = config
        self.towers = nn.ModuleDict(
            {
                modality.name: Tower(modality.tower, modality.dimension)
                for modality in config.modalities
                if modality.tower is not None
            }
        )
        self.projections = nn.ModuleDict(
            {modality.name: _projection(modality, config) for modality in config.modalities}
        )
        # The logarithm of the temperature: of everything present, then what each absence adds.
        self.register_buffer("class_temperature", torch.zeros(1 + len(config.modalities)))
        self.register_buffer("tag_temperature", torch.zeros(1 + len(config.modalities)))

    def forward(self, batch: Batch) -> Outputs:
        return self.fuse(self.encode(batch))

    def encode(self, batch: Batch) -> Encoded:
        """Each token by itself."""
        return Encoded(
            tokens={
                name: replace(each, values=self._features(name, each))
                for name, each in batch.items()
            }
        )

    def fuse(self, encoded: Encoded) -> Outputs:
        """All tokens together."""
        raise NotImplementedError

    def start_from(self, prior: Logits) -> None:
        """Begin with what is known without looking, ``(n_tags,)`` and ``(n_classes,)``."""
        raise NotImplementedError

    def calibrated(self, logits: Logits, present: Tensor) -> Logits:
        """The logits over their temperature, for the modalities ``present`` ``(B, M)``."""
        absent = torch.cat([torch.ones_like(present[:, :1]), ~present], dim=1).float()
        return Logits(
            tags=logits.tags / torch.exp(absent @ self.tag_temperature)[:, None],
            classes=logits.classes / torch.exp(absent @ self.class_temperature)[:, None],
        )

    def _features(self, name: str, each: ModalityBatch) -> Tensor:
        projection = self.projections[name]
        if name not in self.towers:
            own: Tensor = projection(each.values)
            return own
        # Padding stays out of the tower: it would cost as much as tokens, and disturb its norms.
        seen = each.values[each.mask]
        shape = (*each.mask.shape, self.config.width)
        if not len(seen):
            return seen.new_zeros(shape)
        found: Tensor = projection(self.towers[name](seen))
        features: Tensor = found.new_zeros(shape).masked_scatter(each.mask[..., None], found)
        return features


class Pool(nn.Module):
    """One feature of the tokens of a modality: their mean by learned attention and their weights.

    ``(B, T, width)`` to ``(B, width)``; zeros where there is no token.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.score = nn.Linear(width, 1)

    def forward(self, tokens: ModalityBatch) -> Tensor:
        score = self.score(tokens.values).squeeze(-1).float()
        score = score + torch.log(tokens.weights.clamp(min=_LEAST_WEIGHT))
        least = torch.finfo(score.dtype).min
        share = F.softmax(score.masked_fill(~tokens.mask, least), dim=1) * tokens.mask
        return torch.einsum("bt,btw->bw", share.to(tokens.values.dtype), tokens.values)


class Answers(nn.Module):
    """A linear layer to the logits of all tags and classes; captions may be all that is told."""

    def __init__(self, config: FuserConfig, *, bias: bool = True) -> None:
        super().__init__()
        self.n_tags, self.n_classes = len(config.tags), len(config.classes)
        size = self.n_tags + self.n_classes
        self.linear = nn.Linear(config.width, size, bias=bias) if size else None

    def forward(self, feature: Tensor) -> Logits:
        if self.linear is None:
            return self.split(feature.new_zeros((len(feature), 0)))
        return self.split(self.linear(feature).float())

    def split(self, logits: Tensor) -> Logits:
        """From ``(B, n_tags + n_classes)``."""
        return Logits(tags=logits[:, : self.n_tags], classes=logits[:, self.n_tags :])


class HeadedNetwork(FusionNetwork):
    """A fuser that answers all tasks from one fused feature ``(B, width)``."""

    def __init__(self, config: FuserConfig) -> None:
        super().__init__(config)
        self.answers = Answers(config)
        self.place = nn.Linear(config.width, config.embedding_dimension)

    def start_from(self, prior: Logits) -> None:
        if self.answers.linear is not None:
            self.answers.linear.bias.data.copy_(torch.cat([prior.tags, prior.classes]))

    def _outputs(self, feature: Tensor) -> Outputs:
        place = F.normalize(self.place(feature).float(), dim=-1)
        return Outputs(logits=self.answers(feature), embedding=place)


def _projection(modality: ModalityConfig, config: FuserConfig) -> nn.Module:
    if modality.tower is not None and modality.dimension == config.width:
        # A tower ends in such a layer itself; one more made it learn slower, and worse.
        return nn.Identity()
    return nn.Sequential(
        nn.LayerNorm(modality.dimension),
        nn.Linear(modality.dimension, config.width),
        nn.GELU(),
        nn.Dropout(config.dropout),
    )
