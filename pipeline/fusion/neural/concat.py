"""Feature-level fusion: pooled, projected features of all modalities through one MLP."""

import torch
from torch import nn

from pipeline.fusion.neural.base import Encoded, HeadedNetwork, Outputs, Pool
from pipeline.fusion.neural.config import FuserConfig


class ConcatNetwork(HeadedNetwork):
    """The features side by side, zeros for absent modalities, with the mask of what is present."""

    def __init__(self, config: FuserConfig) -> None:
        super().__init__(config)
        self.pools = nn.ModuleDict({name: Pool(config.width) for name in config.modality_names})
        layers: list[nn.Module] = []
        size = len(config.modalities) * (config.width + 1)
        for _ in range(config.depth):
            layers += [
                nn.Linear(size, config.width),
                nn.LayerNorm(config.width),
                nn.GELU(),
                nn.Dropout(config.dropout),
            ]
            size = config.width
        self.mlp = nn.Sequential(*layers)

    def fuse(self, encoded: Encoded) -> Outputs:
        features = [self.pools[name](tokens) for name, tokens in encoded.tokens.items()]
        joined = torch.cat([*features, encoded.present().to(features[0].dtype)], dim=1)
        return self._outputs(self.mlp(joined))
