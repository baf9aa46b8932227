"""CLIP, SigLIP and SigLIP 2: pictures and texts in one vector space."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoTokenizer

from pipeline.errors import ModelUnavailableError
from pipeline.models.base import Calibration, ImageFeatures
from pipeline.models.checks import check_text, vendor_errors
from pipeline.models.hub.encoder import HubEncoder, HubTextEncoder, Inputs
from pipeline.models.hub.loading import to_pil
from schemas.records import Image


class _DualEncoder(HubEncoder):
    """The loading both sides share; ``space`` is equal for both sides."""

    def _load_dual_encoder(self, folder: Path) -> Any:
        network = self._load_network(AutoModel, folder)
        if not (hasattr(network, "get_image_features") and hasattr(network, "get_text_features")):
            raise ModelUnavailableError(
                f"model {self.info.name}: {folder} holds a {type(network).__name__}, which does "
                "not embed pictures and texts; use a CLIP or SigLIP checkpoint"
            )
        return network

    def _load_config(self, folder: Path) -> Any:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


class ImageTextImages(_DualEncoder):
    """The picture side; implements :class:`pipeline.models.base.ImageModel`."""

    class_names: tuple[str, ...] = ()
    tower = "image-text-pictures"
    free_axes = {"pixel_values": (0,)}  # noqa: RUF012  read by the base class only

    def _load_inputs(self, folder: Path) -> None:
        # One backend everywhere: the other resizes differently, and only where it is installed.
        self._image_processor = AutoImageProcessor.from_pretrained(  # type: ignore[no-untyped-call]
            folder, backend="pil", local_files_only=True, trust_remote_code=False
        )
        # The variants that keep the aspect ratio ("naflex") scale their positions per picture.
        self._keeps_aspect = self._load_config(folder).model_type == "siglip2"

    def _can_export(self) -> bool:
        return not self._keeps_aspect

    def _load_tower(self, folder: Path) -> torch.nn.Module:
        network = self._load_dual_encoder(folder)
        network.text_model = None
        return _PictureTower(network)

    def _examples(self) -> list[list[Inputs]]:
        rng = np.random.default_rng(0)
        pictures = [rng.integers(0, 256, (40, 60, 3), dtype=np.uint8) for _ in range(3)]
        return [[self._pixels(one) for one in pictures[:2]], [self._pixels(pictures[2])]]

    def prepare(self, item: Image) -> Inputs:
        """A picture as the network's pixels, scaled and normalised."""
        self._ready()
        with vendor_errors(self.info.name):
            return self._pixels(item)

    def _pixels(self, picture: Image) -> Inputs:
        inputs = self._image_processor(
            images=to_pil(picture, self.info.name),
            input_data_format="channels_last",
            return_tensors="pt",
        )
        return {name: tensor[0] for name, tensor in inputs.items()}

    def infer(self, batch: Sequence[Inputs]) -> list[ImageFeatures]:
        """One L2-normalised embedding per picture; there are no class scores."""
        return [
            ImageFeatures(embedding=vector, class_scores=None) for vector in self._vectors(batch)
        ]


class ImageTextLabels(_DualEncoder, HubTextEncoder):
    """The text side, for label names and queries; implements ``LabelModel``."""

    tower = "image-text-texts"

    def _load_inputs(self, folder: Path) -> None:
        self._tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        config = self._load_config(folder)
        self._max_tokens = int(config.text_config.max_position_embeddings)
        self._is_siglip = config.model_type.startswith("siglip")
        if self._is_siglip:
            self.free_axes = {"input_ids": (0,)}
        self.calibration = _calibration(folder, is_siglip=self._is_siglip)

    def _load_tower(self, folder: Path) -> torch.nn.Module:
        network = self._load_dual_encoder(folder)
        network.vision_model = None
        return _TextTower(network)

    def _tokens(self, text: str) -> Inputs:
        if not self._is_siglip:
            return super()._tokens(text)
        check_text(text, self.info.name)
        return self._siglip_tokens(text)

    def _siglip_tokens(self, text: str) -> Inputs:
        """Lowercase text, one end token, padded on the right to the full length, no mask.

        SigLIP was trained so, and reads its answer off the last place. Built here because the
        tokenizers of its checkpoints disagree: some pad on the left or leave out the end.
        """
        end, pad = self._tokenizer.eos_token_id, self._tokenizer.pad_token_id
        with self._tokenizing:
            ids = self._tokenizer(
                text.lower(),
                add_special_tokens=False,
                truncation=True,
                max_length=self._max_tokens - 1,
            )["input_ids"]
        return {"input_ids": torch.tensor([*ids, end, *[pad] * (self._max_tokens - 1 - len(ids))])}


class _PictureTower(torch.nn.Module):
    """Pixels, and what else the processor gives, to vectors ``(n, dimension)``."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixel_values: torch.Tensor, **others: torch.Tensor) -> Any:
        return self.network.get_image_features(pixel_values=pixel_values, **others).pooler_output


class _TextTower(torch.nn.Module):
    """Token ids, with a mask or without, to vectors ``(n, dimension)``."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> Any:
        return self.network.get_text_features(
            input_ids=input_ids, attention_mask=attention_mask
        ).pooler_output


def _calibration(folder: Path, *, is_siglip: bool) -> Calibration:
    """As the checkpoint states it, whichever part of it is loaded."""
    found: dict[str, float] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as weights:
            for name in {"logit_scale", "logit_bias"} & set(weights.keys()):
                found[name] = float(weights.get_tensor(name))
    return Calibration(
        kind="sigmoid" if is_siglip else "softmax",
        scale=math.exp(found["logit_scale"]),
        bias=found["logit_bias"] if is_siglip else 0.0,
    )
