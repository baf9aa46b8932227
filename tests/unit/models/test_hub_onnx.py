"""Encoders on ONNX Runtime: what torch says, from a file made once."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs
from tiny_checkpoints import write_clip, write_sentence, write_siglip, write_siglip2

from pipeline.errors import ConfigurationError, ModelUnavailableError
from pipeline.models.base import ImageFeatures, ModelInfo, answers
from pipeline.models.hub.encoder import HubEncoder
from pipeline.models.hub.image_text import ImageTextImages, ImageTextLabels
from pipeline.models.hub.sentence import SentenceEncoder
from pipeline.models.onnx_session import alike

INFO = ModelInfo(
    name="tiny", revision="1", task="text-embedding", licence="none", source="written by a test"
)
PICTURES = [
    np.random.default_rng(7).integers(0, 256, (24 + 9 * i, 90, 3), dtype=np.uint8) for i in range(4)
]
TEXTS = ["a cat", "a cup of coffee on the table", "", "rocket " * 200]
#: Sums in another order.
TOLERANCE = 1e-5


def encoder(kind: type[HubEncoder], path: Path, runtime: str, cache: Path, **options: Any) -> Any:
    model = kind(
        info=INFO,
        space="tiny",
        path_or_repo=str(path),
        runtime=runtime,
        cache_dir=str(cache),
        **options,
    )
    model.load("cpu")
    return model


def vectors(model: Any, items: list[Any]) -> Any:
    return np.stack(
        [one.embedding if isinstance(one, ImageFeatures) else one for one in answers(model, items)]
    )


@pytest.mark.parametrize(
    ("kind", "write", "items"),
    [
        (ImageTextImages, write_clip, PICTURES),
        (ImageTextImages, write_siglip, PICTURES),
        (ImageTextLabels, write_clip, TEXTS),
        (ImageTextLabels, write_siglip, TEXTS),
        (SentenceEncoder, write_sentence, TEXTS),
    ],
)
def test_onnx_gives_what_torch_gives(
    tmp_path: Path, kind: type[HubEncoder], write: Callable[[Path], Path], items: list[Any]
) -> None:
    folder, cache = write(tmp_path / "model"), tmp_path / "cache"
    expected = vectors(encoder(kind, folder, "torch", cache), items)
    assert not cache.exists()
    model = encoder(kind, folder, "onnx", cache)
    np.testing.assert_allclose(vectors(model, items), expected, atol=TOLERANCE)
    np.testing.assert_allclose(
        np.concatenate([vectors(model, [item]) for item in items]), expected, atol=TOLERANCE
    )
    (file,) = cache.iterdir()
    assert model.memory_bytes == file.stat().st_size
    made = file.stat().st_mtime_ns
    again = encoder(kind, folder, "auto", cache)
    assert again.memory_bytes == model.memory_bytes
    np.testing.assert_array_equal(vectors(again, items), vectors(model, items))
    assert [(one, one.stat().st_mtime_ns) for one in cache.iterdir()] == [(file, made)]
    with ThreadPoolExecutor(8) as threads:
        prepared = list(threads.map(again.prepare, items * 8))
    for item, inputs in zip(items * 8, prepared, strict=True):
        assert {name: tensor.tolist() for name, tensor in inputs.items()} == {
            name: tensor.tolist() for name, tensor in again.prepare(item).items()
        }


def test_an_export_that_differs_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.models.onnx_session.TOLERANCE", -1.0)
    folder, cache = write_sentence(tmp_path / "model"), tmp_path / "cache"
    with capture_logs() as logs:
        model = encoder(SentenceEncoder, folder, "auto", cache)
    (line,) = logs
    assert (line["event"], line["model"]) == ("onnx_runtime_not_used", "tiny")
    assert "from those of torch; at most -1.0 is let pass" in line["reason"]
    assert not cache.exists()
    expected = vectors(encoder(SentenceEncoder, folder, "torch", cache), TEXTS)
    np.testing.assert_array_equal(vectors(model, TEXTS), expected)


def test_torch_runs_what_onnx_cannot(tmp_path: Path) -> None:
    folder, cache = write_siglip2(tmp_path / "model"), tmp_path / "cache"
    assert len(vectors(encoder(ImageTextImages, folder, "auto", cache), PICTURES)) == 4
    with pytest.raises(ConfigurationError, match=r"runtime onnx.*set it to auto"):
        encoder(ImageTextImages, folder, "onnx", cache)
    sentences = write_sentence(tmp_path / "sentences")
    assert len(vectors(encoder(SentenceEncoder, sentences, "auto", cache, dtype="bfloat16"), TEXTS))
    with pytest.raises(ConfigurationError, match=r"on cpu in torch\.bfloat16"):
        encoder(SentenceEncoder, sentences, "onnx", cache, dtype="bfloat16")
    with pytest.raises(ConfigurationError, match="use one of auto, onnx, torch"):
        encoder(SentenceEncoder, sentences, "tensorrt", cache)
    assert not cache.exists()


def test_a_damaged_export_is_named(tmp_path: Path) -> None:
    folder, cache = write_sentence(tmp_path / "model"), tmp_path / "cache"
    encoder(SentenceEncoder, folder, "onnx", cache)
    (file,) = cache.iterdir()
    file.write_bytes(b"not a model")
    with pytest.raises(ModelUnavailableError, match=f"{file} cannot be opened; delete it"):
        encoder(SentenceEncoder, folder, "onnx", cache)
    with capture_logs() as logs:
        assert len(vectors(encoder(SentenceEncoder, folder, "auto", cache), TEXTS))
    assert [line["event"] for line in logs] == ["onnx_runtime_not_used"]


def test_texts_of_like_length_run_together() -> None:
    assert alike([]) == []
    assert alike([5, 40, 6, 41, 5, 256]) == [[0, 4, 2], [1, 3], [5]]
