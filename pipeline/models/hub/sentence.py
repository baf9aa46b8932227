"""Sentence embeddings: a transformer encoder, averaged over its tokens."""

import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer

from pipeline.errors import ModelUnavailableError
from pipeline.models.hub.encoder import HubTextEncoder


class SentenceEncoder(HubTextEncoder):
    """Mean-pooled encoder; implements :class:`pipeline.models.base.TextModel`."""

    tower = "sentence"

    def _load_inputs(self, folder: Path) -> None:
        self._check_pooling(folder)
        self._tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        if config.is_encoder_decoder or not hasattr(config, "hidden_size"):
            raise ModelUnavailableError(
                f"model {self.info.name}: {folder} holds a {config.model_type}, which is not a "
                "text encoder; use a sentence-transformers checkpoint"
            )
        self._max_tokens = _max_tokens(folder, config.max_position_embeddings)

    def _load_tower(self, folder: Path) -> torch.nn.Module:
        # The pooling head of BERT is not used: the average over the tokens is.
        return _MeanTower(self._load_network(AutoModel, folder, optional="pooler."))

    def _check_pooling(self, folder: Path) -> None:
        """A checkpoint that says it pools in another way would give wrong vectors silently."""
        file = folder / "1_Pooling" / "config.json"
        if not file.is_file():
            return
        pooling = json.loads(file.read_text(encoding="utf-8"))
        others = [
            key
            for key, on in pooling.items()
            if key.startswith("pooling_mode_") and on and key != "pooling_mode_mean_tokens"
        ]
        if others or pooling.get("pooling_mode", "mean") != "mean":
            raise ModelUnavailableError(
                f"model {self.info.name}: {file} asks for a pooling other than the mean; use a "
                "mean-pooled sentence model"
            )


class _MeanTower(torch.nn.Module):
    """Token ids and mask ``(n, length)`` to means over the tokens ``(n, dimension)``."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        output = self.network(input_ids=input_ids, attention_mask=attention_mask)
        hidden: torch.Tensor = output.last_hidden_state.float()
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        return (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1.0)


def _max_tokens(folder: Path, positions: int) -> int:
    """The length the model was trained for, where its checkpoint says so."""
    file = folder / "sentence_bert_config.json"
    if not file.is_file():
        return positions
    stated = json.loads(file.read_text(encoding="utf-8")).get("max_seq_length")
    return min(int(stated), positions) if stated else positions
