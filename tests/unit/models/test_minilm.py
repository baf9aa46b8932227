from collections.abc import Iterator

import numpy as np
import pytest
import torch

from pipeline.models.offline.minilm import MiniLm
from pipeline.models.registry import find_entry


@pytest.fixture(scope="module")
def model() -> Iterator[MiniLm]:
    model = MiniLm(info=find_entry("minilm").info)
    model.load("cpu")
    yield model
    model.unload()


def test_texts_that_mean_the_same_are_close(model: MiniLm) -> None:
    cat, kitten, ship = model.infer(
        ["A cat sleeps on the sofa.", "A kitten is napping on the couch.", "The ship left port."]
    )
    assert float(cat @ kitten) > 0.6
    assert float(cat @ ship) < 0.2


def test_the_published_similarity_is_reproduced(model: MiniLm) -> None:
    # The pair and value of the model card of sentence-transformers' quick start.
    weather, sunny = model.infer(["The weather is lovely today.", "It's so sunny outside!"])
    assert float(weather @ sunny) == pytest.approx(0.666, abs=0.005)


@pytest.mark.parametrize("text", ["", " ", "\x00", "😀", "word " * 5000, "漢字" * 300])
def test_any_text_gives_a_unit_vector(model: MiniLm, text: str) -> None:
    (vector,) = model.infer([text])
    assert vector.shape == (384,)
    assert vector.dtype == np.float32
    assert float(np.linalg.norm(vector)) == pytest.approx(1, abs=1e-5)


def test_torch_keeps_its_own_number_of_threads(model: MiniLm) -> None:
    before = torch.get_num_threads()
    model.infer(["a"])
    assert torch.get_num_threads() == before
