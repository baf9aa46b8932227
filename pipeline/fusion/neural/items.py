"""What a trained fuser reads: the tokens of one segment, by modality. numpy only."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.errors import ContractError
from pipeline.fusion.neural.config import FuserConfig, ModalityConfig
from schemas.records import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TokenSet:
    """The tokens of one modality, at least one: keyframes, cues, windows of sound.

    ``values``: float32 ``(T, D)`` features, or ``(T, C, H, W)`` for a modality with a tower.
    ``spans``: float32 ``(T, 2)``, begin and end of each token within the segment, 0-1.
    ``weights``: float32 ``(T,)``, 0-1, how much each token is to be trusted.

    Raises:
        ContractError: shapes disagree, there is no token, or a number is not finite or outside
            0-1.
    """

    values: FloatArray
    spans: FloatArray
    weights: FloatArray

    def __post_init__(self) -> None:
        tokens = len(self.values) if self.values.ndim else 0
        seen = f"{self.values.shape=} {self.spans.shape=} {self.weights.shape=}"
        if self.values.ndim not in {2, 4} or not tokens:
            raise ContractError(f"expected (T, D) or (T, C, H, W) tokens with T > 0, got {seen}")
        if self.spans.shape != (tokens, 2) or self.weights.shape != (tokens,):
            raise ContractError(f"expected a span and a weight for each token, got {seen}")
        kinds = {array.dtype for array in (self.values, self.spans, self.weights)}
        if kinds != {np.dtype(np.float32)}:
            raise ContractError(f"expected float32 tokens, got {sorted(map(str, kinds))}")
        if not np.isfinite(self.values).all():
            bad = np.flatnonzero(~np.isfinite(self.values.reshape(tokens, -1)).all(axis=1))
            raise ContractError(f"values of tokens {bad[:5].tolist()} are not finite, of {seen}")
        if not _in_unit(self.spans) or not (self.spans[:, 0] <= self.spans[:, 1]).all():
            raise ContractError(f"spans must be 0-1 and begin before they end: {self.spans[:5]}")
        if not _in_unit(self.weights):
            raise ContractError(f"weights must be 0-1: {self.weights[:5]}")

    @classmethod
    def whole(cls, values: npt.ArrayLike) -> "TokenSet":
        """Tokens that each span the whole segment, fully trusted."""
        array = np.asarray(values, dtype=np.float32)
        tokens = len(array) if array.ndim else 0
        spans = np.tile(np.array([0, 1], dtype=np.float32), (tokens, 1))
        return cls(values=array, spans=spans, weights=np.ones(tokens, dtype=np.float32))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FusionItem:
    """One segment. A modality that is absent is not in ``modalities``."""

    modalities: Mapping[str, TokenSet]


def check_item(item: FusionItem, config: FuserConfig) -> None:
    """Whether a fuser of this configuration can read the item.

    Raises:
        ContractError: a modality is unknown to the fuser, or its tokens have another shape.
    """
    known = {modality.name: modality for modality in config.modalities}
    for name, tokens in item.modalities.items():
        if name not in known:
            raise ContractError(f"the fuser knows {sorted(known)}, and was given {name!r}")
        wanted = token_shape(known[name])
        if tokens.values.shape[1:] != wanted:
            raise ContractError(f"expected {name} tokens of {wanted}, got {tokens.values.shape=}")


def token_shape(modality: ModalityConfig) -> tuple[int, ...]:
    """Of one token as the fuser takes it."""
    return modality.tower.input_shape if modality.tower is not None else (modality.dimension,)


def _in_unit(values: FloatArray) -> bool:
    return bool(np.isfinite(values).all() and (values >= 0).all() and (values <= 1).all())
