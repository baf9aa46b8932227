"""What the registry knows about a model without importing its libraries."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from pipeline.models.base import ModelInfo

JSON: TypeAlias = "str | int | float | bool | list[JSON] | dict[str, JSON] | None"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEntry:
    """A model by name; fingerprints are computed from ``info`` alone.

    ``factory`` is ``"package.module:Class"``, imported only when the model is created.
    ``options`` are keyword arguments for the factory besides ``info``. ``weights_bytes``: size of
    the weights' files, as published or measured; ``None``: not known. ``packages``
    (``name==version``): what must be installed, which ``extra`` of mediaweave brings.
    """

    info: ModelInfo
    factory: str
    options: Mapping[str, JSON] = field(default_factory=dict)
    weights_bytes: int | None = None
    packages: tuple[str, ...] = ()
    extra: str | None = None
