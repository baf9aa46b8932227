"""What a trained fuser is made of, as plain values; written beside its weights as JSON.

Nothing here imports torch: plans, fingerprints and the command line read configurations too.
"""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from pipeline.errors import ConfigurationError
from pipeline.fusion.taxonomy import MAX_LABEL_LENGTH

#: Names of files in a checkpoint's folder.
CONFIG_NAME, CARD_NAME = "config.json", "README.md"

FuserKind = Literal["late", "concat", "attention"]
TowerKind = Literal["conv", "patch"]

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_MAX_SIDE = 1024
_MAX_WIDTH = 4096
_MAX_DEPTH = 24
_MAX_LABELS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TowerConfig:
    """An encoder that is trained with the fuser: arrays ``(C, H, W)`` in, one vector each out.

    ``input_shape``: channels, height, width of every token. ``widths``: for ``conv`` the channels
    after each block (3x3 convolution, halving, batch norm, ReLU); for ``patch`` a single number,
    the width of the transformer. ``grid``: for ``conv``, the longest side of the map that is left
    for the last, fully connected layer. ``patch``, ``depth``, ``heads``: for ``patch``, the side
    of a patch in pixels and the transformer's shape.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    kind: TowerKind = "conv"
    input_shape: tuple[int, int, int]
    widths: tuple[int, ...] = (32, 64, 128)
    grid: int = 4
    patch: int = 8
    depth: int = 2
    heads: int = 4
    dropout: float = 0.2

    def __post_init__(self) -> None:
        channels, height, width = self.input_shape
        _within("a tower's channels", channels, 1, 64)
        _within("a tower's input height", height, 4, _MAX_SIDE)
        _within("a tower's input width", width, 4, _MAX_SIDE)
        _within("the number of a tower's widths", len(self.widths), 1, 8)
        for each in self.widths:
            _within("a tower's width", each, 1, _MAX_WIDTH)
        _within("a tower's grid", self.grid, 1, 16)
        _within("a tower's depth", self.depth, 1, _MAX_DEPTH)
        _fraction("a tower's dropout", self.dropout)
        if self.kind == "patch":
            _patches(self)
        elif min(height, width) < 2 ** len(self.widths):
            raise ConfigurationError(
                f"a conv tower of {len(self.widths)} blocks halves its input as often, and "
                f"{height} x {width} is too small for that; give it fewer widths"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModalityConfig:
    """One modality. ``dimension``: of its stored vectors, or of the vector its tower makes.

    ``space``: the vector space stored features come from; ``None`` where there is a tower.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    name: str
    dimension: int
    tower: TowerConfig | None = None
    space: str | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ConfigurationError(
                f"modality {self.name!r} has a bad name; use up to 32 of a-z, 0-9, - and _, "
                "beginning with a letter"
            )
        _within(f"the dimension of {self.name}", self.dimension, 1, 16_384)
        if self.tower is not None and self.space is not None:
            raise ConfigurationError(
                f"modality {self.name} has a tower and the space {self.space!r}; give it one of "
                "them, since a tower makes a space of its own"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionConfig:
    """The caption decoder: a causal transformer over byte-pair tokens that looks at the fused
    tokens. ``vocabulary``: most entries of the tokenizer, which is trained on the captions."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    vocabulary: int = 2048
    depth: int = 2
    max_tokens: int = 32
    language: str | None = None

    def __post_init__(self) -> None:
        _within("the vocabulary of captions", self.vocabulary, 260, 65_536)
        _within("the depth of the caption decoder", self.depth, 1, _MAX_DEPTH)
        _within("the longest caption in tokens", self.max_tokens, 2, 512)


@dataclass(frozen=True, slots=True, kw_only=True)
class FuserConfig:
    """A fuser: its kind, what goes in, its size, and the tasks it answers.

    ``width``: of the fused features. ``depth``: layers of the MLP (``concat``) or of the
    transformer (``attention``); ``late`` has none. ``heads``, ``bottlenecks``: of ``attention``.
    ``tags``: scored one by one. ``classes``: one of them holds. ``caption``: ``attention`` only.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    kind: FuserKind
    modalities: tuple[ModalityConfig, ...]
    width: int = 128
    depth: int = 2
    heads: int = 4
    bottlenecks: int = 4
    dropout: float = 0.1
    tags: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    embedding_dimension: int = 128
    caption: CaptionConfig | None = None

    def __post_init__(self) -> None:
        names = self.modality_names
        _within("the number of modalities", len(names), 1, 16)
        _within("the number of tags", len(self.tags), 0, _MAX_LABELS)
        _within("the number of classes", len(self.classes), 0, _MAX_LABELS)
        _distinct("modalities", names)
        _distinct("tags", self.tags)
        _distinct("classes", self.classes)
        _within("the width of a fuser", self.width, 4, _MAX_WIDTH)
        _within("the depth of a fuser", self.depth, 1, _MAX_DEPTH)
        _within("the bottlenecks of a fuser", self.bottlenecks, 1, 256)
        _within("the embedding's dimension", self.embedding_dimension, 2, _MAX_WIDTH)
        _fraction("a fuser's dropout", self.dropout)
        _divides(self.width, self.heads)
        if len(self.classes) == 1:
            raise ConfigurationError(
                f"a fuser was given the one class {self.classes[0]!r}; name at least two, or make "
                "it a tag"
            )
        if not self.tags and not self.classes and self.caption is None:
            raise ConfigurationError("a fuser needs something to tell: tags, classes or captions")
        if self.caption is not None and self.kind != "attention":
            raise ConfigurationError(
                f"a fuser of kind {self.kind} writes no captions; use attention, or leave them out"
            )

    @property
    def modality_names(self) -> tuple[str, ...]:
        return tuple(modality.name for modality in self.modalities)

    def to_json(self) -> str:
        """Readable JSON; equal configurations give equal text."""
        return json.dumps(asdict(self), indent=2, sort_keys=True, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "FuserConfig":
        """The configuration written by :meth:`to_json`.

        Raises:
            ConfigurationError: no JSON, a field that is unknown, missing, of another type or out
                of bounds; the message names the first such field.
        """
        try:
            return _ADAPTER.validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise ConfigurationError(
                f"the configuration of a fuser is wrong{f' at {where}' if where else ''}: "
                f"{first['msg']}"
            ) from error


def _within(what: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ConfigurationError(f"{what} is {value}; use {low} to {high}")


def _fraction(what: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ConfigurationError(f"{what} is {value}; use 0 to below 1")


def _distinct(what: str, names: Sequence[str]) -> None:
    if any(not name.strip() for name in names):
        raise ConfigurationError(f"the {what} of a fuser hold an empty name; leave it out")
    if any("\0" in name or len(name) > MAX_LABEL_LENGTH for name in names):
        raise ConfigurationError(
            f"the {what} of a fuser hold a name that cannot be stored; use up to "
            f"{MAX_LABEL_LENGTH} characters, and no NUL"
        )
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise ConfigurationError(f"the {what} of a fuser name {twice[0]!r} twice; name each once")


def _divides(width: int, heads: int) -> None:
    if heads < 1 or width % heads:
        raise ConfigurationError(
            f"a width of {width} cannot be shared by {heads} heads; use a multiple of the heads"
        )


def _patches(tower: TowerConfig) -> None:
    _, height, width = tower.input_shape
    if len(tower.widths) != 1:
        raise ConfigurationError(
            f"a patch tower has one width, and {len(tower.widths)} were given; give one"
        )
    _divides(tower.widths[0], tower.heads)
    if tower.patch < 1 or height % tower.patch or width % tower.patch:
        raise ConfigurationError(
            f"an input of {height} x {width} does not fall into patches of {tower.patch} pixels; "
            "use a divisor of both"
        )


_ADAPTER = TypeAdapter(FuserConfig)
