"""CLIP, SigLIP and SigLIP 2: pictures and texts in one vector space."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

from pipeline.errors import ModelUnavailableError
from pipeline.models.base import ImageFeatures, ModelInfo
from pipeline.models.hub.loading import HubModel, to_pil, unit_rows
from schemas.records import FloatArray, Image


class _DualEncoder(HubModel):
    """The loading both sides share. ``space`` names the vector space, equal for both sides."""

    def __init__(self, *, info: ModelInfo, space: str, **options: Any) -> None:
        super().__init__(info=info, **options)
        self.space = space

    def _load_dual_encoder(self, folder: Path) -> Any:
        network = self._load_network(AutoModel, folder)
        if not (hasattr(network, "get_image_features") and hasattr(network, "get_text_features")):
            raise ModelUnavailableError(
                f"model {self.info.name}: {folder} holds a {type(network).__name__}, which does "
                "not embed pictures and texts; use a CLIP or SigLIP checkpoint"
            )
        return network


class ImageTextImages(_DualEncoder):
    """The picture side; implements :class:`pipeline.models.base.ImageModel`."""

    class_names: tuple[str, ...] = ()

    def _load_parts(self, folder: Path) -> None:
        # One backend everywhere: the other resizes differently, and only where it is installed.
        self._image_processor = AutoImageProcessor.from_pretrained(  # type: ignore[no-untyped-call]
            folder, backend="pil", local_files_only=True, trust_remote_code=False
        )
        self._network = self._load_dual_encoder(folder)

    def infer(self, batch: Sequence[Image]) -> list[ImageFeatures]:
        """One L2-normalised embedding per picture; there are no class scores."""
        if not batch:
            return []
        with self._inference() as network:
            inputs = self._image_processor(
                images=[to_pil(picture) for picture in batch], return_tensors="pt"
            )
            output = network.get_image_features(**_placed(inputs, self._device, self._dtype))
            vectors = unit_rows(output.pooler_output)
        return [ImageFeatures(embedding=vector, class_scores=None) for vector in vectors]


class ImageTextLabels(_DualEncoder):
    """The text side, for label names and queries; implements ``TextModel``."""

    def _load_parts(self, folder: Path) -> None:
        self._tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        self._network = self._load_dual_encoder(folder)
        config = self._network.config
        self._max_tokens = int(config.text_config.max_position_embeddings)
        self._is_siglip = config.model_type.startswith("siglip")

    def infer(self, batch: Sequence[str]) -> list[FloatArray]:
        """One L2-normalised embedding per text, cut to the tokens the model can read."""
        if not batch:
            return []
        with self._inference() as network:
            inputs = self._siglip_tokens(batch) if self._is_siglip else self._clip_tokens(batch)
            output = network.get_text_features(**_placed(inputs, self._device, self._dtype))
            return unit_rows(output.pooler_output)

    def _clip_tokens(self, batch: Sequence[str]) -> Mapping[str, torch.Tensor]:
        tokens: Mapping[str, torch.Tensor] = self._tokenizer(
            list(batch),
            padding=True,
            truncation=True,
            max_length=self._max_tokens,
            return_tensors="pt",
        )
        return tokens

    def _siglip_tokens(self, batch: Sequence[str]) -> Mapping[str, torch.Tensor]:
        """Lowercase text, one end token, padded on the right to the full length, no mask.

        SigLIP was trained so, and reads its answer off the last place. Built here because the
        tokenizers of its checkpoints disagree: some pad on the left or leave out the end.
        """
        end, pad = self._tokenizer.eos_token_id, self._tokenizer.pad_token_id
        rows = self._tokenizer(
            [text.lower() for text in batch],
            add_special_tokens=False,
            truncation=True,
            max_length=self._max_tokens - 1,
        )["input_ids"]
        return {
            "input_ids": torch.tensor(
                [[*row, end, *[pad] * (self._max_tokens - 1 - len(row))] for row in rows]
            )
        }


def _placed(
    inputs: Mapping[str, torch.Tensor], device: torch.device, dtype: torch.dtype
) -> dict[str, torch.Tensor]:
    """The inputs on the device, pictures in the network's arithmetic, ids as they are."""
    return {
        name: tensor.to(device, dtype if tensor.is_floating_point() else tensor.dtype)
        for name, tensor in inputs.items()
    }
