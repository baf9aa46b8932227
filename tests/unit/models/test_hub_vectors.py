"""Pictures, labels and sentences as vectors, from tiny checkpoints of each architecture."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from tiny_checkpoints import (
    CLIP_DIMENSION,
    SENTENCE_DIMENSION,
    SIGLIP_DIMENSION,
    write_clip,
    write_sentence,
    write_siglip,
    write_siglip2,
)
from transformers import AutoModel, AutoProcessor, AutoTokenizer

from pipeline.errors import ContractError, ModelUnavailableError
from pipeline.models.base import ImageModel, ModelInfo, TextModel, answers
from pipeline.models.hub.encoder import together
from pipeline.models.hub.image_text import ImageTextImages, ImageTextLabels
from pipeline.models.hub.loading import to_pil
from pipeline.models.hub.sentence import SentenceEncoder

DUAL_ENCODERS = [
    pytest.param(write_clip, CLIP_DIMENSION, id="clip"),
    pytest.param(write_siglip, SIGLIP_DIMENSION, id="siglip"),
    pytest.param(write_siglip2, SIGLIP_DIMENSION, id="siglip2"),
]
TEXTS = ["a cat", "a cup of coffee on the table", "", "rocket " * 200]
#: Sums over a batch are taken in another order than over one item.
BATCH_TOLERANCE = 1e-5


def pictures(count: int) -> list[npt.NDArray[np.uint8]]:
    """Noise of different sizes and shapes."""
    rng = np.random.default_rng(7)
    return [rng.integers(0, 256, (24 + 9 * i, 90 - 7 * i, 3), dtype=np.uint8) for i in range(count)]


def info(name: str) -> ModelInfo:
    return ModelInfo(
        name=name, revision="1", task="image-features", licence="none", source="written by a test"
    )


def picture_side(path: Path) -> ImageTextImages:
    model = ImageTextImages(
        info=info("pictures"), space="tiny", path_or_repo=str(path), runtime="torch"
    )
    model.load("cpu")
    return model


def label_side(path: Path) -> ImageTextLabels:
    model = ImageTextLabels(
        info=info("labels"), space="tiny", path_or_repo=str(path), runtime="torch"
    )
    model.load("cpu")
    return model


@pytest.mark.parametrize(("write", "dimension"), DUAL_ENCODERS)
def test_pictures(tmp_path: Path, write: Callable[[Path], Path], dimension: int) -> None:
    model: ImageModel = picture_side(write(tmp_path))
    batch = pictures(3)
    features = answers(model, batch)
    assert model.class_names == ()
    for feature, picture in zip(features, batch, strict=True):
        assert feature.class_scores is None
        assert feature.embedding.shape == (dimension,)
        assert feature.embedding.dtype == np.float32
        assert np.linalg.norm(feature.embedding) == pytest.approx(1.0, abs=1e-5)
        alone = answers(model, [picture])[0].embedding
        np.testing.assert_allclose(feature.embedding, alone, atol=BATCH_TOLERANCE)
    again = answers(model, batch)
    for feature, repeated in zip(features, again, strict=True):
        np.testing.assert_array_equal(feature.embedding, repeated.embedding)
    assert not np.allclose(features[0].embedding, features[1].embedding, atol=1e-3)


@pytest.mark.parametrize(("write", "dimension"), DUAL_ENCODERS)
def test_labels(tmp_path: Path, write: Callable[[Path], Path], dimension: int) -> None:
    model: TextModel = label_side(write(tmp_path))
    vectors = answers(model, TEXTS)
    for vector, text in zip(vectors, TEXTS, strict=True):
        assert vector.shape == (dimension,)
        assert vector.dtype == np.float32
        assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-5)
        np.testing.assert_allclose(vector, answers(model, [text])[0], atol=BATCH_TOLERANCE)
    assert not np.allclose(vectors[0], vectors[1], atol=1e-3)


def test_both_sides_agree_with_the_similarity_of_the_library(tmp_path: Path) -> None:
    write_clip(tmp_path)
    picture, labels = pictures(1)[0], ["a cat", "a rocket launch"]
    network = AutoModel.from_pretrained(tmp_path).eval()
    inputs = AutoProcessor.from_pretrained(tmp_path)(
        images=picture, text=labels, padding=True, return_tensors="pt"
    )
    with torch.inference_mode():
        logits = network(**inputs).logits_per_image[0]
        expected = (logits / network.logit_scale.exp()).numpy()
    embedding = answers(picture_side(tmp_path), [picture])[0].embedding
    actual = [float(embedding @ vector) for vector in answers(label_side(tmp_path), labels)]
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_probabilities_are_those_of_the_library(tmp_path: Path) -> None:
    write_siglip(tmp_path)
    picture, texts = pictures(1)[0], ["a cat", "a rocket launch"]
    model = label_side(tmp_path)
    network = AutoModel.from_pretrained(tmp_path).eval()
    shown = AutoProcessor.from_pretrained(tmp_path)(images=picture, return_tensors="pt")
    with torch.inference_mode():
        ids = torch.from_numpy(np.stack([model.prepare(text)["input_ids"] for text in texts]))
        logits = network(**shown, input_ids=ids).logits_per_image[0]
    cosines = (
        np.stack(answers(model, texts)) @ answers(picture_side(tmp_path), [picture])[0].embedding
    )
    assert model.calibration.kind == "sigmoid"
    actual = model.calibration.scale * cosines + model.calibration.bias
    np.testing.assert_allclose(actual, logits.numpy(), atol=1e-4)
    write_clip(tmp_path / "clip")
    calibration = label_side(tmp_path / "clip").calibration
    assert (calibration.kind, calibration.bias) == ("softmax", 0.0)
    assert calibration.scale == pytest.approx(np.exp(2.6592), rel=1e-4)


@pytest.mark.parametrize("padding_side", ["left", "right"])
@pytest.mark.parametrize("write", [write_siglip, write_siglip2])
def test_siglip_reads_lowercase_with_an_end_padded_on_the_right(
    tmp_path: Path, write: Callable[[Path], Path], padding_side: str
) -> None:
    file = write(tmp_path) / "tokenizer_config.json"
    stated = json.loads(file.read_text(encoding="utf-8")) | {"padding_side": padding_side}
    file.write_text(json.dumps(stated), encoding="utf-8")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    row = [*tokenizer.encode("a cat", add_special_tokens=False), tokenizer.eos_token_id]
    row += [tokenizer.pad_token_id] * (64 - len(row))
    with torch.inference_mode():
        network = AutoModel.from_pretrained(tmp_path).eval()
        expected = network.get_text_features(input_ids=torch.tensor([row])).pooler_output[0].numpy()
    expected /= np.linalg.norm(expected)
    actual = answers(label_side(tmp_path), ["A Cat", "another, longer text"])[0]
    np.testing.assert_allclose(actual, expected, atol=BATCH_TOLERANCE)


def test_published_layout_of_the_picture_processor(tmp_path: Path) -> None:
    """Published CLIP checkpoints have an older file and name for it than the library writes."""
    write_clip(tmp_path)
    expected = answers(picture_side(tmp_path), pictures(1))[0].embedding
    (tmp_path / "processor_config.json").unlink()
    published = {
        "crop_size": 32,
        "do_center_crop": True,
        "do_normalize": True,
        "do_resize": True,
        "feature_extractor_type": "CLIPFeatureExtractor",
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "resample": 3,
        "size": 32,
    }
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(published), encoding="utf-8")
    actual = answers(picture_side(tmp_path), pictures(1))[0].embedding
    np.testing.assert_array_equal(actual, expected)


def test_pictures_of_another_layout_are_a_bug(tmp_path: Path) -> None:
    model = picture_side(write_clip(tmp_path))
    assert answers(model, []) == []
    with pytest.raises(ContractError, match=r"picture\.shape=\(8, 8\)"):
        answers(model, [np.zeros((8, 8), dtype=np.uint8)])
    with pytest.raises(ContractError, match="float32"):
        answers(model, [np.zeros((8, 8, 3), dtype=np.float32)])


@pytest.mark.parametrize("write", [write_clip, write_siglip, write_siglip2])
@pytest.mark.parametrize("shape", [(1, 1), (1, 3), (3, 500), (30_000, 20), (20, 30_000)])
def test_pictures_of_odd_shapes(
    tmp_path: Path, write: Callable[[Path], Path], shape: tuple[int, int]
) -> None:
    model = picture_side(write(tmp_path))
    usual = model.prepare(np.zeros((40, 40, 3), np.uint8))
    picture = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    odd = model.prepare(picture)
    assert {name: tensor.shape for name, tensor in odd.items()} == {
        name: tensor.shape for name, tensor in usual.items()
    }
    assert np.linalg.norm(model.infer([odd])[0].embedding) == pytest.approx(1.0, abs=1e-5)


def test_of_a_line_of_pixels_the_middle_is_seen() -> None:
    line = np.zeros((2, 1000, 3), np.uint8)
    line[:, 484:516] = 255
    seen = to_pil(line, "any")
    assert seen.size == (32, 2)
    assert np.asarray(seen).min() == 255
    assert to_pil(line.transpose(1, 0, 2), "any").size == (2, 32)
    assert to_pil(line[:, :32], "any").size == (32, 2)


@pytest.mark.parametrize(("write", "dimension"), DUAL_ENCODERS)
def test_pictures_prepared_alone_are_those_prepared_together(
    tmp_path: Path, write: Callable[[Path], Path], dimension: int
) -> None:
    processor = AutoProcessor.from_pretrained(write(tmp_path), backend="pil").image_processor
    batch = pictures(3)
    expected = processor(images=[to_pil(one, "any") for one in batch], return_tensors="pt")
    prepared = together([picture_side(tmp_path).prepare(one) for one in batch])
    assert prepared.keys() == expected.keys()
    for name, tensor in prepared.items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=0)


def sentences(path: Path) -> SentenceEncoder:
    model = SentenceEncoder(
        info=info("sentences"), space="tiny", path_or_repo=str(path), runtime="torch"
    )
    model.load("cpu")
    return model


def test_sentences(tmp_path: Path) -> None:
    model: TextModel = sentences(write_sentence(tmp_path))
    vectors = answers(model, TEXTS)
    for vector, text in zip(vectors, TEXTS, strict=True):
        assert vector.shape == (SENTENCE_DIMENSION,)
        assert vector.dtype == np.float32
        assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-5)
        np.testing.assert_allclose(vector, answers(model, [text])[0], atol=BATCH_TOLERANCE)
    for vector, repeated in zip(vectors, answers(model, TEXTS), strict=True):
        np.testing.assert_array_equal(vector, repeated)
    assert answers(model, []) == []


def test_a_sentence_is_the_average_of_its_tokens(tmp_path: Path) -> None:
    write_sentence(tmp_path)
    tokens = AutoTokenizer.from_pretrained(tmp_path)("hello world", return_tensors="pt")
    with torch.inference_mode():
        hidden = AutoModel.from_pretrained(tmp_path).eval()(**tokens).last_hidden_state[0]
    expected = hidden.mean(dim=0).numpy()
    expected /= np.linalg.norm(expected)
    # The long second text pads the first one, which must not count.
    actual = answers(sentences(tmp_path), ["hello world", "a photo of a cat " * 5])[0]
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_the_stated_length_is_kept(tmp_path: Path) -> None:
    write_sentence(tmp_path)
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 8}', encoding="utf-8")
    model = sentences(tmp_path)
    six_words = "a photo of a cat hello"
    cut, whole = answers(model, [f"{six_words} coffee table", six_words])
    np.testing.assert_allclose(cut, whole, atol=BATCH_TOLERANCE)


@pytest.mark.parametrize(
    ("pooling", "is_mean"),
    [
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, True),
        ({"pooling_mode": "mean"}, True),
        ({"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}, False),
        ({"pooling_mode": "cls"}, False),
    ],
)
def test_only_mean_pooled_models(
    tmp_path: Path, pooling: dict[str, bool | str], is_mean: bool
) -> None:
    write_sentence(tmp_path)
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(pooling), encoding="utf-8")
    if is_mean:
        assert len(answers(sentences(tmp_path), ["a cat"])) == 1
    else:
        with pytest.raises(ModelUnavailableError, match="pooling other than the mean"):
            sentences(tmp_path)
