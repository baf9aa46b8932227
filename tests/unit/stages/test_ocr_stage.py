"""When text in pictures counts as being there, and that no picture is read twice."""

from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from pipeline.models.base import TextRegion
from pipeline.stages import ocr, vision
from pipeline.stages.base import Models, StageInputs, distinct_pictures
from schemas.records import Box, Keyframe, Shot

WHOLE = Box(left=0, top=0, width=1, height=1)


def keyframe(shot: int, at_ms: int, picture: int | None, index: int = 0) -> Keyframe:
    return Keyframe(
        shot_index=shot, keyframe_index=index, at_ms=at_ms, pts=None, width_px=8, height_px=8,
        sha256=f"{shot}-{at_ms}", picture_index=picture, phash=None,
    )  # fmt: skip


class Reader:
    """A model that reads what is written in the one pixel of a picture."""

    space = "test"

    def __init__(self, words: dict[int, list[tuple[str, float]]]) -> None:
        self.words = words
        self.pictures: list[int] = []

    def map(self, role: str, items: Iterator[Any]) -> Iterator[Any]:
        for item in items:
            self.pictures.append(int(item.ravel()[0]))
            if role == "ocr":
                yield [
                    TextRegion(text=text, confidence=confidence, box=WHOLE)
                    for text, confidence in self.words.get(self.pictures[-1], [])
                ]
            else:
                vector = np.array([self.pictures[-1], 1], np.float32)
                yield SimpleNamespace(embedding=vector, class_scores=None)

    def get(self, role: str) -> "Reader":
        return self


def inputs(shots: Sequence[Shot], keyframes: Sequence[Keyframe]) -> StageInputs:
    found = SimpleNamespace(
        shots=lambda: shots,
        keyframes=lambda: keyframes,
        image=lambda frame: np.full((1, 1, 3), frame.picture_index, np.uint8),
        arrays=lambda name: {},
    )
    return cast("StageInputs", found)


def test_text_stands_from_its_keyframe_to_the_next() -> None:
    shots = [
        Shot(shot_index=0, start_ms=0, end_ms=60_000),
        Shot(shot_index=1, start_ms=60_000, end_ms=70_000),
    ]
    # The keyframe that stands for the shot is not its earliest.
    keyframes = [
        keyframe(0, 25_000, 1, 0),
        keyframe(0, 5_000, 0, 1),
        keyframe(0, 45_000, 2, 2),
        keyframe(1, 65_000, 1, 0),
    ]
    reader = Reader({0: [("LIVE", 0.9)], 1: [("LIVE", 0.95), ("NEWS", 0.8)], 2: [("NEWS", 0.9)]})

    output = ocr.run(inputs(shots, keyframes), ocr.OcrParams(), cast("Models", reader))

    cues = [(c.text, c.start_ms, c.end_ms, c.confidence) for c in output.records["cues"]]
    assert cues == [
        ("LIVE", 0, 45_000, 0.95),
        ("NEWS", 25_000, 60_000, 0.9),
        ("LIVE", 60_000, 70_000, 0.95),
        ("NEWS", 60_000, 70_000, 0.8),
    ]
    # Picture 1 was read once.
    assert reader.pictures == [0, 1, 2]


def test_text_that_goes_and_comes_back_is_two_cues() -> None:
    shots = [Shot(shot_index=0, start_ms=0, end_ms=30_000)]
    keyframes = [keyframe(0, 1000, 0), keyframe(0, 10_000, 1, 1), keyframe(0, 20_000, 0, 2)]
    reader = Reader({0: [("SALE", 0.9), ("SALE", 0.7), ("noise", 0.2)]})

    output = ocr.run(inputs(shots, keyframes), ocr.OcrParams(), cast("Models", reader))

    cues = [(c.text, c.start_ms, c.end_ms, c.confidence) for c in output.records["cues"]]
    assert cues == [("SALE", 0, 10_000, 0.9), ("SALE", 20_000, 30_000, 0.9)]


def test_like_pictures_are_looked_at_once() -> None:
    shots = [Shot(shot_index=i, start_ms=i * 1000, end_ms=i * 1000 + 1000) for i in range(4)]
    keyframes = [keyframe(i, i * 1000, i % 2) for i in range(4)]
    reader = Reader({})

    output = vision.run(inputs(shots, keyframes), vision.VisionParams(), cast("Models", reader))

    assert reader.pictures == [0, 1]
    rows = output.arrays["picture_features"]
    assert rows["shot_index"].tolist() == [0, 1, 2, 3]
    assert rows["embedding"][:, 0].tolist() == [0, 1, 0, 1]


def test_keyframes_without_numbers_are_told_apart_by_their_bytes() -> None:
    frames = [keyframe(0, 0, None), keyframe(0, 500, None, 1), keyframe(0, 0, None, 2)]
    chosen, place_of = distinct_pictures(frames)
    assert chosen == frames[:2]
    assert place_of == [0, 1, 0]
