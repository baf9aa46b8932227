"""Items as tensors: all tokens of a modality in one row, and padded batches taken from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.fusion.neural.config import FuserConfig, ModalityConfig
from pipeline.fusion.neural.items import FusionItem, TokenSet, check_item, token_shape


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ModalityBatch:
    """Tokens of one modality: ``values`` ``(B, T, ...)``, ``spans`` ``(B, T, 2)``, ``weights``
    ``(B, T)``, and ``mask`` ``(B, T)``, true where there is a token. T is at least 1."""

    values: Tensor
    spans: Tensor
    weights: Tensor
    mask: Tensor


Batch = Mapping[str, ModalityBatch]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Row:
    values: Tensor
    spans: Tensor
    weights: Tensor
    starts: Tensor
    counts: Tensor


class PackedItems:
    """Many items by modality, without padding.

    Raises:
        ContractError: an item does not fit the configuration.
    """

    def __init__(self, items: Sequence[FusionItem], config: FuserConfig) -> None:
        for item in items:
            check_item(item, config)
        self.size = len(items)
        self._rows = {modality.name: _row(items, modality) for modality in config.modalities}

    def values_of(self, name: str, indices: Tensor) -> Tensor:
        """The tokens of a modality of these items, ``(tokens, ...)``, without padding."""
        row = self._rows[name]
        counts = row.counts[indices]
        first = torch.repeat_interleave(row.starts[indices] - counts.cumsum(0) + counts, counts)
        return row.values[first + torch.arange(len(first))]

    def batch(self, indices: Tensor, device: torch.device) -> Batch:
        """The items at ``indices`` (int64 ``(B,)``), padded to the longest of them."""
        return {name: _padded(row, indices, device) for name, row in self._rows.items()}


def _row(items: Sequence[FusionItem], modality: ModalityConfig) -> _Row:
    sets = [item.modalities.get(modality.name) for item in items]
    counts = np.array([0 if one is None else len(one.values) for one in sets], dtype=np.int64)
    present = [one for one in sets if one is not None]
    if not present:
        # Something for the places without a token to point at.
        zeros = np.zeros((1, *token_shape(modality)), dtype=np.float32)
        present = [TokenSet.whole(zeros)]
    return _Row(
        values=torch.from_numpy(np.concatenate([one.values for one in present])),
        spans=torch.from_numpy(np.concatenate([one.spans for one in present])),
        weights=torch.from_numpy(np.concatenate([one.weights for one in present])),
        starts=torch.from_numpy(np.cumsum(counts) - counts),
        counts=torch.from_numpy(counts),
    )


def _padded(row: _Row, indices: Tensor, device: torch.device) -> ModalityBatch:
    counts = row.counts[indices]
    longest = max(1, int(counts.max())) if len(indices) else 1
    steps = torch.arange(longest)
    mask = steps[None, :] < counts[:, None]
    # A place without a token points at the first one, and the mask hides it.
    at = torch.where(mask, row.starts[indices][:, None] + steps, 0)
    return ModalityBatch(
        values=row.values[at].to(device),
        spans=row.spans[at].to(device),
        weights=row.weights[at].to(device),
        mask=mask.to(device),
    )
