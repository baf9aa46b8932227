"""From a configuration to its network."""

import torch

from pipeline.fusion.neural.attention import AttentionNetwork
from pipeline.fusion.neural.base import FusionNetwork
from pipeline.fusion.neural.caption import CaptioningNetwork
from pipeline.fusion.neural.concat import ConcatNetwork
from pipeline.fusion.neural.config import FuserConfig
from pipeline.fusion.neural.late import LateNetwork


def build_network(config: FuserConfig) -> FusionNetwork:
    """An untrained network, its weights drawn from torch's current seed."""
    if config.caption is not None:
        network: FusionNetwork = CaptioningNetwork(config)
    else:
        kinds = {"late": LateNetwork, "concat": ConcatNetwork, "attention": AttentionNetwork}
        network = kinds[config.kind](config)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def parameter_count(network: torch.nn.Module) -> int:
    """How many numbers are learned."""
    return sum(parameter.numel() for parameter in network.parameters())
