"""BLIP for questions about pictures: answers of a word or a few, decoded greedily."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForVisualQuestionAnswering, AutoProcessor

from pipeline.errors import ModelUnavailableError
from pipeline.models.base import Answer, ModelInfo, QuestionRequest
from pipeline.models.hub.confidence import mean_probabilities
from pipeline.models.hub.loading import HubModel, to_pil


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Prepared:
    """A request as tensors: int64 ``(tokens,)``; float32 ``(images, 3, side, side)``."""

    question: torch.Tensor
    pixels: torch.Tensor


class BlipAnswerer(HubModel):
    """BLIP; implements :class:`pipeline.models.base.QuestionModel`.

    It looks at one picture at a time, and reads no words of the media: of the answers to the
    pictures of a request, the surest is taken. ``max_new_tokens``: longest answer, in tokens.
    ``max_images``: of a request with more pictures, the first so many are looked at.
    """

    def __init__(
        self, *, info: ModelInfo, max_new_tokens: int = 20, max_images: int = 8, **options: Any
    ) -> None:
        super().__init__(info=info, **options)
        self.max_images = max_images
        self._max_new_tokens = max_new_tokens

    def _load_parts(self, folder: Path) -> None:
        self._processor = AutoProcessor.from_pretrained(  # type: ignore[no-untyped-call]
            folder, backend="pil", local_files_only=True, trust_remote_code=False
        )
        network = self._load_network(AutoModelForVisualQuestionAnswering, folder)
        if network.config.model_type != "blip":
            raise ModelUnavailableError(
                f"model {self.info.name}: {folder} holds a {type(network).__name__}; use a BLIP "
                "checkpoint for visual question answering"
            )
        # Settles how the tokenizer pads: threads that only encode do not disturb it.
        self._processor.tokenizer(["test"])
        self._network = network

    def prepare(self, item: QuestionRequest) -> _Prepared:
        network = self._ready()
        pictures = self._processor.image_processor(
            images=[to_pil(image, self.info.name) for image in item.images[: self.max_images]],
            return_tensors="pt",
        )
        ids = self._processor.tokenizer([item.question])["input_ids"][0]
        longest = int(network.config.text_config.max_position_embeddings)
        if len(ids) > longest:
            ids = [*ids[: longest - 1], ids[-1]]
        return _Prepared(question=torch.tensor(ids), pixels=pictures["pixel_values"])

    def infer(self, batch: Sequence[_Prepared]) -> list[Answer]:
        """One answer per request. Requests with questions of the same length share a pass."""
        answers: list[Answer | None] = [None] * len(batch)
        # The decoder would read the padding of a shorter question as part of it.
        by_length: dict[int, list[int]] = {}
        for place, item in enumerate(batch):
            by_length.setdefault(len(item.question), []).append(place)
        for places in by_length.values():
            rows = [(place, pixels) for place in places for pixels in batch[place].pixels]
            for start in range(0, len(rows), self.max_batch):
                some = rows[start : start + self.max_batch]
                found = self._answers(
                    torch.stack([batch[place].question for place, _ in some]),
                    torch.stack([pixels for _, pixels in some]),
                )
                for (place, _), answer in zip(some, found, strict=True):
                    answers[place] = _surer(answers[place], answer)
        return [answer for answer in answers if answer is not None]

    def _answers(self, questions: torch.Tensor, pixels: torch.Tensor) -> list[Answer]:
        with self._inference() as network:
            output = network.generate(
                input_ids=questions.to(self._device),
                attention_mask=torch.ones_like(questions).to(self._device),
                pixel_values=pixels.to(self._device, self._dtype),
                do_sample=False,
                num_beams=1,
                max_new_tokens=self._max_new_tokens,
                return_dict_in_generate=True,
                output_logits=True,
            )
            tokens = output.sequences[:, 1:]
            ends = {network.config.text_config.sep_token_id}
            confidences = mean_probabilities(output.logits, tokens, ends)
        texts: list[str] = self._processor.batch_decode(tokens, skip_special_tokens=True)
        return [
            Answer(text=text.strip(), confidence=confidence)
            for text, confidence in zip(texts, confidences, strict=True)
        ]


def _surer(one: Answer | None, other: Answer) -> Answer:
    if one is None or (other.confidence or 0.0) > (one.confidence or 0.0):
        return other
    return one
