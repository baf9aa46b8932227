"""Towers: small encoders that are trained with the fuser, one vector for each token."""

import torch
from torch import Tensor, nn

from pipeline.fusion.neural.blocks import Block
from pipeline.fusion.neural.config import TowerConfig


class Tower(nn.Module):
    """Standardises arrays ``(N, C, H, W)`` and encodes them as ``(N, dimension)``.

    The mean and spread of each channel are those of the training part (:meth:`standardise_by`).
    """

    offset: Tensor
    scale: Tensor

    def __init__(self, config: TowerConfig, dimension: int) -> None:
        super().__init__()
        channels = config.input_shape[0]
        self.register_buffer("offset", torch.zeros(channels, 1, 1))
        self.register_buffer("scale", torch.ones(channels, 1, 1))
        encoder = _conv if config.kind == "conv" else _PatchEncoder
        self.encoder: nn.Module = encoder(config, dimension)

    def standardise_by(self, values: Tensor) -> None:
        """Take the standardisation from arrays ``(N, C, H, W)``; a constant channel stays."""
        if not len(values):
            return
        spread, mean = torch.std_mean(values.double(), dim=(0, 2, 3), correction=0)
        self.offset.copy_(mean[:, None, None])
        self.scale.copy_(torch.where(spread > 0, spread, 1.0)[:, None, None])

    def forward(self, values: Tensor) -> Tensor:
        x = (values - self.offset) / self.scale
        if self.training and len(x) == 1:
            # Batch norm needs two of a kind.
            x = x.expand(2, -1, -1, -1)
        encoded: Tensor = self.encoder(x)
        return encoded[: len(values)]


def _conv(config: TowerConfig, dimension: int) -> nn.Module:
    layers: list[nn.Module] = []
    channels = config.input_shape[0]
    for width in config.widths:
        # Halved before the norm: the same maxima, and a quarter of the work after them.
        layers += [
            nn.Conv2d(channels, width, 3, padding=1, bias=False),
            nn.MaxPool2d(2),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        ]
        channels = width
    sides = [side // 2 ** len(config.widths) for side in config.input_shape[1:]]
    if max(sides) > config.grid:
        sides = [min(side, config.grid) for side in sides]
        layers.append(nn.AdaptiveAvgPool2d((sides[0], sides[1])))
    layers += [
        # Whole channels: neighbours in a map would tell what was dropped.
        nn.Dropout2d(config.dropout),
        nn.Flatten(),
        nn.Linear(channels * sides[0] * sides[1], dimension),
        nn.ReLU(),
    ]
    return _ChannelsLast(*layers)


class _ChannelsLast(nn.Sequential):
    """Convolutions are up to twice as fast on a CPU where the channels of a pixel lie together."""

    def forward(self, values: Tensor) -> Tensor:
        x = values.contiguous(memory_format=torch.channels_last)
        for layer in self:
            x = layer(x)
        return x


class _PatchEncoder(nn.Module):
    """A small vision transformer (Dosovitskiy et al. 2021), the mean of its patches at the end."""

    def __init__(self, config: TowerConfig, dimension: int) -> None:
        super().__init__()
        channels, height, width = config.input_shape
        size, inner = config.patch, config.widths[0]
        self.patches = nn.Conv2d(channels, inner, size, stride=size)
        self.places = nn.Parameter(torch.randn(1, (height // size) * (width // size), inner) * 0.02)
        self.blocks = nn.ModuleList(
            Block(inner, config.heads, config.dropout) for _ in range(config.depth)
        )
        self.out = nn.Sequential(nn.LayerNorm(inner), nn.Linear(inner, dimension), nn.ReLU())

    def forward(self, values: Tensor) -> Tensor:
        x = self.patches(values).flatten(2).transpose(1, 2) + self.places
        for block in self.blocks:
            x = block(x)
        encoded: Tensor = self.out(x.mean(dim=1))
        return encoded
