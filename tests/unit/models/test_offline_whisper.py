import re
import wave
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.models.base import Transcript, answers
from pipeline.models.offline.whisper import WhisperBase
from pipeline.models.registry import create, find_entry
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
    return answers(model, [read(demo_media.samples["two_cities.wav"])])[0]


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
    now, then = answers(model, [speech])[0], answers(model, [later])[0]

    assert words(then) == words(now) == "it was the best of times it was the worst of times"
    # The VAD's steps of 32 ms do not fall on the same samples.
    start_ms, end_ms = now.segments[0].start_ms + 90_000, now.segments[-1].end_ms + 90_000
    assert then.segments[0].start_ms == pytest.approx(start_ms, abs=300)
    assert then.segments[-1].end_ms == pytest.approx(end_ms, abs=300)


def test_speech_across_a_blocks_end_is_heard_whole(
    model: WhisperBase, demo_media: DemoMedia, monkeypatch: pytest.MonkeyPatch
) -> None:
    speech = read(demo_media.samples["two_cities.wav"])[: 14 * RATE_HZ]
    whole = words(answers(model, [speech])[0])
    monkeypatch.setattr("pipeline.models.offline.whisper._BLOCK_SAMPLES", 3 * RATE_HZ)
    assert words(answers(model, [speech])[0]) == whole


def test_another_voice_is_heard(model: WhisperBase, demo_media: DemoMedia) -> None:
    transcript = answers(model, [read(demo_media.samples["beckett.wav"])])[0]
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
    assert answers(model, [sound]) == [SILENT]


def test_words_are_timed_on_the_clock_of_the_whole_sound(demo_media: DemoMedia) -> None:
    model: Any = create(find_entry("whisper-base-words"))
    model.load("cpu")
    speech = read(demo_media.samples["two_cities.wav"])[: 5 * RATE_HZ]
    later = np.concatenate([np.zeros(60 * RATE_HZ, np.float32), speech])
    now, then = answers(model, [speech])[0], answers(model, [later])[0]
    spoken = "it was the best of times it was the worst of times".split()
    loudness = np.convolve(speech**2, np.ones(RATE_HZ // 5), mode="valid")
    first, last = int(1.5 * RATE_HZ), int(3.5 * RATE_HZ)
    pause_ms = (first + int(loudness[first:last].argmin()) + RATE_HZ // 10) * 1000 // RATE_HZ
    for transcript, offset_ms in ((now, 0), (then, 60_000)):
        timed = [word for segment in transcript.segments for word in segment.words]
        assert [re.sub("[^a-z]", "", word.text.lower()) for word in timed] == spoken
        assert all(a.end_ms <= b.start_ms for a, b in pairwise(timed))
        assert all(word.start_ms <= word.end_ms and 0 < word.confidence <= 1 for word in timed)
        for segment in transcript.segments:
            assert segment.start_ms <= segment.words[0].start_ms
            assert segment.words[-1].end_ms <= segment.end_ms
        # The reader pauses between the two clauses, of six words each.
        assert timed[5].start_ms - offset_ms < pause_ms < timed[7].start_ms - offset_ms


def test_words_are_empty_unless_asked_for(two_cities: Transcript) -> None:
    assert all(segment.words == () for segment in two_cities.segments)
