"""What a hub model does with a checkpoint that is missing, broken or of another kind."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_checkpoints import write_blip, write_clip, write_sentence, write_whisper

from pipeline.errors import (
    ConfigurationError,
    ContractError,
    ModelUnavailableError,
    ResourceExhaustedError,
)
from pipeline.models.base import ModelInfo
from pipeline.models.hub.caption import Captioner
from pipeline.models.hub.image_text import ImageTextImages
from pipeline.models.hub.loading import HubModel, pick_dtype
from pipeline.models.hub.sentence import SentenceEncoder
from pipeline.models.hub.speech import SpeechRecogniser
from schemas.records import FloatArray

INFO = ModelInfo(
    name="tiny", revision="1", task="text-embedding", licence="none", source="written by a test"
)


def sentence(path: Path | str, **options: Any) -> SentenceEncoder:
    return SentenceEncoder(info=INFO, space="tiny", path_or_repo=str(path), **options)


def test_nothing_is_read_before_load(tmp_path: Path) -> None:
    model = sentence(tmp_path / "absent")
    with pytest.raises(ContractError, match="before it was loaded"):
        model.infer(["a cat"])
    model.unload()


def test_unload_can_be_called_twice_and_the_model_loaded_again(tmp_path: Path) -> None:
    model = sentence(write_sentence(tmp_path))
    model.load("cpu")
    before = model.infer(["a cat"])[0]
    model.unload()
    model.unload()
    with pytest.raises(ContractError):
        model.infer(["a cat"])
    model.load("cpu")
    np.testing.assert_array_equal(model.infer(["a cat"])[0], before)


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailableError, match="absent does not exist; set its path"):
        sentence(tmp_path / "absent").load("cpu")


def test_repository_that_is_not_in_the_cache() -> None:
    model = sentence("nobody-here/no-such-model", revision="abc123")
    with pytest.raises(ModelUnavailableError) as caught:
        model.load("cpu")
    assert "nobody-here/no-such-model at revision abc123" in str(caught.value)
    assert "hf download nobody-here/no-such-model --revision abc123" in str(caught.value)


def test_snapshot_in_the_local_cache_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    write_sentence(tmp_path / "models--someone--tiny" / "snapshots" / commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    model = sentence("someone/tiny", revision=commit)
    model.load("cpu")
    assert len(model.infer(["a cat"])) == 1


def test_missing_weights(tmp_path: Path) -> None:
    (write_sentence(tmp_path) / "model.safetensors").unlink()
    with pytest.raises(ModelUnavailableError, match=r"has no \*\.safetensors weights"):
        sentence(tmp_path).load("cpu")


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    weights = write_sentence(tmp_path) / "model.safetensors"
    torch.save(load_file(weights), tmp_path / "pytorch_model.bin")
    weights.unlink()
    with pytest.raises(ModelUnavailableError, match="pickled weights are not read"):
        sentence(tmp_path).load("cpu")


@pytest.mark.parametrize(
    "harm",
    [
        pytest.param(lambda data: data[: len(data) // 2], id="truncated"),
        pytest.param(lambda data: b"\xff" * len(data), id="garbage"),
        pytest.param(lambda _: b"", id="empty"),
    ],
)
def test_broken_weights(tmp_path: Path, harm: Callable[[bytes], bytes]) -> None:
    weights = write_sentence(tmp_path) / "model.safetensors"
    weights.write_bytes(harm(weights.read_bytes()))
    with pytest.raises(ModelUnavailableError, match="tiny cannot be loaded from"):
        sentence(tmp_path).load("cpu")


def test_absent_weights_are_never_made_up(tmp_path: Path) -> None:
    file = write_sentence(tmp_path) / "model.safetensors"
    weights = load_file(file)
    del weights["encoder.layer.1.output.dense.weight"]
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(ModelUnavailableError, match=r"lacks 1 weights .*layer\.1\.output"):
        sentence(tmp_path).load("cpu")


def test_an_unused_pooling_head_may_be_absent(tmp_path: Path) -> None:
    file = write_sentence(tmp_path) / "model.safetensors"
    weights = {key: value for key, value in load_file(file).items() if "pooler" not in key}
    save_file(weights, file, metadata={"format": "pt"})
    model = sentence(tmp_path)
    model.load("cpu")
    assert np.linalg.norm(model.infer(["a cat"])[0]) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json"])
def test_broken_json(tmp_path: Path, file: str) -> None:
    (write_sentence(tmp_path) / file).write_text("{", encoding="utf-8")
    with pytest.raises(ModelUnavailableError, match="cannot be loaded from"):
        sentence(tmp_path).load("cpu")


@pytest.mark.parametrize(
    ("model_class", "write", "extra"),
    [
        (SpeechRecogniser, write_sentence, {}),
        (SpeechRecogniser, write_blip, {}),
        (Captioner, write_clip, {}),
        (Captioner, write_whisper, {}),
        (ImageTextImages, write_blip, {"space": "s"}),
        (ImageTextImages, write_sentence, {"space": "s"}),
        (SentenceEncoder, write_clip, {"space": "s"}),
        (SentenceEncoder, write_whisper, {"space": "s"}),
    ],
)
def test_checkpoint_of_another_kind(
    tmp_path: Path,
    model_class: type[HubModel],
    write: Callable[[Path], Path],
    extra: dict[str, Any],
) -> None:
    model = model_class(info=INFO, path_or_repo=str(write(tmp_path)), **extra)
    with pytest.raises(ModelUnavailableError, match=re.escape(str(tmp_path))):
        model.load("cpu")


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    file = write_sentence(tmp_path) / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    config |= {"model_type": "mine", "auto_map": {"AutoModel": "mine.Model"}}
    config["auto_map"]["AutoConfig"] = "mine.Config"
    file.write_text(json.dumps(config), encoding="utf-8")
    (tmp_path / "mine.py").write_text("raise SystemExit('ran')", encoding="utf-8")
    with pytest.raises(ModelUnavailableError, match="cannot be loaded from"):
        sentence(tmp_path).load("cpu")


def test_weights_that_changed_since_they_were_registered(tmp_path: Path) -> None:
    info = ModelInfo(
        name="tiny",
        revision="1",
        task="text-embedding",
        licence="none",
        source="test",
        sha256="0" * 64,
    )
    model = SentenceEncoder(info=info, space="s", path_or_repo=str(write_sentence(tmp_path)))
    with pytest.raises(ModelUnavailableError, match="changed since it was registered"):
        model.load("cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_gpu_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailableError, match="sees no GPU; set the device to cpu"):
        sentence(write_sentence(tmp_path)).load("cuda:0")


def test_arithmetic(tmp_path: Path) -> None:
    assert pick_dtype("auto", torch.device("cpu")) == torch.float32
    assert pick_dtype("bfloat16", torch.device("cpu")) == torch.bfloat16
    with pytest.raises(ConfigurationError, match="use one of auto, float32"):
        sentence(tmp_path, dtype="int3")
    write_sentence(tmp_path)
    exact, rough = sentence(tmp_path), sentence(tmp_path, dtype="bfloat16")
    for model in (exact, rough):
        model.load("cpu")
    vector = rough.infer(["a cup of coffee"])[0]
    assert vector.dtype == np.float32
    # bfloat16 keeps 8 bits of each number.
    np.testing.assert_allclose(vector, exact.infer(["a cup of coffee"])[0], atol=0.03)


class _Greedy(SentenceEncoder):
    """Asks for more memory than any machine has."""

    def infer(self, _batch: object) -> list[FloatArray]:
        with self._inference():
            torch.empty(1 << 60, dtype=torch.uint8)
        return []


def test_memory_that_ran_out(tmp_path: Path) -> None:
    model = _Greedy(info=INFO, space="s", path_or_repo=str(write_sentence(tmp_path)))
    model.load("cpu")
    with pytest.raises(ResourceExhaustedError, match="tiny ran out of memory on cpu"):
        model.infer(["a cat"])
