"""Speech from a tiny Whisper that says the same two words in every window."""

import itertools
import json
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_sounds import WHISPER_SAYS, write_whisper
from transformers import AutoProcessor

from pipeline.errors import ConfigurationError, ContractError, ResourceExhaustedError
from pipeline.models.base import ModelInfo, SpeechModel, SpokenSegment, Transcript, answers
from pipeline.models.hub.speech import Piece, SpeechRecogniser
from pipeline.models.hub.windows import (
    SAMPLE_RATE_HZ,
    WINDOW_SECONDS,
    TokenSpan,
    Window,
    cut_windows,
    place_segment,
    spans_of_tokens,
)
from pipeline.models.hub.words import words_of_span
from schemas.records import FloatArray

INFO = ModelInfo(
    name="tiny", revision="1", task="speech", licence="none", source="written by a test"
)
#: Token ids for the tests of the parser: letters, end of text, then times.
END, ZERO = 100, 110


def noise(seconds: float, seed: int = 1) -> FloatArray:
    samples = np.random.default_rng(seed).standard_normal(int(seconds * SAMPLE_RATE_HZ))
    return (0.1 * samples).astype(np.float32)


def recogniser(path: Path, **options: Any) -> SpeechRecogniser:
    model = SpeechRecogniser(info=INFO, path_or_repo=str(path), **options)
    model.load("cpu")
    return model


def words(transcript: Transcript) -> list[tuple[str, int, int]]:
    return [(s.text, s.start_ms, s.end_ms) for s in transcript.segments]


def test_one_window(tmp_path: Path) -> None:
    model: SpeechModel = recogniser(write_whisper(tmp_path))
    (transcript,) = answers(model, [noise(3)])
    assert transcript.language == "en"
    assert words(transcript) == list(WHISPER_SAYS)
    assert all(0.99 < segment.confidence <= 1.0 for segment in transcript.segments)


def test_long_sound_is_read_to_its_end_on_one_clock(tmp_path: Path) -> None:
    samples = noise(65)
    # A pause just off the middle of the sound, where one of the cuts is looked for.
    samples[int(21.4 * SAMPLE_RATE_HZ) : int(21.6 * SAMPLE_RATE_HZ)] = 0
    (transcript,) = answers(recogniser(write_whisper(tmp_path), window_batch=2), [samples])
    windows = cut_windows(samples)
    assert len(windows) == 3
    assert abs(windows[1].start / SAMPLE_RATE_HZ - 21.5) < 0.1
    offsets = [window.start * 1000 // SAMPLE_RATE_HZ for window in windows]
    assert words(transcript) == [
        (text, offset + start_ms, offset + end_ms)
        for offset in offsets
        for text, start_ms, end_ms in WHISPER_SAYS
    ]


def test_a_batch_says_what_its_sounds_say_alone(tmp_path: Path) -> None:
    model = recogniser(write_whisper(tmp_path), window_batch=3)
    batch = [noise(2), noise(0), noise(31, seed=2), np.zeros(16_000, np.float32), noise(0.7)]
    together = answers(model, batch)
    alone = [answers(model, [samples])[0] for samples in batch]
    assert [t.language for t in together] == ["en", None, "en", None, "en"]
    assert [words(t) for t in together] == [words(t) for t in alone]
    assert words(together[1]) == words(together[3]) == []
    # Words that would begin after the end of a short sound are not reported; the rest is clipped.
    assert words(together[4]) == [("hello", 0, 400), ("world", 600, 700)]
    assert answers(model, batch) == together
    assert answers(model, []) == []


def test_no_speech(tmp_path: Path) -> None:
    model = recogniser(write_whisper(tmp_path, hears_speech=False))
    assert answers(model, [noise(2)]) == [Transcript(language=None, segments=())]


def test_language_can_be_assumed(tmp_path: Path) -> None:
    write_whisper(tmp_path)
    (transcript,) = answers(recogniser(tmp_path, language="zh"), [noise(1)])
    assert transcript.language == "zh"
    with pytest.raises(ConfigurationError, match="'tlh'; use one of en, zh"):
        recogniser(tmp_path, language="tlh")


def test_wrong_samples_are_a_bug(tmp_path: Path) -> None:
    model = recogniser(write_whisper(tmp_path))
    with pytest.raises(ContractError, match=r"samples\.shape=\(2, 8\)"):
        answers(model, [np.zeros((2, 8), dtype=np.float32)])
    with pytest.raises(ContractError, match="float64"):
        answers(model, [np.zeros(8)])  # type: ignore[list-item]
    with pytest.raises(ContractError, match="input of tiny gave values that are not finite"):
        answers(model, [np.full(8, np.nan, np.float32)])


def test_windows_are_heard_as_the_processor_prepares_them_together(tmp_path: Path) -> None:
    model = recogniser(write_whisper(tmp_path))
    sounds = [noise(3), noise(0.7, seed=2), noise(30, seed=3)]
    extractor = AutoProcessor.from_pretrained(tmp_path).feature_extractor
    expected = extractor(sounds, sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt").input_features
    with ThreadPoolExecutor(4) as threads:
        prepared = list(threads.map(model.prepare, sounds))
    features = torch.stack([piece.features for pieces in prepared for piece in pieces])
    torch.testing.assert_close(features, expected, rtol=0, atol=0)


def test_scores_that_are_no_numbers_give_no_transcript(tmp_path: Path) -> None:
    model = recogniser(write_whisper(tmp_path))
    ((piece,),) = [model.prepare(noise(1))]
    broken = replace(piece, features=torch.full_like(piece.features, torch.nan))
    with pytest.raises(ContractError, match="tiny gave values that are not finite"):
        model.infer([(broken,)])


def test_words_are_timed_on_the_sounds_clock(tmp_path: Path) -> None:
    write_whisper(tmp_path)
    sounds = [noise(40), noise(1.2, seed=2)]
    timed = answers(recogniser(tmp_path, word_times=True), sounds)
    plain = answers(recogniser(tmp_path), sounds)
    assert [words(t) for t in timed] == [words(t) for t in plain]
    assert all(segment.words == () for t in plain for segment in t.segments)
    assert len(timed[0].segments) == 4
    for segment in (segment for t in timed for segment in t.segments):
        (word,) = segment.words
        assert word.text == segment.text
        assert segment.start_ms == word.start_ms <= word.end_ms <= segment.end_ms
        assert 0.99 < word.confidence <= 1


def test_words_cannot_be_timed_without_alignment_heads(tmp_path: Path) -> None:
    write_whisper(tmp_path)
    file = tmp_path / "generation_config.json"
    settings = json.loads(file.read_text(encoding="utf-8"))
    del settings["alignment_heads"]
    file.write_text(json.dumps(settings), encoding="utf-8")
    with pytest.raises(ConfigurationError, match="names no alignment_heads; take those published"):
        recogniser(tmp_path, word_times=True)
    assert answers(recogniser(tmp_path), [noise(1)])[0].segments


PIECES = {1: " Well", 2: "-known", 3: ",", 4: ' "', 5: "Hi", 6: "!", 7: "你", 8: "好", 9: "。"}


def _decode(tokens: Sequence[int]) -> str:
    if 10 in tokens and 11 not in tokens:  # half of a sign
        return "".join(PIECES.get(token, "\ufffd") for token in tokens)
    return "".join("é" if token == 11 else PIECES.get(token, "") for token in tokens)


@pytest.mark.parametrize(
    ("language", "tokens", "expected"),
    [
        ("en", (1, 2, 3, 4, 5, 6), [("Well-known,", 5000, 5300), ('"Hi!', 5300, 5600)]),
        ("fr", (1, 10, 11, 1), [("Wellé", 5000, 5300), ("Well", 5300, 5400)]),
        ("zh", (7, 8, 9, 7), [("你", 5000, 5100), ("好。", 5100, 5300), ("你", 5300, 5400)]),
        (
            "en",
            (1, 1, 1, 1, 1, 1, 1, 1),
            [("Well", 5000 + 100 * i, 5100 + 100 * i) for i in range(7)] + [("Well", 5700, 5700)],
        ),
    ],
)
def test_tokens_become_words(
    language: str, tokens: tuple[int, ...], expected: list[tuple[str, int, int]]
) -> None:
    span = TokenSpan(
        start_ms=0,
        end_ms=700,
        tokens=tokens,
        log_prob=-0.5,
        token_log_probs=(-0.5,) * len(tokens),
        token_ends_ms=tuple(range(100, 100 + 100 * len(tokens), 100)),
    )
    segment = SpokenSegment(start_ms=5000, end_ms=5700, text="any", confidence=1)
    found = words_of_span(span, segment, offset_ms=5000, language=language, decode=_decode)
    assert [(word.text, word.start_ms, word.end_ms) for word in found] == expected
    assert [word.confidence for word in found] == pytest.approx([math.exp(-0.5)] * len(found))


class _Cramped(SpeechRecogniser):
    """Has memory for so many windows at once."""

    room = 2

    def _hear(self, pieces: Sequence[Piece]) -> list[Any]:
        if len(pieces) > self.room:
            raise ResourceExhaustedError("too many windows")
        return super()._hear(pieces)


def test_fewer_windows_at_once_where_memory_is_short(tmp_path: Path) -> None:
    write_whisper(tmp_path)
    cramped = _Cramped(info=INFO, path_or_repo=str(tmp_path), window_batch=5)
    cramped.load("cpu")
    batch = [noise(1, seed=seed) for seed in range(5)]
    assert [words(t) for t in answers(cramped, batch)] == [list(WHISPER_SAYS)] * 5
    cramped.room = 0
    with pytest.raises(ResourceExhaustedError):
        answers(cramped, batch)


@pytest.mark.parametrize("seconds", [0.01, 29.9, 30, 30.1, 56, 60, 90, 200.3])
def test_windows_cover_everything_once(seconds: float) -> None:
    samples = noise(seconds)
    windows = cut_windows(samples)
    assert windows[0].start == 0
    assert windows[-1].end == len(samples)
    for left, right in itertools.pairwise(windows):
        assert left.end == right.start
    lengths = [window.end - window.start for window in windows]
    assert min(lengths) > 0
    assert max(lengths) <= WINDOW_SECONDS * SAMPLE_RATE_HZ


def at(ms: int) -> int:
    return ZERO + ms // 20


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ([END], []),
        ([at(0), at(500), END], []),
        ([at(0), 1, 2, at(500), END], [(0, 500, (1, 2))]),
        ([at(0), 1, at(500), at(500), 2, at(900), END], [(0, 500, (1,)), (500, 900, (2,))]),
        ([at(0), 1, at(500), at(700), 2], [(0, 500, (1,)), (700, None, (2,))]),
        ([1, 2, END, 3, 4], [(0, None, (1, 2))]),
    ],
)
def test_tokens_become_spans(
    tokens: list[int], expected: list[tuple[int, int | None, tuple[int, ...]]]
) -> None:
    spans = spans_of_tokens(
        tokens, [-float(token) for token in tokens], first_timestamp=ZERO, end_token=END
    )
    assert [(s.start_ms, s.end_ms, s.tokens) for s in spans] == expected
    assert [s.log_prob for s in spans] == [-sum(t) / len(t) for _, _, t in expected]


@pytest.mark.parametrize(
    ("start_ms", "end_ms", "text", "expected"),
    [
        (100, 900, "yes", (2100, 2900)),
        (100, 100, "yes", (2100, 2120)),
        (100, None, "yes", (2100, 3000)),
        (900, 25_000, "yes", (2900, 3000)),
        (990, 990, "yes", (2990, 3000)),
        (1000, 1200, "made up", None),
        (100, 900, "", None),
    ],
)
def test_spans_stay_inside_their_window(
    start_ms: int, end_ms: int | None, text: str, expected: tuple[int, int] | None
) -> None:
    window = Window(start=2 * SAMPLE_RATE_HZ, end=3 * SAMPLE_RATE_HZ)
    span = TokenSpan(start_ms=start_ms, end_ms=end_ms, tokens=(1,), log_prob=-0.5)
    segment = place_segment(span, text, window)
    if expected is None:
        assert segment is None
    else:
        assert segment == SpokenSegment(
            start_ms=expected[0], end_ms=expected[1], text=text, confidence=math.exp(-0.5)
        )
