"""Captions: one sentence about a picture, decoded greedily so that it can be repeated."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import AutoModelForImageTextToText, AutoProcessor

from pipeline.errors import ModelUnavailableError
from pipeline.models.base import CaptionRequest, ModelInfo
from pipeline.models.hub.loading import HubModel, to_pil


class Captioner(HubModel):
    """BLIP; implements :class:`pipeline.models.base.CaptionModel`.

    ``max_new_tokens``: longest caption, in tokens. A prompt is the beginning of the sentence, and
    the caption contains it.
    """

    def __init__(self, *, info: ModelInfo, max_new_tokens: int = 40, **options: Any) -> None:
        super().__init__(info=info, **options)
        self._max_new_tokens = max_new_tokens

    def _load_parts(self, folder: Path) -> None:
        self._processor = AutoProcessor.from_pretrained(  # type: ignore[no-untyped-call]
            folder, backend="pil", local_files_only=True, trust_remote_code=False
        )
        network = self._load_network(AutoModelForImageTextToText, folder)
        if network.config.model_type != "blip":
            raise ModelUnavailableError(
                f"model {self.info.name}: {folder} holds a {type(network).__name__}; use a BLIP "
                "captioning checkpoint"
            )
        self._network = network

    def infer(self, batch: Sequence[CaptionRequest]) -> list[str]:
        """One caption per request. Requests with the same prompt share a pass."""
        captions = [""] * len(batch)
        # Prompts of different lengths would need padding, which BLIP's decoder continues from.
        by_prompt: dict[str | None, list[int]] = {}
        for index, request in enumerate(batch):
            by_prompt.setdefault(request.prompt or None, []).append(index)
        for prompt, indices in by_prompt.items():
            texts = self._describe([batch[index] for index in indices], prompt)
            for index, text in zip(indices, texts, strict=True):
                captions[index] = text
        return captions

    def _describe(self, requests: list[CaptionRequest], prompt: str | None) -> list[str]:
        with self._inference() as network:
            inputs = self._processor(
                images=[to_pil(request.image) for request in requests],
                text=None if prompt is None else [prompt] * len(requests),
                return_tensors="pt",
            ).to(self._device, self._dtype)
            tokens = network.generate(
                **inputs, do_sample=False, num_beams=1, max_new_tokens=self._max_new_tokens
            )
        decoded: list[str] = self._processor.batch_decode(tokens, skip_special_tokens=True)
        return [text.strip() for text in decoded]
