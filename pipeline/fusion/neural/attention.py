"""Attention fusion with bottleneck tokens.

Source: Nagrani et al. 2021, "Attention bottlenecks for multimodal fusion" (NeurIPS). Each modality
has its own transformer; in every layer its tokens see each other and a few bottleneck tokens, and
what the modalities made of the bottlenecks is averaged. So all exchange between modalities passes
through few tokens, and cost grows with the sum of the modalities' tokens, not with its square.

As there, each modality's own class token speaks in the end. Ours begin as the pooled tokens, so
that what a modality knows by itself is learned as fast as without attention. They are projected and
added, together with the bottlenecks, before one more layer and the heads: adding keeps what
independent modalities know (see :mod:`pipeline.fusion.neural.late`), and an absent modality adds
nothing.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from pipeline.fusion.neural.base import Encoded, HeadedNetwork, Outputs, Pool
from pipeline.fusion.neural.batches import ModalityBatch
from pipeline.fusion.neural.blocks import Block
from pipeline.fusion.neural.config import FuserConfig

_FREQUENCIES = 4
_BEGIN = 0.01


class AttentionNetwork(HeadedNetwork):
    """See the module."""

    def __init__(self, config: FuserConfig) -> None:
        super().__init__(config)
        width, names = config.width, config.modality_names
        self.times = nn.Linear(4 * _FREQUENCIES + 1, width)
        self.own = nn.ParameterDict({name: _normal(1, 1, width) for name in names})
        self.speakers = nn.ParameterDict({name: _normal(1, width) for name in names})
        self.pools = nn.ModuleDict({name: Pool(width) for name in names})
        self.bottlenecks = _normal(1, config.bottlenecks, width)
        self.layers = nn.ModuleList(
            nn.ModuleDict(
                {name: Block(width, config.heads, config.dropout, begin=_BEGIN) for name in names}
            )
            for _ in range(config.depth)
        )
        # No norm here: how far a modality speaks up is how sure it is.
        self.says = nn.ModuleDict({name: nn.Linear(width, width) for name in names})
        self.joint = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width))
        self.read = nn.Sequential(nn.LayerNorm(width), nn.GELU(), nn.Dropout(config.dropout))

    def fuse(self, encoded: Encoded) -> Outputs:
        present = encoded.present()
        share = present.float() / present.sum(dim=1, keepdim=True).clamp(min=1)
        states = {name: self._enter(name, each) for name, each in encoded.tokens.items()}
        masks = {
            name: nn.functional.pad(each.mask, (1, self.config.bottlenecks), value=True)
            for name, each in encoded.tokens.items()
        }
        shared = self.bottlenecks.expand(len(present), -1, -1)
        for layer in self.layers:
            made = []
            for name, block in layer.items():  # type: ignore[operator]
                joined = torch.cat([states[name], shared.to(states[name].dtype)], dim=1)
                seen = block(joined, masks[name][:, None, None, :])
                states[name] = seen[:, : -self.config.bottlenecks]
                made.append(seen[:, -self.config.bottlenecks :])
            shared = torch.einsum("bm,bmnw->bnw", share, torch.stack(made, dim=1).float())
        spoken = self.joint(shared.mean(dim=1))
        for at, name in enumerate(states):
            spoken = spoken + self.says[name](states[name][:, 0]) * present[:, at, None]
        outputs = self._outputs(self.read(spoken))
        if self.config.caption is None:
            return outputs
        return replace(
            outputs,
            memory=torch.cat([shared, *(state[:, 1:].float() for state in states.values())], dim=1),
            memory_mask=torch.cat(
                [torch.ones_like(shared[..., 0], dtype=torch.bool)]
                + [each.mask for each in encoded.tokens.values()],
                dim=1,
            ),
        )

    def _enter(self, name: str, each: ModalityBatch) -> Tensor:
        """``(B, 1 + T, width)``: the class token, then the tokens with their place in time."""
        tokens = each.values + self.times(_time_features(each)) + self.own[name]
        speaker = self.pools[name](each) + self.speakers[name]
        return torch.cat([speaker[:, None].to(tokens.dtype), tokens], dim=1)


def _time_features(each: ModalityBatch) -> Tensor:
    """``(B, T, 4 * frequencies + 1)``: sines and cosines of begin and end, and the weight."""
    turns = torch.pi * 2.0 ** torch.arange(_FREQUENCIES, device=each.spans.device)
    angles = (each.spans[..., None] * turns).flatten(2)
    return torch.cat([angles.sin(), angles.cos(), each.weights[..., None]], dim=-1)


def _normal(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape) * 0.02)
