"""Sounds: classes by AST, and CLAP's space of sounds and texts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.signal import resample_poly
from transformers import (
    AutoFeatureExtractor,
    AutoModel,
    AutoModelForAudioClassification,
    AutoTokenizer,
)

from pipeline.errors import ModelUnavailableError
from pipeline.models.base import ModelInfo, SoundFeatures
from pipeline.models.checks import check_finite, check_text
from pipeline.models.hub.loading import HubModel, unit_rows
from pipeline.models.sound_window import SAMPLE_RATE_HZ, check_window
from schemas.records import FloatArray

#: The spectrograms of both have a column every 10 ms.
_COLUMN_MS = 10
#: AST's columns are computed from 25 ms of sound: shorter ones have none.
_LEAST_AST_SAMPLES = 400
_CLAP_RATE_HZ = 48_000
#: As of all labels.
_MAX_LABEL = 200


class SoundClasses(HubModel):
    """AST; implements :class:`pipeline.models.base.SoundModel`: AudioSet's classes, each by itself.

    One frame per window, as the network sees a window whole.
    """

    #: What AST was trained on (1024 columns). The middle half of a window counts.
    window_ms = 10_240
    hop_ms = 5_120

    def _load_parts(self, folder: Path) -> None:
        self._extractor = AutoFeatureExtractor.from_pretrained(  # type: ignore[no-untyped-call]
            folder, local_files_only=True, trust_remote_code=False
        )
        network = self._load_network(AutoModelForAudioClassification, folder)
        config = network.config
        if config.model_type != "audio-spectrogram-transformer":
            raise ModelUnavailableError(
                f"model {self.info.name}: {folder} holds a {type(network).__name__}; use an AST "
                "checkpoint"
            )
        if self._extractor.max_length * _COLUMN_MS > self.window_ms:
            raise ModelUnavailableError(
                f"model {self.info.name}: {folder} hears {self._extractor.max_length} columns of "
                f"{_COLUMN_MS} ms at once; use an AST checkpoint for {self.window_ms} ms or less"
            )
        labels = tuple(str(config.id2label.get(index, "")) for index in range(config.num_labels))
        if len(set(labels)) < len(labels) or not all(map(_can_be_stored, labels)):
            raise ModelUnavailableError(
                f"model {self.info.name}: {folder} names its classes twice, or as nothing that can "
                f"be stored; give each a name of its own, of up to {_MAX_LABEL} characters"
            )
        self._labels = labels
        self._network = network

    def prepare(self, item: FloatArray) -> FloatArray:
        """float32 ``(columns, mel bins)``; too short sound is padded with silence."""
        samples = check_window(item, self.window_ms, self.info.name)
        samples = np.pad(samples, (0, max(0, _LEAST_AST_SAMPLES - len(samples))))
        spectrogram = self._extractor(samples, sampling_rate=SAMPLE_RATE_HZ, return_tensors="np")
        return np.asarray(spectrogram.input_values[0], np.float32)

    def infer(self, batch: Sequence[FloatArray]) -> list[SoundFeatures]:
        """For every class the probability that it is heard somewhere in the window."""
        if not batch:
            return []
        with self._inference() as network:
            columns = torch.from_numpy(np.stack(batch)).to(self._device, self._dtype)
            scores = network(input_values=columns).logits.float().sigmoid().cpu().numpy()
        return [
            SoundFeatures(
                labels=self._labels,
                scores=check_finite(row[None].copy(), self.info.name),
                frame_ms=self.window_ms,
            )
            for row in scores
        ]


def _can_be_stored(label: str) -> bool:
    return 0 < len(label.strip()) <= _MAX_LABEL and "\0" not in label


class _AudioText(HubModel):
    """The loading both sides share. ``space`` names the vector space, equal for both sides."""

    def __init__(self, *, info: ModelInfo, space: str, **options: Any) -> None:
        super().__init__(info=info, **options)
        self.space = space

    def _load_clap(self, folder: Path) -> Any:
        network = self._load_network(AutoModel, folder)
        if network.config.model_type != "clap" or network.config.audio_config.enable_fusion:
            raise ModelUnavailableError(
                f"model {self.info.name}: {folder} holds a {type(network).__name__}; use a CLAP "
                "checkpoint without fusion, which would draw random cuts"
            )
        return network


class AudioTextSounds(_AudioText):
    """CLAP's sound side; implements :class:`pipeline.models.base.SoundModel`."""

    window_ms = 10_000
    hop_ms = 5_000

    def _load_parts(self, folder: Path) -> None:
        self._extractor = AutoFeatureExtractor.from_pretrained(  # type: ignore[no-untyped-call]
            folder, local_files_only=True, trust_remote_code=False
        )
        self._network = self._load_clap(folder)
        known = (self._extractor.sampling_rate, self._extractor.max_length_s * 1000)
        if known != (_CLAP_RATE_HZ, self.window_ms):
            raise ModelUnavailableError(
                f"model {self.info.name}: {folder} takes {known[1]} ms at {known[0]} Hz; use a "
                f"CLAP checkpoint for {self.window_ms} ms at {_CLAP_RATE_HZ} Hz"
            )
        self._scale = float(self._network.logit_scale_a.exp())

    def prepare(self, item: FloatArray) -> FloatArray:
        """float32 ``(1, columns, mel bins)``; short sound is repeated, as it was in training."""
        samples = check_window(item, self.window_ms, self.info.name)
        if not len(samples):
            samples = np.zeros(1, np.float32)
        heard = resample_poly(samples, _CLAP_RATE_HZ // SAMPLE_RATE_HZ, 1)
        # The configuration's way with sound that is too long would be a random cut: none is.
        spectrogram = self._extractor(
            heard, sampling_rate=_CLAP_RATE_HZ, truncation="rand_trunc", return_tensors="np"
        )
        return np.asarray(spectrogram.input_features[0], np.float32)

    def infer(self, batch: Sequence[FloatArray]) -> list[SoundFeatures]:
        """One L2-normalised embedding per window."""
        if not batch:
            return []
        with self._inference() as network:
            columns = torch.from_numpy(np.stack(batch)).to(self._device, self._dtype)
            output = network.get_audio_features(input_features=columns)
            vectors = unit_rows(output.pooler_output, self.info.name)
        return [
            SoundFeatures(
                frame_ms=self.window_ms,
                embedding=vector,
                space=self.space,
                scale=self._scale,
            )
            for vector in vectors
        ]


class AudioTextLabels(_AudioText):
    """CLAP's text side; implements :class:`pipeline.models.base.TextModel`."""

    def _load_parts(self, folder: Path) -> None:
        self._tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        self._network = self._load_clap(folder)
        # RoBERTa counts its positions from the padding's id on.
        config = self._network.config.text_config
        self._max_tokens = int(config.max_position_embeddings) - int(config.pad_token_id) - 1

    def prepare(self, item: str) -> str:
        check_text(item, self.info.name)
        return item

    def infer(self, batch: Sequence[str]) -> list[FloatArray]:
        """One L2-normalised embedding per text, cut to the tokens the model can read."""
        if not batch:
            return []
        with self._inference() as network:
            tokens = self._tokenizer(
                list(batch),
                padding=True,
                truncation=True,
                max_length=self._max_tokens,
                return_tensors="pt",
            ).to(self._device)
            output = network.get_text_features(
                input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
            )
            return unit_rows(output.pooler_output, self.info.name)
