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
from tiny_checkpoints import (
    write_blip,
    write_blip_vqa,
    write_clip,
    write_idefics3,
    write_sentence,
    write_smolvlm,
)
from tiny_sounds import write_whisper

from pipeline.errors import (
    ConfigurationError,
    ContractError,
    ModelUnavailableError,
    ResourceExhaustedError,
)
from pipeline.models.base import CaptionRequest, ModelInfo, answers
from pipeline.models.hub.caption import Captioner
from pipeline.models.hub.devices import pick_dtype
from pipeline.models.hub.image_text import ImageTextImages
from pipeline.models.hub.loading import HubModel
from pipeline.models.hub.sentence import SentenceEncoder
from pipeline.models.hub.speech import SpeechRecogniser
from pipeline.models.hub.vlm import VisionLanguageAnswerer, VisionLanguageCaptioner
from pipeline.models.hub.vqa import BlipAnswerer
from schemas.records import FloatArray

INFO = ModelInfo(
    name="tiny", revision="1", task="text-embedding", licence="none", source="written by a test"
)


def sentence(path: Path | str, **options: Any) -> SentenceEncoder:
    return SentenceEncoder(
        info=INFO, space="tiny", path_or_repo=str(path), **{"runtime": "torch", **options}
    )


def test_nothing_is_read_before_load(tmp_path: Path) -> None:
    model = sentence(tmp_path / "absent")
    with pytest.raises(ContractError, match="before it was loaded"):
        answers(model, ["a cat"])
    model.unload()


def test_unload_can_be_called_twice_and_the_model_loaded_again(tmp_path: Path) -> None:
    model = sentence(write_sentence(tmp_path))
    model.load("cpu")
    before = answers(model, ["a cat"])[0]
    model.unload()
    model.unload()
    with pytest.raises(ContractError):
        answers(model, ["a cat"])
    model.load("cpu")
    np.testing.assert_array_equal(answers(model, ["a cat"])[0], before)


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
    assert len(answers(model, ["a cat"])) == 1


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
    assert np.linalg.norm(answers(model, ["a cat"])[0]) == pytest.approx(1.0, abs=1e-5)


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
        (BlipAnswerer, write_blip, {}),
        (BlipAnswerer, write_smolvlm, {}),
        (VisionLanguageAnswerer, write_blip_vqa, {}),
        (VisionLanguageCaptioner, write_whisper, {}),
        (VisionLanguageCaptioner, write_clip, {}),
        (ImageTextImages, write_blip, {"space": "s", "runtime": "torch"}),
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


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("chat_template.jinja", "fetch the checkpoint's chat_template.jinja"),
        ("processor_config.json", "cannot be loaded from"),
        ("tokenizer.json", "cannot be loaded from"),
        ("model.safetensors", "no *.safetensors weights"),
        ("config.json", "cannot be loaded from"),
    ],
)
def test_a_file_of_a_vision_language_model_is_missing(
    tmp_path: Path, file: str, words: str
) -> None:
    (write_idefics3(tmp_path) / file).unlink()
    with pytest.raises(ModelUnavailableError, match=re.escape(words)) as caught:
        VisionLanguageAnswerer(info=INFO, path_or_repo=str(tmp_path)).load("cpu")
    assert str(tmp_path) in str(caught.value)


def test_a_broken_chat_template(tmp_path: Path) -> None:
    (write_idefics3(tmp_path) / "chat_template.jinja").write_text("{% for x in %}", "utf-8")
    with pytest.raises(ModelUnavailableError, match="has a broken chat template in"):
        VisionLanguageAnswerer(info=INFO, path_or_repo=str(tmp_path)).load("cpu")


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


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="needs a machine that is no such Mac")
def test_mac_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailableError, match=r"no Mac with a GPU.*set the device to cpu"):
        sentence(write_sentence(tmp_path)).load("mps")


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "meta"])
def test_device_of_no_known_kind(tmp_path: Path, device: str) -> None:
    with pytest.raises(ConfigurationError, match=f"'{device}'; use cpu, cuda, cuda:N or mps"):
        sentence(write_sentence(tmp_path)).load(device)


@pytest.mark.parametrize(
    ("model_class", "write", "options", "item"),
    [
        (SentenceEncoder, write_sentence, {"space": "s", "runtime": "torch"}, "a cat"),
        (
            ImageTextImages,
            write_clip,
            {"space": "s", "runtime": "torch"},
            np.zeros((8, 8, 3), np.uint8),
        ),
        (Captioner, write_blip, {}, CaptionRequest(images=(np.zeros((8, 8, 3), np.uint8),))),
        (SpeechRecogniser, write_whisper, {}, np.ones(16_000, np.float32)),
    ],
)
def test_weights_that_are_no_numbers_give_no_result(
    tmp_path: Path,
    model_class: type[HubModel],
    write: Callable[[Path], Path],
    options: dict[str, Any],
    item: Any,
) -> None:
    file = write(tmp_path) / "model.safetensors"
    weights = load_file(file)
    for name, tensor in weights.items():
        if "norm" in name.lower() and name.endswith("weight"):
            weights[name] = torch.full_like(tensor, torch.nan)
    save_file(weights, file, metadata={"format": "pt"})
    model: Any = model_class(info=INFO, path_or_repo=str(tmp_path), **options)
    model.load("cpu")
    with pytest.raises(ContractError, match=r"tiny gave .* not finite"):
        answers(model, [item])


def test_memory_that_the_weights_take(tmp_path: Path) -> None:
    model = sentence(write_sentence(tmp_path))
    assert model.memory_bytes == 0
    model.load("cpu")
    size = (tmp_path / "model.safetensors").stat().st_size
    assert 0.9 * size < model.memory_bytes < 1.1 * size
    model.unload()
    assert model.memory_bytes == 0


def test_arithmetic(tmp_path: Path) -> None:
    assert pick_dtype("auto", torch.device("cpu")) == torch.float32
    assert pick_dtype("bfloat16", torch.device("cpu")) == torch.bfloat16
    with pytest.raises(ConfigurationError, match="use one of auto, float32"):
        sentence(tmp_path, dtype="int3")
    write_sentence(tmp_path)
    exact, rough = sentence(tmp_path), sentence(tmp_path, dtype="bfloat16")
    for model in (exact, rough):
        model.load("cpu")
    vector = answers(rough, ["a cup of coffee"])[0]
    assert vector.dtype == np.float32
    # bfloat16 keeps 8 bits of each number.
    np.testing.assert_allclose(vector, answers(exact, ["a cup of coffee"])[0], atol=0.03)


class _Greedy(SentenceEncoder):
    """Asks for more memory than any machine has."""

    def infer(self, _batch: object) -> list[FloatArray]:
        with self._inference():
            torch.empty(1 << 60, dtype=torch.uint8)
        return []


def test_memory_that_ran_out(tmp_path: Path) -> None:
    path = str(write_sentence(tmp_path))
    model = _Greedy(info=INFO, space="s", path_or_repo=path, runtime="torch")
    model.load("cpu")
    with pytest.raises(ResourceExhaustedError, match="tiny ran out of memory on cpu"):
        answers(model, ["a cat"])
