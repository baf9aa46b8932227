"""A large fuser teaches a small one: who may teach, and what a small one looks like.

The teaching itself is a loss of :mod:`pipeline.training.learner` (Hinton et al. 2015, "Distilling
the knowledge in a neural network").
"""

from dataclasses import replace

from pipeline.errors import ConfigurationError
from pipeline.fusion.neural.config import FuserConfig, ModalityConfig, TowerConfig
from pipeline.fusion.neural.items import token_shape
from pipeline.fusion.neural.network import build_network, parameter_count
from pipeline.fusion.neural.predict import TrainedFuser

_STEPS = 64


def check_teacher(teacher: TrainedFuser, config: FuserConfig) -> None:
    """Whether a teacher answers what the pupil is asked, from what the pupil is given.

    Raises:
        ConfigurationError: its labels or its modalities are others.
    """
    own = teacher.config
    if (own.tags, own.classes) != (config.tags, config.classes):
        raise ConfigurationError(
            "the teacher tells other tags or classes than the fuser it is to teach; give both the "
            "same, in the same order"
        )
    taught = {each.name: token_shape(each) for each in config.modalities}
    if {each.name: token_shape(each) for each in own.modalities} != taught:
        raise ConfigurationError(
            f"the teacher reads {list(own.modality_names)} and the fuser it is to teach "
            f"{list(taught)}, or tokens of other shapes; give both the same"
        )


def smaller(config: FuserConfig, share: float) -> FuserConfig:
    """The configuration with all its widths scaled down alike, as far as needed to have at most
    this share of its parameters. What is stored keeps its dimension.

    Raises:
        ConfigurationError: the share is not between 0 and 1, or no such fuser is that small.
    """
    if not 0 < share < 1:
        raise ConfigurationError(f"a smaller fuser was asked for by the share {share}; use 0 to 1")
    allowed = share * parameter_count(build_network(config))
    for step in range(_STEPS - 1, 0, -1):
        try:
            found = _scaled(config, step / _STEPS)
        except ConfigurationError:
            break
        if parameter_count(build_network(found)) <= allowed:
            return found
    raise ConfigurationError(
        f"no fuser of this shape has {share:g} of its parameters; ask for a larger share"
    )


def _scaled(config: FuserConfig, factor: float) -> FuserConfig:
    return replace(
        config,
        width=_rounded(config.width * factor, config.heads),
        modalities=tuple(_scaled_modality(each, factor) for each in config.modalities),
    )


def _scaled_modality(modality: ModalityConfig, factor: float) -> ModalityConfig:
    tower = modality.tower
    if tower is None:
        return modality
    unit = tower.heads if tower.kind == "patch" else 1
    widths = tuple(_rounded(width * factor, unit) for width in tower.widths)
    dimension = _rounded(modality.dimension * factor, 1)
    small: TowerConfig = replace(tower, widths=widths)
    return replace(modality, dimension=dimension, tower=small)


def _rounded(value: float, unit: int) -> int:
    return max(1, int(value / unit)) * unit
