"""Captions from a tiny BLIP."""

from pathlib import Path

import numpy as np
import pytest
from tiny_checkpoints import write_blip

from pipeline.errors import ContractError
from pipeline.models.base import CaptionModel, CaptionRequest, ModelInfo, answers
from pipeline.models.hub.caption import Captioner

INFO = ModelInfo(
    name="tiny", revision="1", task="caption", licence="none", source="written by a test"
)


def captioner(path: Path, max_new_tokens: int = 12) -> Captioner:
    model = Captioner(info=INFO, path_or_repo=str(path), max_new_tokens=max_new_tokens)
    model.load("cpu")
    return model


def requests(*prompts: str | None) -> list[CaptionRequest]:
    rng = np.random.default_rng(3)
    return [
        CaptionRequest(
            images=(rng.integers(0, 256, (30 + 5 * i, 60, 3), dtype=np.uint8),), prompt=prompt
        )
        for i, prompt in enumerate(prompts)
    ]


def test_a_batch_says_what_its_requests_say_alone(tmp_path: Path) -> None:
    model: CaptionModel = captioner(write_blip(tmp_path))
    batch = requests(None, "a photo of", None, "hello", "a photo of")
    captions = answers(model, batch)
    assert captions == [answers(model, [request])[0] for request in batch]
    assert captions == answers(model, batch)
    assert all(isinstance(caption, str) and caption for caption in captions)


def test_a_prompt_begins_the_caption(tmp_path: Path) -> None:
    model = captioner(write_blip(tmp_path))
    bare, prompted, empty = answers(model, requests(None, "a photo of", ""))
    assert prompted.startswith("a photo of ")
    assert not bare.startswith("a photo of")
    assert "[" not in prompted
    assert not empty.startswith("a photo of")


def test_length_is_bounded(tmp_path: Path) -> None:
    write_blip(tmp_path)
    short, long = captioner(tmp_path, 2), captioner(tmp_path, 12)
    request = requests(None)
    assert answers(long, request)[0].startswith(answers(short, request)[0])
    assert len(answers(short, request)[0]) < len(answers(long, request)[0])


def test_only_the_first_picture_counts(tmp_path: Path) -> None:
    model = captioner(write_blip(tmp_path))
    first, second = (request.images[0] for request in requests(None, None))
    both = CaptionRequest(images=(first, second), transcript="hello", screen_text="EXIT")
    assert model.max_images == 1
    assert answers(model, [both]) == answers(model, [CaptionRequest(images=(first,))])


@pytest.mark.parametrize("shape", [(1, 1), (30_000, 20), (3, 400)])
def test_pictures_of_odd_shapes(tmp_path: Path, shape: tuple[int, int]) -> None:
    model = captioner(write_blip(tmp_path))
    picture = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    prepared = model.prepare(CaptionRequest(images=(picture,), prompt="a photo"))
    assert prepared["pixel_values"].shape == (1, 3, 32, 32)
    assert model.infer([prepared])[0].startswith("a photo")


def test_edges(tmp_path: Path) -> None:
    model = captioner(write_blip(tmp_path))
    assert answers(model, []) == []
    with pytest.raises(ContractError, match="expects uint8 HWC RGB"):
        answers(model, [CaptionRequest(images=(np.zeros((4, 4, 4), dtype=np.uint8),))])
    with pytest.raises(ContractError, match="without a picture"):
        CaptionRequest(images=())
