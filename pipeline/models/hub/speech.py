"""Speech to text with Whisper: long sound in windows of at most 30 s, batched."""

import itertools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForSpeechSeq2Seq, AutoProcessor, LogitsProcessorList

from pipeline.errors import ConfigurationError, ModelUnavailableError, ResourceExhaustedError
from pipeline.models.base import ModelInfo, SpokenSegment, Transcript
from pipeline.models.checks import check_finite, check_samples, vendor_errors
from pipeline.models.hub.decoding import Recorder
from pipeline.models.hub.loading import HubModel
from pipeline.models.hub.windows import (
    SAMPLE_RATE_HZ,
    TokenSpan,
    Window,
    cut_windows,
    place_segment,
    spans_of_tokens,
)
from pipeline.models.hub.words import words_of_span
from schemas.records import FloatArray

#: Nothing above -60 dB of full scale is not worth a pass, and invites invented words.
_AUDIBLE_PEAK = 1e-3
#: A window is silence where Whisper says so and doubts its own words: the values of its authors.
_NO_SPEECH_PROBABILITY = 0.6
_NO_SPEECH_LOG_PROB = -1.0
#: One frame of its spectrograms.
_FRAME_SAMPLES = 160


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Piece:
    """A window of a sound, as its log-mel spectrogram: float32 ``(bins, 3000)``, 30 s."""

    window: Window
    features: torch.Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Heard:
    """What the model made of one window; ``language`` is ``None`` where nobody spoke."""

    language: str | None
    spans: tuple[TokenSpan, ...]


class SpeechRecogniser(HubModel):
    """Whisper; implements :class:`pipeline.models.base.SpeechModel`.

    ``language``: code such as ``en`` to assume; ``None`` detects it per window, and the transcript
    names the one spoken longest. ``max_new_tokens``: most tokens per window. ``window_batch``:
    most windows per pass, halved where memory runs out. ``word_times``: whether segments have
    words with times, from what the decoder looks at while it writes; slower, and only for
    checkpoints that name their ``alignment_heads``.
    """

    def __init__(
        self,
        *,
        info: ModelInfo,
        language: str | None = None,
        max_new_tokens: int = 224,
        window_batch: int = 8,
        word_times: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(info=info, **options)
        self._language = language
        self._max_new_tokens = max_new_tokens
        self._window_batch = window_batch
        self._word_times = word_times

    def _load_parts(self, folder: Path) -> None:
        self._processor = AutoProcessor.from_pretrained(  # type: ignore[no-untyped-call]
            folder, local_files_only=True, trust_remote_code=False
        )
        # Other ways to compute attention do not tell where it looked.
        settings = {"attn_implementation": "eager"} if self._word_times else {}
        network = self._load_network(AutoModelForSpeechSeq2Seq, folder, **settings)
        if network.config.model_type != "whisper":
            raise ModelUnavailableError(
                f"model {self.info.name}: {folder} holds a {type(network).__name__}; use a Whisper "
                "checkpoint"
            )
        generation = network.generation_config
        if self._word_times and not getattr(generation, "alignment_heads", None):
            raise ConfigurationError(
                f"model {self.info.name} cannot time words: generation_config.json in {folder} "
                "names no alignment_heads; take those published for the model, or leave the "
                "option word_times off"
            )
        self._languages = {
            token_id: token.strip("<|>")
            for token, token_id in (getattr(generation, "lang_to_id", None) or {}).items()
        }
        if self._language is not None and self._language not in self._known_languages():
            raise ConfigurationError(
                f"model {self.info.name} does not know the language {self._language!r}; use one "
                f"of {', '.join(sorted(self._known_languages()))}"
            )
        # Whisper's vocabulary ends with: no speech, no timestamps, 0.00, 0.02, …, 30.00.
        self._first_timestamp = generation.no_timestamps_token_id + 1
        self._no_speech = generation.no_timestamps_token_id - 1
        self._network = network
        self._compiled(network.get_encoder())

    def prepare(self, item: FloatArray) -> tuple[Piece, ...]:
        """The windows of a sound in which there is something to hear."""
        self._ready()
        check_samples(item, self.info.name)
        with vendor_errors(self.info.name):
            return tuple(
                Piece(window=window, features=self._spectrogram(item[window.start : window.end]))
                for window in cut_windows(item)
                if np.abs(item[window.start : window.end]).max() >= _AUDIBLE_PEAK
            )

    def _spectrogram(self, samples: FloatArray) -> torch.Tensor:
        features: torch.Tensor = self._processor.feature_extractor(
            samples, sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt"
        ).input_features
        return features[0]

    def infer(self, batch: Sequence[tuple[Piece, ...]]) -> list[Transcript]:
        """One transcript per sound; times are milliseconds on that sound's own clock."""
        pieces = [piece for sound in batch for piece in sound]
        heard: list[_Heard] = []
        for first in range(0, len(pieces), self._window_batch):
            heard += self._hear_halving(pieces[first : first + self._window_batch])
        parts = iter(zip([piece.window for piece in pieces], heard, strict=True))
        return [self._transcript(list(itertools.islice(parts, len(sound)))) for sound in batch]

    def _known_languages(self) -> set[str]:
        return set(self._languages.values()) or {"en"}

    def _hear_halving(self, pieces: Sequence[Piece]) -> list[_Heard]:
        """One long sound is many windows, so a smaller batch of sounds would not help."""
        try:
            return self._hear(pieces)
        except ResourceExhaustedError:
            if len(pieces) == 1:
                raise
        half = len(pieces) // 2
        return self._hear_halving(pieces[:half]) + self._hear_halving(pieces[half:])

    def _hear(self, pieces: Sequence[Piece]) -> list[_Heard]:
        with self._inference() as network:
            encoded = network.get_encoder()(
                self._placed(torch.stack([piece.features for piece in pieces]))
            )
            first_logits = self._first_step(network, encoded)
            languages = self._detect(first_logits)
            silence = first_logits.softmax(dim=-1)[:, self._no_speech].cpu().numpy()
            check_finite(silence, self.info.name)
            decoded = self._decode(network, encoded, languages, pieces)
        heard: list[_Heard] = []
        for language, quiet, row in zip(languages, silence.tolist(), decoded, strict=True):
            spans = spans_of_tokens(
                row.tokens,
                row.log_probs,
                first_timestamp=self._first_timestamp,
                end_token=network.generation_config.eos_token_id,
                ends_ms=row.ends_ms,
            )
            if quiet > _NO_SPEECH_PROBABILITY and _mean_log_prob(spans) < _NO_SPEECH_LOG_PROB:
                spans = []
            heard.append(_Heard(language=language if spans else None, spans=tuple(spans)))
        return heard

    def _first_step(self, network: Any, encoded: Any) -> torch.Tensor:
        """Logits after the start token: where Whisper names the language, or no speech."""
        start = torch.full(
            (encoded.last_hidden_state.shape[0], 1),
            network.generation_config.decoder_start_token_id,
            device=self._device,
        )
        logits: torch.Tensor = network(encoder_outputs=encoded, decoder_input_ids=start).logits
        return logits[:, 0].float()

    def _detect(self, first_logits: torch.Tensor) -> list[str]:
        if self._language is not None or not self._languages:
            return [self._language or "en"] * len(first_logits)
        ids = list(self._languages)
        best = first_logits[:, ids].argmax(dim=-1).tolist()
        return [self._languages[ids[index]] for index in best]

    def _decode(
        self, network: Any, encoded: Any, languages: list[str], pieces: Sequence[Piece]
    ) -> "list[_Decoded]":
        """Greedy tokens with timestamps, and the log-probability of each."""
        recorder = Recorder()
        choice: dict[str, Any] = (
            {"language": languages, "task": "transcribe"} if self._languages else {}
        )
        if self._word_times:
            choice |= {
                "return_token_timestamps": True,
                "return_dict_in_generate": True,
                "attention_mask": _frame_mask(pieces, self._device),
            }
        with warnings.catch_warnings():
            # transformers hands a tensor to numpy in a way that numpy will not take for ever.
            warnings.filterwarnings("ignore", message="__array_wrap__", category=DeprecationWarning)
            made = network.generate(
                encoder_outputs=encoded,
                return_timestamps=True,
                force_unique_generate_call=True,
                do_sample=False,
                num_beams=1,
                max_new_tokens=min(self._max_new_tokens, network.config.max_target_positions - 4),
                logits_processor=LogitsProcessorList([recorder]),
                **choice,
            )
        steps = len(recorder.log_probs)
        scores = torch.stack(recorder.log_probs, dim=1).cpu().numpy()
        check_finite(scores, self.info.name)
        sequences = made["sequences"] if self._word_times else made
        ends_ms: list[list[int] | None] = [None] * len(pieces)
        if self._word_times:
            seconds = made["token_timestamps"][:, -steps:].double().nan_to_num(0.0)
            ends_ms = [[round(end * 1000) for end in row] for row in seconds.tolist()]
        return [
            _Decoded(tokens=tokens, log_probs=log_probs, ends_ms=ends)
            for tokens, log_probs, ends in zip(
                sequences[:, -steps:].tolist(), scores.tolist(), ends_ms, strict=True
            )
        ]

    def _transcript(self, parts: Sequence[tuple[Window, _Heard]]) -> Transcript:
        segments: list[SpokenSegment] = []
        spoken_ms: dict[str, int] = {}
        for window, heard in parts:
            for span in heard.spans:
                text = self._processor.tokenizer.decode(span.tokens, skip_special_tokens=True)
                segment = place_segment(span, text.strip(), window)
                if segment is None or heard.language is None:
                    continue
                if self._word_times:
                    segment = replace(
                        segment,
                        words=words_of_span(
                            span,
                            segment,
                            offset_ms=window.start * 1000 // SAMPLE_RATE_HZ,
                            language=heard.language,
                            decode=self._processor.tokenizer.decode,
                        ),
                    )
                segments.append(segment)
                length_ms = segment.end_ms - segment.start_ms
                spoken_ms[heard.language] = spoken_ms.get(heard.language, 0) + length_ms
        language = max(spoken_ms, key=lambda code: spoken_ms[code]) if spoken_ms else None
        return Transcript(language=language, segments=tuple(segments))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Decoded:
    """One window's tokens, with the log-probability and perhaps the end of each."""

    tokens: list[int]
    log_probs: list[float]
    ends_ms: list[int] | None


def _frame_mask(pieces: Sequence[Piece], device: torch.device) -> torch.Tensor:
    """Which frames of the spectrograms ``(n, 3000)`` are sound: the rest is filled up."""
    mask = torch.zeros((len(pieces), pieces[0].features.shape[-1]), dtype=torch.long)
    for row, piece in zip(mask, pieces, strict=True):
        # Attention is at half the rate of frames: at least one place of it must be left.
        row[: max(2, -(-(piece.window.end - piece.window.start) // _FRAME_SAMPLES))] = 1
    return mask.to(device)


def _mean_log_prob(spans: Sequence[TokenSpan]) -> float:
    count = sum(len(span.tokens) for span in spans)
    return sum(span.log_prob * len(span.tokens) for span in spans) / count if count else 0.0
