"""Speech to text with Whisper: long sound in windows of at most 30 s, batched."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    AutoModelForSpeechSeq2Seq,
    AutoProcessor,
    LogitsProcessor,
    LogitsProcessorList,
)

from pipeline.errors import (
    ConfigurationError,
    ContractError,
    ModelUnavailableError,
    ResourceExhaustedError,
)
from pipeline.models.base import ModelInfo, SpokenSegment, Transcript
from pipeline.models.hub.loading import HubModel
from pipeline.models.hub.windows import (
    SAMPLE_RATE_HZ,
    TokenSpan,
    Window,
    cut_windows,
    place_segment,
    spans_of_tokens,
)
from schemas.records import FloatArray

#: Nothing above -60 dB of full scale is not worth a pass, and invites invented words.
_AUDIBLE_PEAK = 1e-3
#: A window is silence where Whisper says so and doubts its own words: the values of its authors.
_NO_SPEECH_PROBABILITY = 0.6
_NO_SPEECH_LOG_PROB = -1.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Heard:
    """What the model made of one window; ``language`` is ``None`` where nobody spoke."""

    language: str | None
    spans: tuple[TokenSpan, ...]


class SpeechRecogniser(HubModel):
    """Whisper; implements :class:`pipeline.models.base.SpeechModel`.

    ``language``: code such as ``en`` to assume; ``None`` detects it per window, and the transcript
    names the one spoken longest. ``max_new_tokens``: most tokens per window. ``window_batch``:
    most windows per pass, halved where memory runs out.
    """

    def __init__(
        self,
        *,
        info: ModelInfo,
        language: str | None = None,
        max_new_tokens: int = 224,
        window_batch: int = 8,
        **options: Any,
    ) -> None:
        super().__init__(info=info, **options)
        self._language = language
        self._max_new_tokens = max_new_tokens
        self._window_batch = window_batch

    def _load_parts(self, folder: Path) -> None:
        self._processor = AutoProcessor.from_pretrained(  # type: ignore[no-untyped-call]
            folder, local_files_only=True, trust_remote_code=False
        )
        network = self._load_network(AutoModelForSpeechSeq2Seq, folder)
        if network.config.model_type != "whisper":
            raise ModelUnavailableError(
                f"model {self.info.name}: {folder} holds a {type(network).__name__}; use a Whisper "
                "checkpoint"
            )
        settings = network.generation_config
        self._languages = {
            token_id: token.strip("<|>")
            for token, token_id in (getattr(settings, "lang_to_id", None) or {}).items()
        }
        if self._language is not None and self._language not in self._known_languages():
            raise ConfigurationError(
                f"model {self.info.name} does not know the language {self._language!r}; use one "
                f"of {', '.join(sorted(self._known_languages()))}"
            )
        # Whisper's vocabulary ends with: no speech, no timestamps, 0.00, 0.02, …, 30.00.
        self._first_timestamp = settings.no_timestamps_token_id + 1
        self._no_speech = settings.no_timestamps_token_id - 1
        self._network = network

    def infer(self, batch: Sequence[FloatArray]) -> list[Transcript]:
        """One transcript per sound; times are milliseconds on that sound's own clock."""
        for samples in batch:
            if samples.ndim != 1 or samples.dtype != np.float32:
                raise ContractError(f"expected float32 (n,), got {samples.shape=} {samples.dtype=}")
        places = [
            (index, window)
            for index, samples in enumerate(batch)
            for window in cut_windows(samples)
            if np.abs(samples[window.start : window.end]).max() >= _AUDIBLE_PEAK
        ]
        heard: list[_Heard] = []
        for first in range(0, len(places), self._window_batch):
            part = places[first : first + self._window_batch]
            heard += self._hear_halving(
                [batch[index][window.start : window.end] for index, window in part]
            )
        return [
            self._transcript(
                [(w, h) for (at, w), h in zip(places, heard, strict=True) if at == index]
            )
            for index in range(len(batch))
        ]

    def _known_languages(self) -> set[str]:
        return set(self._languages.values()) or {"en"}

    def _hear_halving(self, windows: list[FloatArray]) -> list[_Heard]:
        """One long sound is many windows, so a smaller batch of sounds would not help."""
        try:
            return self._hear(windows)
        except ResourceExhaustedError:
            if len(windows) == 1:
                raise
        half = len(windows) // 2
        return self._hear_halving(windows[:half]) + self._hear_halving(windows[half:])

    def _hear(self, windows: list[FloatArray]) -> list[_Heard]:
        with self._inference() as network:
            features = self._processor.feature_extractor(
                windows, sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt"
            ).input_features.to(self._device, self._dtype)
            encoded = network.get_encoder()(features)
            first_logits = self._first_step(network, encoded)
            languages = self._detect(first_logits)
            silence = first_logits.softmax(dim=-1)[:, self._no_speech].tolist()
            tokens, log_probs = self._decode(network, encoded, languages)
        heard: list[_Heard] = []
        for language, quiet, row, scores in zip(languages, silence, tokens, log_probs, strict=True):
            spans = spans_of_tokens(
                row,
                scores,
                first_timestamp=self._first_timestamp,
                end_token=network.generation_config.eos_token_id,
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
        self, network: Any, encoded: Any, languages: list[str]
    ) -> tuple[list[list[int]], list[list[float]]]:
        """Greedy tokens with timestamps, and the log-probability of each."""
        recorder = _Recorder()
        choice: dict[str, Any] = (
            {"language": languages, "task": "transcribe"} if self._languages else {}
        )
        sequences = network.generate(
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
        scores = torch.stack(recorder.log_probs, dim=1).tolist()
        return sequences[:, -steps:].tolist(), scores

    def _transcript(self, parts: Sequence[tuple[Window, _Heard]]) -> Transcript:
        segments: list[SpokenSegment] = []
        spoken_ms: dict[str, int] = {}
        for window, heard in parts:
            for span in heard.spans:
                text = self._processor.tokenizer.decode(span.tokens, skip_special_tokens=True)
                segment = place_segment(span, text.strip(), window)
                if segment is None or heard.language is None:
                    continue
                segments.append(segment)
                length_ms = segment.end_ms - segment.start_ms
                spoken_ms[heard.language] = spoken_ms.get(heard.language, 0) + length_ms
        language = max(spoken_ms, key=lambda code: spoken_ms[code]) if spoken_ms else None
        return Transcript(language=language, segments=tuple(segments))


class _Recorder(LogitsProcessor):
    """Keeps the log-probability of the token greedy decoding takes at each step.

    Asking ``generate`` for its scores would keep the whole vocabulary for every token instead.
    """

    def __init__(self) -> None:
        self.log_probs: list[torch.Tensor] = []

    def __call__(self, _input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.log_probs.append(scores.float().log_softmax(dim=-1).max(dim=-1).values)
        return scores


def _mean_log_prob(spans: Sequence[TokenSpan]) -> float:
    count = sum(len(span.tokens) for span in spans)
    return sum(span.log_prob * len(span.tokens) for span in spans) / count if count else 0.0
