"""Classes of sound by AST, and CLAP's space of sounds and texts, from tiny checkpoints."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_sounds import AST_CLASSES, CLAP_DIMENSION, write_ast, write_clap, write_whisper
from transformers import AutoFeatureExtractor, AutoModel, AutoModelForAudioClassification
from tunes import RATE_HZ, tune

from pipeline.errors import ContractError, ModelUnavailableError
from pipeline.models.base import SoundFeatures, SoundModel, TextModel, answers
from pipeline.models.hub.entries import from_settings
from pipeline.models.registry import create
from schemas.records import FloatArray

TOLERANCE = 1e-5


def load(implementation: str, folder: Path) -> Any:
    model = create(from_settings("tiny", implementation=implementation, path=str(folder)))
    model.load("cpu")
    return model


def sounds() -> list[FloatArray]:
    noise = np.random.default_rng(1).normal(0, 0.1, 5 * RATE_HZ).astype(np.float32)
    return [tune(10), noise, noise[:50], np.zeros(0, np.float32)]


def numbers(features: SoundFeatures) -> FloatArray:
    found = features.scores if features.scores is not None else features.embedding
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("implementation", "write"), [("audio-classes", write_ast), ("audio-text", write_clap)]
)
def test_sounds_of_any_length_alone_and_together(
    tmp_path: Path, implementation: str, write: Callable[[Path], Path]
) -> None:
    model: SoundModel = load(implementation, write(tmp_path))
    together = answers(model, sounds())
    for features, again, samples in zip(together, answers(model, sounds()), sounds(), strict=True):
        np.testing.assert_array_equal(numbers(features), numbers(again))
        alone = answers(model, [samples])[0]
        np.testing.assert_allclose(numbers(features), numbers(alone), atol=TOLERANCE)
    assert not np.allclose(numbers(together[0]), numbers(together[1]), atol=1e-3)
    assert answers(model, []) == []
    for wrong in (
        np.zeros(11 * RATE_HZ, np.float32),
        np.zeros(9),
        np.full(RATE_HZ, np.inf, np.float32),
    ):
        with pytest.raises(ContractError, match="tiny"):
            answers(model, [wrong])


def test_classes_are_those_of_the_library(tmp_path: Path) -> None:
    write_ast(tmp_path)
    inputs = AutoFeatureExtractor.from_pretrained(tmp_path)(
        tune(10), sampling_rate=RATE_HZ, return_tensors="pt"
    )
    with torch.inference_mode():
        network = AutoModelForAudioClassification.from_pretrained(tmp_path).eval()
        expected = network(**inputs).logits.sigmoid().numpy()
    features = answers(load("audio-classes", tmp_path), [tune(10)])[0]
    assert features.labels == AST_CLASSES
    assert features.embedding is None
    np.testing.assert_allclose(features.scores, expected, atol=TOLERANCE)


def test_sounds_and_texts_share_a_space(tmp_path: Path) -> None:
    write_clap(tmp_path)
    sound_side: SoundModel = load("audio-text", tmp_path)
    text_side: TextModel = load("audio-text-labels", tmp_path)
    features = answers(sound_side, [tune(10)])[0]
    vectors = answers(text_side, ["a dog barking", "", "rain " * 400])
    assert features.scores is None
    assert features.embedding is not None
    assert features.space == text_side.space
    for vector in (features.embedding, *vectors):
        assert vector.shape == (CLAP_DIMENSION,)
        assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-5)
    np.testing.assert_allclose(answers(text_side, [""])[0], vectors[1], atol=TOLERANCE)
    network = AutoModel.from_pretrained(tmp_path)
    assert features.scale == pytest.approx(float(network.logit_scale_a.detach().exp()))


def test_sound_reaches_clap_at_its_own_rate(tmp_path: Path) -> None:
    """A tone of 1 kHz lies where it does in a spectrogram of the tone made at 48 kHz."""
    model = load("audio-text", write_clap(tmp_path))
    seconds = 10
    low, high = (np.arange(rate * seconds) / rate for rate in (RATE_HZ, 48_000))
    expected = AutoFeatureExtractor.from_pretrained(tmp_path)(
        np.sin(2000 * np.pi * high), sampling_rate=48_000, return_tensors="np"
    ).input_features[0, 0]
    prepared = model.prepare(np.sin(2000 * np.pi * low).astype(np.float32))[0]
    assert prepared.shape == expected.shape
    loudest = expected.mean(axis=0).argsort()[-3:]
    np.testing.assert_allclose(prepared[10:-10, loudest], expected[10:-10, loudest], atol=0.1)


def test_nan_from_the_network_is_an_error(tmp_path: Path) -> None:
    model = load("audio-classes", write_ast(tmp_path))
    with torch.no_grad():
        model._network.classifier.dense.bias.fill_(float("nan"))
    with pytest.raises(ContractError, match="not finite"):
        answers(model, [tune(1)])


@pytest.mark.parametrize(
    ("implementation", "write", "message"),
    [
        ("audio-classes", write_whisper, "is not a complete WhisperForAudioClassification"),
        ("audio-classes", lambda folder: write_ast(folder, columns=1040), "for 10240 ms or less"),
        ("audio-text", lambda folder: write_clap(folder, fusion=True), "without fusion"),
        ("audio-text-labels", lambda folder: write_clap(folder, fusion=True), "without fusion"),
    ],
)
def test_checkpoints_of_another_kind_are_refused(
    tmp_path: Path, implementation: str, write: Callable[[Path], Path], message: str
) -> None:
    with pytest.raises(ModelUnavailableError, match=message):
        load(implementation, write(tmp_path))


@pytest.mark.parametrize(
    "names", [{0: "dog", 1: "dog"}, {0: "dog", 1: " "}, {0: "dog", 1: "a\0"}, {0: "dog", 5: "cat"}]
)
def test_classes_that_cannot_be_told_apart_or_stored(tmp_path: Path, names: dict[int, str]) -> None:
    folder = write_ast(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    rest = dict(list(enumerate(AST_CLASSES))[len(names) :])
    config["id2label"] = {str(index): name for index, name in {**rest, **names}.items()}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelUnavailableError, match="names its classes"):
        load("audio-classes", folder)
