"""Captions: one sentence about a picture, decoded greedily so that it can be repeated."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor, LogitsProcessorList

from pipeline.errors import ModelUnavailableError
from pipeline.models.base import CaptionRequest, ModelInfo
from pipeline.models.checks import vendor_errors
from pipeline.models.hub.decoding import NanGuard
from pipeline.models.hub.loading import HubModel, to_pil

#: ``pixel_values`` and, with a prompt, ``input_ids``; each with a batch axis of 1.
Inputs = Mapping[str, torch.Tensor]


class Captioner(HubModel):
    """BLIP; implements :class:`pipeline.models.base.CaptionModel`.

    It looks at the first picture of a request, and reads none of its words. ``max_new_tokens``:
    longest caption, in tokens. A prompt is the beginning of the sentence, and the caption contains
    it.
    """

    max_images = 1

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
        self._compiled(network.vision_model)

    def prepare(self, item: CaptionRequest) -> Inputs:
        """A picture as the network's pixels, and the prompt as token ids."""
        self._ready()
        with vendor_errors(self.info.name):
            pixels = self._processor.image_processor(
                images=to_pil(item.images[0], self.info.name),
                input_data_format="channels_last",
                return_tensors="pt",
            )["pixel_values"]
            if not item.prompt:
                return {"pixel_values": pixels}
            with self._tokenizing:
                ids = self._processor.tokenizer(item.prompt, return_tensors="pt")["input_ids"]
            return {"pixel_values": pixels, "input_ids": ids}

    def infer(self, batch: Sequence[Inputs]) -> list[str]:
        """One caption per request. Requests with the same prompt share a pass."""
        captions = [""] * len(batch)
        # Prompts of different lengths would need padding, which BLIP's decoder continues from.
        by_prompt: dict[tuple[int, ...], list[int]] = {}
        for index, inputs in enumerate(batch):
            prompt = tuple(inputs["input_ids"][0].tolist()) if "input_ids" in inputs else ()
            by_prompt.setdefault(prompt, []).append(index)
        for indices in by_prompt.values():
            texts = self._describe([batch[index] for index in indices])
            for index, text in zip(indices, texts, strict=True):
                captions[index] = text
        return captions

    def _describe(self, alike: list[Inputs]) -> list[str]:
        guard = NanGuard()
        with self._inference() as network:
            inputs = {
                name: self._placed(torch.cat([one[name] for one in alike])) for name in alike[0]
            }
            tokens = network.generate(
                **inputs,
                do_sample=False,
                num_beams=1,
                max_new_tokens=self._max_new_tokens,
                logits_processor=LogitsProcessorList([guard]),
            )
            guard.check(self.info.name)
        decoded: list[str] = self._processor.batch_decode(tokens, skip_special_tokens=True)
        return [text.strip() for text in decoded]
