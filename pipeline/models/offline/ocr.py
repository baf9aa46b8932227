"""RapidOCR (PP-OCRv6): lines of text in pictures, with the weights of its wheel."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.errors import ModelUnavailableError
from pipeline.models.base import ModelInfo, TextRegion
from pipeline.models.offline.checks import check_picture, vendor_errors
from pipeline.models.weights import import_library, package_folder, verify
from schemas.records import Box, FloatArray, Image

#: Pictures are brought to this longer side, the detector's cost growing with its square: smaller
#: ones are enlarged, at most twice, as small print is else not found; larger ones lose little.
_LONGER_SIDE_PX = 960
_MOST_ENLARGED = 2.0
_MIN_CONFIDENCE = 0.5
#: A lone character is more often a pattern than text: it must be surer.
_MIN_CONFIDENCE_LONE = 0.8
#: Longer sides are at most this many times the shorter; beyond it the picture is padded.
_MAX_ASPECT = 16


class RapidOcr:
    """Runs on the CPU whatever the device; one picture after another."""

    max_batch = 8

    def __init__(self, *, info: ModelInfo, threads: int = 1) -> None:
        self.info = info
        self._threads = threads
        self._engine: Any = None

    def load(self, device: str) -> None:
        models = package_folder("rapidocr", version="3.10.0", module="rapidocr") / "models"
        detector = models / "PP-OCRv6_det_small.onnx"
        recogniser = models / "PP-OCRv6_rec_small.onnx"
        verify([detector, recogniser], self.info.sha256)
        rapidocr = import_library("rapidocr")
        try:
            self._engine = rapidocr.RapidOCR(
                params={
                    "Global.log_level": "critical",
                    "Global.use_cls": False,
                    "Global.text_score": _MIN_CONFIDENCE,
                    "Det.limit_type": "max",
                    "Det.limit_side_len": _LONGER_SIDE_PX,
                    "Det.model_path": str(detector),
                    "Rec.model_path": str(recogniser),
                    "EngineConfig.onnxruntime.intra_op_num_threads": self._threads,
                    "EngineConfig.onnxruntime.inter_op_num_threads": 1,
                }
            )
            # It reads its weights with the first picture; here they are read now.
            self._engine(np.zeros((64, 64, 3), np.uint8))
        except Exception as error:  # onnxruntime's errors have no base class of their own
            raise ModelUnavailableError(
                f"RapidOCR cannot read its models in {models}; reinstall rapidocr"
            ) from error

    def infer(self, batch: Sequence[Image]) -> list[tuple[TextRegion, ...]]:
        return [self._infer_one(picture) for picture in batch]

    def _infer_one(self, picture: Image) -> tuple[TextRegion, ...]:
        check_picture(picture, self.info.name)
        prepared, scale = _prepare(picture)
        with vendor_errors(self.info.name):
            found = self._engine(prepared)
        if found.boxes is None or found.txts is None:
            return ()
        height, width = picture.shape[:2]
        regions = [
            TextRegion(
                text=text.strip(),
                confidence=min(max(float(score), 0.0), 1.0),
                box=_box(np.asarray(corners, np.float32) / scale, height, width),
            )
            for corners, text, score in zip(found.boxes, found.txts, found.scores, strict=True)
            if float(score) >= (_MIN_CONFIDENCE_LONE if len(text.strip()) < 2 else _MIN_CONFIDENCE)
        ]
        return reading_order(region for region in regions if _visible(region.box))

    def unload(self) -> None:
        self._engine = None
