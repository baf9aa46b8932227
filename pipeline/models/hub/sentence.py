"""Sentence embeddings: a transformer encoder, averaged over its tokens."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import AutoModel, AutoTokenizer

from pipeline.errors import ModelUnavailableError
from pipeline.models.base import ModelInfo
from pipeline.models.hub.loading import HubModel, unit_rows
from schemas.records import FloatArray


class SentenceEncoder(HubModel):
    """Mean-pooled encoder; implements :class:`pipeline.models.base.TextModel`."""

    def __init__(self, *, info: ModelInfo, space: str, **options: Any) -> None:
        super().__init__(info=info, **options)
        self.space = space

    def _load_parts(self, folder: Path) -> None:
        self._check_pooling(folder)
        self._tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        # The pooling head of BERT is not used: the average over the tokens is.
        network = self._load_network(AutoModel, folder, optional="pooler.")
        config = network.config
        if config.is_encoder_decoder or not hasattr(config, "hidden_size"):
            raise ModelUnavailableError(
                f"model {self.info.name}: {folder} holds a {type(network).__name__}, which is not "
                "a text encoder; use a sentence-transformers checkpoint"
            )
        self._max_tokens = _max_tokens(folder, config.max_position_embeddings)
        self._network = network

    def infer(self, batch: Sequence[str]) -> list[FloatArray]:
        """One L2-normalised embedding per text; what exceeds the model's length is not read."""
        if not batch:
            return []
        with self._inference() as network:
            inputs = self._tokenizer(
                list(batch),
                padding=True,
                truncation=True,
                max_length=self._max_tokens,
                return_tensors="pt",
            ).to(self._device)
            hidden = network(**inputs).last_hidden_state.float()
            mask = inputs["attention_mask"].unsqueeze(-1).to(hidden.dtype)
            return unit_rows((hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1.0))

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


def _max_tokens(folder: Path, positions: int) -> int:
    """The length the model was trained for, where its checkpoint says so."""
    file = folder / "sentence_bert_config.json"
    if not file.is_file():
        return positions
    stated = json.loads(file.read_text(encoding="utf-8")).get("max_seq_length")
    return min(int(stated), positions) if stated else positions
