"""Captions from a tiny BLIP."""

from pathlib import Path

import numpy as np
import pytest
from tiny_checkpoints import write_blip

from pipeline.errors import ContractError
from pipeline.models.base import CaptionModel, CaptionRequest, ModelInfo
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
            image=rng.integers(0, 256, (30 + 5 * i, 60, 3), dtype=np.uint8), prompt=prompt
        )
        for i, prompt in enumerate(prompts)
    ]


def test_a_batch_says_what_its_requests_say_alone(tmp_path: Path) -> None:
    model: CaptionModel = captioner(write_blip(tmp_path))
    batch = requests(None, "a photo of", None, "hello", "a photo of")
    captions = model.infer(batch)
    assert captions == [model.infer([request])[0] for request in batch]
    assert captions == model.infer(batch)
    assert all(isinstance(caption, str) and caption for caption in captions)


def test_a_prompt_begins_the_caption(tmp_path: Path) -> None:
    model = captioner(write_blip(tmp_path))
    bare, prompted, empty = model.infer(requests(None, "a photo of", ""))
    assert prompted.startswith("a photo of ")
    assert not bare.startswith("a photo of")
    assert "[" not in prompted
    assert not empty.startswith("a photo of")


def test_length_is_bounded(tmp_path: Path) -> None:
    write_blip(tmp_path)
    short, long = captioner(tmp_path, 2), captioner(tmp_path, 12)
    request = requests(None)
    assert long.infer(request)[0].startswith(short.infer(request)[0])
    assert len(short.infer(request)[0]) < len(long.infer(request)[0])


def test_edges(tmp_path: Path) -> None:
    model = captioner(write_blip(tmp_path))
    assert model.infer([]) == []
    with pytest.raises(ContractError, match="expected HWC uint8 RGB"):
        model.infer([CaptionRequest(image=np.zeros((4, 4, 4), dtype=np.uint8))])
