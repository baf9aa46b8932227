import re
import wave
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from pipeline.models.base import Transcript
from pipeline.models.offline.whisper import WhisperBase
from pipeline.models.registry import find_entry
from schemas.records import FloatArray
from workers.demo.media import DemoMedia

RATE_HZ = 16_000
SILENT = Transcript(language=None, segments=())


def read(path: Path) -> FloatArray:
    """Mono samples at 16 kHz of a 16-bit WAV."""
    with wave.open(str(path)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16)
        mono = samples.reshape(-1, file.getnchannels()).mean(axis=1) / 32768
        seconds = len(mono) / file.getframerate()
    moments = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    resampled = np.interp(moments, np.linspace(0, seconds, len(mono)), mono)
    return np.asarray(resampled, np.float32)


def words(transcript: Transcript) -> str:
    text = " ".join(segment.text for segment in transcript.segments)
    return re.sub(r"[^a-z ]", "", text.lower())


@pytest.fixture(scope="module")
def model() -> Iterator[WhisperBase]:
    model = WhisperBase(info=find_entry("whisper-base").info)
    model.load("cpu")
    yield model
    model.unload()


@pytest.fixture(scope="module")
def two_cities(model: WhisperBase, demo_media: DemoMedia) -> Transcript:
    return model.infer([read(demo_media.samples["two_cities.wav"])])[0]


def test_known_words_are_heard(two_cities: Transcript) -> None:
    assert two_cities.language == "en"
    for phrase in (
        "it was the best of times it was the worst of times",
        "it was the season of light it was the season of darkness",
        "we had everything before us we had nothing before us",
    ):
        assert phrase in words(two_cities)


def test_segments_follow_each_other_within_the_sound(two_cities: Transcript) -> None:
    segments = two_cities.segments
    assert segments[0].start_ms < 2_000
    assert all(segment.start_ms < segment.end_ms for segment in segments)
    assert all(a.end_ms <= b.start_ms for a, b in pairwise(segments))
    assert 35_000 < segments[-1].end_ms <= 44_500
    assert all(0.6 < segment.confidence <= 1 for segment in segments)


def test_times_count_from_the_start_of_the_whole_sound(
    model: WhisperBase, demo_media: DemoMedia
) -> None:
    speech = read(demo_media.samples["two_cities.wav"])[: 5 * RATE_HZ]
    later = np.concatenate([np.zeros(90 * RATE_HZ, np.float32), speech])
    now, then = model.infer([speech])[0], model.infer([later])[0]

    assert words(then) == words(now) == "it was the best of times it was the worst of times"
    # The VAD's steps of 32 ms do not fall on the same samples.
    start_ms, end_ms = now.segments[0].start_ms + 90_000, now.segments[-1].end_ms + 90_000
    assert then.segments[0].start_ms == pytest.approx(start_ms, abs=300)
    assert then.segments[-1].end_ms == pytest.approx(end_ms, abs=300)


def test_speech_across_a_blocks_end_is_heard_whole(
    model: WhisperBase, demo_media: DemoMedia, monkeypatch: pytest.MonkeyPatch
) -> None:
    speech = read(demo_media.samples["two_cities.wav"])[: 14 * RATE_HZ]
    whole = words(model.infer([speech])[0])
    monkeypatch.setattr("pipeline.models.offline.whisper._BLOCK_SAMPLES", 3 * RATE_HZ)
    assert words(model.infer([speech])[0]) == whole


def test_another_voice_is_heard(model: WhisperBase, demo_media: DemoMedia) -> None:
    transcript = model.infer([read(demo_media.samples["beckett.wav"])])[0]
    assert transcript.language == "en"
    assert "fail better" in words(transcript)


@pytest.mark.parametrize(
    "sound",
    [
        np.zeros(0, np.float32),
        np.zeros(1, np.float32),
        np.zeros(20 * RATE_HZ, np.float32),
        np.random.default_rng(0).normal(0, 0.1, 20 * RATE_HZ).astype(np.float32),
        np.sin(np.arange(10 * RATE_HZ) * 0.17).astype(np.float32),
        np.tile(np.r_[np.ones(40), np.zeros(7960)], 20).astype(np.float32),
    ],
    ids=["nothing", "one sample", "silence", "noise", "tone", "clicks"],
)
def test_nobody_speaks_in_what_is_no_speech(model: WhisperBase, sound: FloatArray) -> None:
    assert model.infer([sound]) == [SILENT]
