"""Answers from a tiny BLIP."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_checkpoints import write_blip_vqa
from transformers import AutoModelForVisualQuestionAnswering, AutoProcessor

from pipeline.errors import ContractError
from pipeline.models.base import ModelInfo, QuestionModel, QuestionRequest, answers
from pipeline.models.hub.confidence import mean_probabilities
from pipeline.models.hub.vqa import BlipAnswerer
from schemas.records import Image

INFO = ModelInfo(
    name="tiny", revision="1", task="question", licence="none", source="written by a test"
)
QUESTION = "a photo of a cat hello"


def answerer(path: Path) -> BlipAnswerer:
    model = BlipAnswerer(
        info=INFO, path_or_repo=str(path), max_new_tokens=6, max_batch=3, threads=1
    )
    model.load("cpu")
    return model


def pictures(count: int, seed: int = 3) -> tuple[Image, ...]:
    """Of one colour, mostly: tiny random models tell colours apart."""
    rng = np.random.default_rng(seed)
    return tuple(
        np.full((30 + i, 60, 3), rng.integers(0, 256, 3), dtype=np.uint8) for i in range(count)
    )


def test_a_batch_answers_what_its_requests_answer_alone(tmp_path: Path) -> None:
    model: QuestionModel = answerer(write_blip_vqa(tmp_path))
    batch = [
        QuestionRequest(images=pictures(1), question=QUESTION),
        QuestionRequest(images=pictures(4, 5), question="hello world"),
        QuestionRequest(images=pictures(2, 7), question="rocket " * 90),
        QuestionRequest(images=pictures(1, 11), question=QUESTION, transcript="hello"),
    ]
    together = answers(model, batch)
    assert together == answers(model, batch), "twice the same"
    for request, answer in zip(batch, together, strict=True):
        alone = answers(model, [request])[0]
        assert answer.text == alone.text
        assert answer.confidence == pytest.approx(alone.confidence, abs=1e-5)
    assert answers(model, []) == []


def test_the_surest_picture_answers(tmp_path: Path) -> None:
    model = answerer(write_blip_vqa(tmp_path))
    shown = pictures(5)
    each = answers(model, [QuestionRequest(images=(p,), question=QUESTION) for p in shown])
    together = answers(model, [QuestionRequest(images=shown, question=QUESTION)])[0]
    surest = max(each, key=lambda answer: answer.confidence or 0)
    assert together.text == surest.text
    assert together.confidence == pytest.approx(surest.confidence, abs=1e-5)
    assert len({answer.confidence for answer in each}) > 1


def test_answers_are_those_of_the_library(tmp_path: Path) -> None:
    write_blip_vqa(tmp_path)
    picture = pictures(1)[0]
    processor = AutoProcessor.from_pretrained(tmp_path)
    network = AutoModelForVisualQuestionAnswering.from_pretrained(tmp_path).eval()
    inputs = processor(images=picture, text=QUESTION, return_tensors="pt")
    with torch.inference_mode():
        tokens = network.generate(**inputs, max_new_tokens=6, do_sample=False, num_beams=1)
    expected = processor.decode(tokens[0], skip_special_tokens=True).strip()
    request = QuestionRequest(images=(picture,), question=QUESTION)
    assert expected
    assert answers(answerer(tmp_path), [request])[0].text == expected


def test_confidence_counts_up_to_the_end() -> None:
    """Two steps of four words; the first row ends at once, and its padding does not count."""
    logits = [
        torch.log(torch.tensor([[0.5, 0.25, 0.125, 0.125], [0.25, 0.25, 0.25, 0.25]])),
        torch.log(torch.tensor([[0.01, 0.97, 0.01, 0.01], [0.75, 0.05, 0.1, 0.1]])),
    ]
    tokens = torch.tensor([[0, 1], [2, 0]])
    assert mean_probabilities(logits, tokens, {0}) == pytest.approx([0.5, 0.5])
    assert mean_probabilities(logits, tokens, {3}) == pytest.approx([0.735, 0.5])


def test_pictures_of_another_layout_are_a_bug(tmp_path: Path) -> None:
    model = answerer(write_blip_vqa(tmp_path))
    with pytest.raises(ContractError, match="expects uint8 HWC RGB"):
        model.prepare(QuestionRequest(images=(np.zeros((4, 4), np.uint8),), question="what?"))
