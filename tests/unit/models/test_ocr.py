from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as PilImage

from pipeline.models.base import TextRegion, answers
from pipeline.models.offline.ocr import RapidOcr, reading_order
from pipeline.models.registry import find_entry
from schemas.records import Box, Image
from workers.demo.media import DemoMedia


@pytest.fixture(scope="module")
def model() -> Iterator[RapidOcr]:
    model = RapidOcr(info=find_entry("rapidocr").info)
    model.load("cpu")
    yield model
    model.unload()


def read(path: Path) -> Image:
    with PilImage.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def test_a_photographed_page_is_read(model: RapidOcr, demo_media: DemoMedia) -> None:
    (regions,) = answers(model, [read(demo_media.samples["page.png"])])
    text = "".join(region.text for region in regions).replace(" ", "").lower()
    assert "region-basedsegmentation" in text
    assert "markersofthecoins" in text
    assert all(0.5 <= region.confidence <= 1 for region in regions)


def test_a_photograph_without_text_has_none(model: RapidOcr, demo_media: DemoMedia) -> None:
    assert answers(model, [read(demo_media.samples["chelsea.png"])]) == [()]


@pytest.mark.parametrize(("width", "height"), [(1280, 720), (640, 360), (2560, 1440)])
def test_boxes_are_where_the_words_are(model: RapidOcr, width: int, height: int) -> None:
    picture = np.full((720, 1280, 3), (30, 60, 90), np.uint8)
    cv2.putText(picture, "LISBON", (100, 150), cv2.FONT_HERSHEY_SIMPLEX, 3, (255, 255, 255), 6)
    cv2.putText(picture, "HARBOUR", (700, 600), cv2.FONT_HERSHEY_SIMPLEX, 3, (255, 255, 0), 6)
    (regions,) = answers(model, [np.asarray(cv2.resize(picture, (width, height)), np.uint8)])

    assert [region.text for region in regions] == ["LISBON", "HARBOUR"]
    first, second = (region.box for region in regions)
    middles = [(box.left + box.width / 2, box.top + box.height / 2) for box in (first, second)]
    assert middles[0] == pytest.approx((0.21, 0.16), abs=0.03)
    assert middles[1] == pytest.approx((0.71, 0.785), abs=0.03)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 4000, 3), (4000, 1, 3), (9, 2500, 3), (2, 9, 3)])
@pytest.mark.parametrize("grey", [True, False])
def test_odd_shapes_hold_no_text(model: RapidOcr, shape: tuple[int, ...], grey: bool) -> None:
    noise = np.random.default_rng(2).integers(0, 256, shape, dtype=np.uint8)
    picture = np.full(shape, 127, np.uint8) if grey else noise
    (regions,) = answers(model, [picture])
    for region in regions:
        assert 0 <= region.box.left <= region.box.left + region.box.width <= 1.000001
        assert 0 <= region.box.top <= region.box.top + region.box.height <= 1.000001
    assert not grey or regions == ()


def test_grey_noise_holds_no_text(model: RapidOcr) -> None:
    noise = np.random.default_rng(3).integers(0, 256, (360, 640, 1), dtype=np.uint8)
    assert answers(model, [np.repeat(noise, 3, axis=2)]) == [()]


def test_reading_order_goes_by_rows_then_from_left() -> None:
    def region(text: str, left: float, top: float) -> TextRegion:
        box = Box(left=left, top=top, width=0.2, height=0.1)
        return TextRegion(text=text, confidence=1, box=box)

    regions = [
        region("d", 0.5, 0.52), region("b", 0.6, 0.08), region("a", 0.1, 0.11),
        region("c", 0.1, 0.5), region("e", 0.1, 0.9),
    ]  # fmt: skip
    assert "".join(r.text for r in reading_order(regions)) == "abcde"
