"""The transformer block that towers, the attention fuser and the caption decoder share."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head attention of ``x`` ``(B, T, width)`` over ``memory`` ``(B, S, width)``.

    ``mask``: bool, broadcast to ``(B, heads, T, S)``, true where ``x`` may look; every row needs
    one such place.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(
        self, x: Tensor, memory: Tensor, mask: Tensor | None = None, *, causal: bool = False
    ) -> Tensor:
        key, value = self.key_value(memory).chunk(2, dim=-1)
        mixed = F.scaled_dot_product_attention(
            self._split(self.query(x)),
            self._split(key),
            self._split(value),
            attn_mask=mask,
            is_causal=causal,
        )
        joined: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return joined

    def _split(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:-1], self.heads, -1).transpose(1, 2)


class Block(nn.Module):
    """A pre-norm transformer block; with ``cross``, it also looks at a memory.

    ``begin``: by how much what it adds is scaled at first (LayerScale, Touvron et al. 2021). A
    block that begins as nearly nothing lets what comes in be learned from first.
    """

    def __init__(
        self, width: int, heads: int, dropout: float, *, cross: bool = False, begin: float = 1.0
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.cross_norm = nn.LayerNorm(width) if cross else None
        self.cross = Attention(width, heads) if cross else None
        self.feed = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.drop = nn.Dropout(dropout)
        self.attended = nn.Parameter(torch.full((width,), begin))
        self.crossed = nn.Parameter(torch.full((width,), begin)) if cross else None
        self.fed = nn.Parameter(torch.full((width,), begin))

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        *,
        causal: bool = False,
        memory: Tensor | None = None,
        memory_mask: Tensor | None = None,
    ) -> Tensor:
        normed = self.norm(x)
        x = x + self.attended * self.drop(self.attention(normed, normed, mask, causal=causal))
        if self.cross is not None and self.cross_norm is not None and memory is not None:
            x = x + self.crossed * self.drop(self.cross(self.cross_norm(x), memory, memory_mask))
        fed: Tensor = x + self.fed * self.drop(self.feed(x))
        return fed
