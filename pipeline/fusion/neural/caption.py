"""Captions: a small causal transformer that looks at the fused tokens, over byte-pair tokens.

The tokenizer is trained on the captions of the training part, byte by byte below its merges, so
every text can be written. Decoding is greedy: the same item gives the same sentence.
"""

from collections.abc import Sequence

import torch
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.normalizers import NFC
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from torch import Tensor, nn

from pipeline.errors import ContractError
from pipeline.fusion.neural.attention import AttentionNetwork
from pipeline.fusion.neural.base import Outputs
from pipeline.fusion.neural.blocks import Block
from pipeline.fusion.neural.config import CaptionConfig, FuserConfig

PAD, BEGIN, END = 0, 1, 2
_SPECIAL = ["<pad>", "<begin>", "<end>"]


class CaptioningNetwork(AttentionNetwork):
    """An attention fuser that also writes captions."""

    def __init__(self, config: FuserConfig) -> None:
        super().__init__(config)
        if config.caption is None:
            raise ContractError("a captioning network was built from a configuration without one")
        self.decoder = CaptionDecoder(config.caption, config)

    def caption_logits(self, outputs: Outputs, tokens: Tensor) -> Tensor:
        """``(B, L, vocabulary)``: after each of ``tokens`` ``(B, L)``, what comes next."""
        memory, mask = outputs.memory, outputs.memory_mask
        if memory is None or mask is None:
            raise ContractError("captions were asked of outputs without fused tokens")
        logits: Tensor = self.decoder(tokens, memory, mask)
        return logits

    @torch.inference_mode()
    def write(self, outputs: Outputs, vocabulary: int) -> list[list[int]]:
        """The likeliest token after each one, until the end or the longest caption.

        ``vocabulary``: of the tokenizer, which may have found fewer merges than it was allowed.
        """
        tokens = torch.full((len(outputs.embedding), 1), BEGIN, device=outputs.embedding.device)
        for _ in range(self.decoder.max_tokens):
            # What is special is never written, except the end.
            logits = self.caption_logits(outputs, tokens)[:, -1, :vocabulary]
            logits[:, [PAD, BEGIN]] = -torch.inf
            after = logits.argmax(dim=-1).masked_fill((tokens == END).any(dim=1), END)
            tokens = torch.cat([tokens, after[:, None]], dim=1)
            if (tokens == END).any(dim=1).all():
                break
        rows = tokens[:, 1:].tolist()
        return [row[: row.index(END)] if END in row else row for row in rows]


class CaptionDecoder(nn.Module):
    """Token ids ``(B, L)`` and a memory ``(B, S, width)`` to logits ``(B, L, vocabulary)``."""

    def __init__(self, caption: CaptionConfig, config: FuserConfig) -> None:
        super().__init__()
        self.max_tokens = caption.max_tokens
        self.tokens = nn.Embedding(caption.vocabulary, config.width)
        self.places = nn.Embedding(caption.max_tokens + 1, config.width)
        nn.init.normal_(self.tokens.weight, std=0.02)
        nn.init.normal_(self.places.weight, std=0.02)
        self.memory_norm = nn.LayerNorm(config.width)
        self.blocks = nn.ModuleList(
            Block(config.width, config.heads, config.dropout, cross=True)
            for _ in range(caption.depth)
        )
        self.norm = nn.LayerNorm(config.width)

    def forward(self, tokens: Tensor, memory: Tensor, memory_mask: Tensor) -> Tensor:
        places = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.tokens(tokens) + self.places(places)
        memory = self.memory_norm(memory)
        for block in self.blocks:
            x = block(x, causal=True, memory=memory, memory_mask=memory_mask[:, None, None, :])
        # The embedding is read backwards too: a third of a small decoder's parameters less.
        logits: Tensor = nn.functional.linear(self.norm(x), self.tokens.weight)
        return logits.float()


def train_tokenizer(captions: Sequence[str], caption: CaptionConfig) -> Tokenizer:
    """Byte-pair merges of these captions; deterministic."""
    tokenizer = Tokenizer(BPE())
    tokenizer.normalizer = NFC()
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(
        vocab_size=caption.vocabulary,
        special_tokens=_SPECIAL,
        initial_alphabet=ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(captions, trainer)
    return tokenizer


def encode_captions(
    captions: Sequence[str | None], tokenizer: Tokenizer, caption: CaptionConfig
) -> Tensor:
    """int64 ``(n, max_tokens + 1)``: begin, tokens, end, padding; only padding for ``None``.

    What is too long is cut and has no end.
    """
    # "<end>" in somebody's text is text.
    tokenizer.encode_special_tokens = True
    rows = torch.full((len(captions), caption.max_tokens + 1), PAD)
    for at, text in enumerate(captions):
        if text is not None:
            ids = [BEGIN, *tokenizer.encode(text, add_special_tokens=False).ids, END]
            ids = ids[: caption.max_tokens + 1]
            rows[at, : len(ids)] = torch.tensor(ids)
    return rows
