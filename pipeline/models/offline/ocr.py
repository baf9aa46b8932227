"""RapidOCR (PP-OCRv6): lines of text in pictures, with the weights of its wheel."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.errors import ModelUnavailableError
from pipeline.models.base import ModelInfo, TextRegion
from pipeline.models.checks import check_picture, vendor_errors
from pipeline.models.weights import import_library, package_folder, verify
from schemas.records import Box, FloatArray, Image

#: Pictures are brought to this longer side, the detector's cost growing with its square: smaller
#: ones are enlarged, at most twice, as small print is else not found; larger ones lose little.
_LONGER_SIDE_PX = 960
_MOST_ENLARGED = 2.0
_MIN_CONFIDENCE = 0.5
#: A lone character is more often a pattern than text: it must be surer.
_MIN_CONFIDENCE_LONE = 0.8
#: A picture longer than this many times its shorter side is padded, or the engine would enlarge
#: a strip one pixel high until its height is readable.
_MAX_ASPECT = 16


class RapidOcr:
    """Runs on the CPU whatever the device; one picture after another."""

    max_batch = 8

    def __init__(self, *, info: ModelInfo, threads: int = 1) -> None:
        self.info = info
        self._threads = threads
        self._engine: Any = None
        self._weights_bytes = 0

    def load(self, device: str) -> None:
        models = package_folder("rapidocr", version="3.10.0", module="rapidocr") / "models"
        detector = models / "PP-OCRv6_det_small.onnx"
        recogniser = models / "PP-OCRv6_rec_small.onnx"
        verify([detector, recogniser], self.info.sha256)
        self._weights_bytes = sum(path.stat().st_size for path in (detector, recogniser))
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

    def prepare(self, item: Image) -> "_Page":
        check_picture(item, self.info.name)
        return _page(item)

    def infer(self, batch: Sequence["_Page"]) -> list[tuple[TextRegion, ...]]:
        return [self._infer_one(page) for page in batch]

    def _infer_one(self, page: "_Page") -> tuple[TextRegion, ...]:
        with vendor_errors(self.info.name):
            found = self._engine(page.pixels)
        if found.boxes is None or found.txts is None:
            return ()
        regions = [
            TextRegion(
                text=text.strip(),
                confidence=min(max(float(score), 0.0), 1.0),
                box=_box(np.asarray(corners, np.float32) / page.scale, page.height, page.width),
            )
            for corners, text, score in zip(found.boxes, found.txts, found.scores, strict=True)
            if float(score) >= (_MIN_CONFIDENCE_LONE if len(text.strip()) < 2 else _MIN_CONFIDENCE)
        ]
        return reading_order([r for r in regions if r.box.width > 0 and r.box.height > 0])

    def unload(self) -> None:
        self._engine = None

    @property
    def memory_bytes(self) -> int:
        return 0 if self._engine is None else self._weights_bytes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Page:
    """A picture of ``height`` x ``width`` pixels at working size: BGR, and ``(x, y)`` factors from
    original to working size."""

    pixels: npt.NDArray[Any]
    scale: FloatArray
    height: int
    width: int


def _page(picture: Image) -> _Page:
    height, width = picture.shape[:2]
    factor = min(_LONGER_SIDE_PX / max(height, width), _MOST_ENLARGED)
    new_width, new_height = max(1, round(width * factor)), max(1, round(height * factor))
    scaled = cv2.resize(
        cv2.cvtColor(picture, cv2.COLOR_RGB2BGR),
        (new_width, new_height),
        interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC,
    )
    least = -(-max(new_width, new_height) // _MAX_ASPECT)
    padded = cv2.copyMakeBorder(
        scaled,
        0,
        max(0, least - new_height),
        0,
        max(0, least - new_width),
        cv2.BORDER_REPLICATE,
    )
    return _Page(
        pixels=padded,
        scale=np.array([new_width / width, new_height / height], np.float32),
        height=height,
        width=width,
    )


def _box(corners: FloatArray, height: int, width: int) -> Box:
    """The upright rectangle around four corners ``(4, 2)`` in pixels, within the picture."""
    relative = np.clip(corners / np.array([width, height], np.float32), 0.0, 1.0)
    left, top = (float(value) for value in relative.min(axis=0))
    right, bottom = (float(value) for value in relative.max(axis=0))
    return Box(left=left, top=top, width=right - left, height=bottom - top)


def reading_order(regions: Sequence[TextRegion]) -> tuple[TextRegion, ...]:
    """Rows from top to bottom, each from left to right.

    A region belongs to the row whose first region's height spans its middle, so words on one
    slightly tilted line stay together.
    """
    rows: list[list[TextRegion]] = []
    for region in sorted(regions, key=lambda r: (r.box.top, r.box.left)):
        middle = region.box.top + region.box.height / 2
        if rows and middle <= rows[-1][0].box.top + rows[-1][0].box.height:
            rows[-1].append(region)
        else:
            rows.append([region])
    return tuple(r for row in rows for r in sorted(row, key=lambda r: r.box.left))
