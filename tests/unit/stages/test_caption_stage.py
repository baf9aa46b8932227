"""What a captioning model is shown of each shot, and what becomes of its sentences."""

from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from pipeline.errors import ConfigurationError
from pipeline.models.base import CaptionRequest
from pipeline.stages import caption
from pipeline.stages.base import Models, StageInputs
from pipeline.stages.caption import CaptionParams
from schemas.records import Caption, Cue, CueOrigin, Keyframe, Shot


def keyframe(shot: int, index: int, at_ms: int, picture: int) -> Keyframe:
    return Keyframe(
        shot_index=shot, keyframe_index=index, at_ms=at_ms, pts=None, width_px=8, height_px=8,
        sha256=f"{at_ms}", picture_index=picture, phash=None,
    )  # fmt: skip


def cue(origin: CueOrigin, start_ms: int, text: str) -> Cue:
    return Cue(origin=origin, start_ms=start_ms, end_ms=start_ms + 500, text=text)


SHOTS = [Shot(shot_index=n, start_ms=n * 1000, end_ms=n * 1000 + 1000) for n in range(3)]
#: Six pictures of the first shot, the most typical in its middle; none of the second.
KEYFRAMES = [
    keyframe(0, 0, 500, 0), keyframe(0, 1, 0, 1), keyframe(0, 2, 100, 1), keyframe(0, 3, 300, 2),
    keyframe(0, 4, 700, 3), keyframe(0, 5, 900, 4), keyframe(2, 0, 2500, 5),
]  # fmt: skip
CUES = [
    cue("speech", 100, "It was the\nbest"), cue("speech", 600, "of times."),
    cue("ocr", 200, "EXIT"), cue("ocr", 400, "EXIT"), cue("subtitle", 2100, "Nobody."),
]  # fmt: skip


class Captioner:
    """A model that says how many pictures it saw, and nothing about the last picture."""

    def __init__(self, max_images: int = 8) -> None:
        self.max_images = max_images
        self.requests: list[CaptionRequest] = []

    def has(self, role: str) -> bool:
        return role == "caption"

    def get(self, role: str) -> "Captioner":
        return self

    def map(self, role: str, items: Iterator[CaptionRequest]) -> Iterator[str]:
        for item in items:
            self.requests.append(item)
            yield "" if shown(item) == [2500] else f"{len(item.images)} pictures"


def shown(request: CaptionRequest) -> list[int]:
    return [int(image[0, 0, 0]) for image in request.images]


def captions(
    model: Captioner, params: CaptionParams, keyframes: Sequence[Keyframe] = KEYFRAMES
) -> Sequence[Caption]:
    inputs = SimpleNamespace(
        shots=lambda: SHOTS,
        keyframes=lambda: keyframes,
        cues=lambda: CUES,
        image=lambda frame: np.full((1, 1, 3), frame.at_ms, np.int64),
    )
    output = caption.run(cast("StageInputs", inputs), params, cast("Models", cast("Any", model)))
    return cast("Sequence[Caption]", output.records["captions"])


def test_a_model_sees_pictures_and_words_of_its_shot() -> None:
    model = Captioner()
    found = captions(model, CaptionParams(prompt="What?"))
    # The second shot has no picture, and about the third the model says nothing.
    assert [(c.shot_index, c.start_ms, c.text) for c in found] == [(0, 0, "4 pictures")]
    first, third = model.requests
    # The most typical one, and those farthest from it; never two of the same picture.
    assert shown(first) == [0, 300, 500, 900]
    assert first.transcript == "It was the best of times."
    assert first.screen_text == "EXIT"
    assert first.prompt == "What?"
    assert shown(third) == [2500]
    assert (third.transcript, third.screen_text) == ("Nobody.", None)


@pytest.mark.parametrize(
    ("model", "wanted", "expected"),
    [(Captioner(1), 4, [500]), (Captioner(), 1, [500]), (Captioner(), 2, [0, 500]),
     (Captioner(), 16, [0, 300, 500, 700, 900])],
)  # fmt: skip
def test_no_more_pictures_than_both_want(
    model: Captioner, wanted: int, expected: list[int]
) -> None:
    captions(model, CaptionParams(max_images=wanted))
    assert shown(model.requests[0]) == expected


def test_without_any_keyframe_no_model_is_asked() -> None:
    model = Captioner()
    assert captions(model, CaptionParams(), keyframes=()) == []
    assert model.requests == []


@pytest.mark.parametrize("count", [0, 17])
def test_bounds(count: int) -> None:
    with pytest.raises(ConfigurationError, match="give a number from 1 to 16"):
        CaptionParams(max_images=count)


def test_new_tags_are_nothing_to_a_captioning_model() -> None:
    assert caption.SPEC.unused_inputs({}, {"caption": "blip"}) == {"tags"}
    assert caption.SPEC.unused_inputs({}, {}) == {"keyframes"}
