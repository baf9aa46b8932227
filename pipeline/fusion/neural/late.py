"""Late fusion: each modality decides by itself, and the decisions are weighed.

A modality's head says how far its tokens speak for or against a label beyond what is known without
looking (the prior). Those differences are added with one learned weight per modality and task, over
the modalities that are present: with weights of 1 that is the rule for modalities that err
independently (a product of experts, Hinton 2002; Kittler et al. 1998, "On combining classifiers").
"""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from pipeline.fusion.neural.base import Answers, Encoded, FusionNetwork, Logits, Outputs, Pool
from pipeline.fusion.neural.config import FuserConfig

#: Its softplus is 1.
_ONE = 0.5413


class LateNetwork(FusionNetwork):
    """See the module. The weights learn from the decisions, the decisions never from the weights,
    so each modality stays as good alone as it can be."""

    def __init__(self, config: FuserConfig) -> None:
        super().__init__(config)
        n_tags, n_classes = len(config.tags), len(config.classes)
        self.pools = nn.ModuleDict({name: Pool(config.width) for name in config.modality_names})
        self.deciders = nn.ModuleDict(
            {name: Answers(config, bias=False) for name in config.modality_names}
        )
        self.embedders = nn.ModuleDict(
            {
                name: nn.Linear(config.width, config.embedding_dimension)
                for name in config.modality_names
            }
        )
        self.prior = nn.Parameter(torch.zeros(n_tags + n_classes))
        self.tag_weights = nn.Parameter(torch.full((len(config.modalities),), _ONE))
        self.class_weights = nn.Parameter(torch.full((len(config.modalities),), _ONE))

    def start_from(self, prior: Logits) -> None:
        self.prior.data.copy_(torch.cat([prior.tags, prior.classes]))

    def fuse(self, encoded: Encoded) -> Outputs:
        present = encoded.present()
        evidence, places = [], []
        for name, tokens in encoded.tokens.items():
            feature = self.pools[name](tokens)
            said = self.deciders[name](feature)
            evidence.append(torch.cat([said.tags, said.classes], dim=1))
            places.append(self.embedders[name](feature).float())
        weights = self._weights(present)
        total = (torch.stack(evidence, dim=1).detach() * weights).sum(dim=1)
        place = (torch.stack(places, dim=1) * present[:, :, None]).sum(dim=1)
        return Outputs(
            logits=self._logits(total),
            embedding=F.normalize(place, dim=-1),
            alone={
                name: self._logits(each)
                for name, each in zip(encoded.tokens, evidence, strict=True)
            },
        )

    def _weights(self, present: Tensor) -> Tensor:
        """``(B, modalities, n_tags + n_classes)``: 0 where a modality is absent, 1 where it is
        all there is."""
        spread = torch.cat(
            [
                F.softplus(self.tag_weights)[:, None].expand(-1, len(self.config.tags)),
                F.softplus(self.class_weights)[:, None].expand(-1, len(self.config.classes)),
            ],
            dim=1,
        )
        only = (present.sum(dim=1) == 1)[:, None, None]
        return torch.where(only, torch.ones_like(spread), spread) * present[:, :, None]

    def _logits(self, evidence: Tensor) -> Logits:
        n_tags = len(self.config.tags)
        logits = self.prior + evidence
        return Logits(tags=logits[:, :n_tags], classes=logits[:, n_tags:])
