"""A shot is as unsafe as its worst keyframe."""

from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from pipeline.errors import ConfigurationError
from pipeline.stages import safety
from pipeline.stages.base import Models, StageInputs
from schemas.records import Classification, Keyframe


class Judge:
    """Takes the number of a picture, in percent, for how unsafe it is."""

    class_names: tuple[str, ...] = ("safe", "unsafe")

    def __init__(self) -> None:
        self.pictures: list[int] = []

    def has(self, role: str) -> bool:
        return role == "safety"

    def get(self, role: str) -> "Judge":
        return self

    def info(self, role: str) -> Any:
        return SimpleNamespace(name="judge")

    def map(self, role: str, items: Iterator[Any]) -> Iterator[Any]:
        for item in items:
            self.pictures.append(int(item.ravel()[0]))
            yield np.array([1 - self.pictures[-1] / 100, self.pictures[-1] / 100], np.float32)


def keyframe(shot: int, picture: int, index: int = 0) -> Keyframe:
    return Keyframe(
        shot_index=shot, keyframe_index=index, at_ms=index, pts=None, width_px=8, height_px=8,
        sha256=f"{shot}-{index}", picture_index=picture,
    )  # fmt: skip


def run(
    keyframes: Sequence[Keyframe], models: Any, **params: float
) -> list[tuple[int, str, str, float]]:
    inputs = SimpleNamespace(
        keyframes=lambda: keyframes,
        image=lambda frame: np.full((1, 1, 3), frame.picture_index, np.uint8),
    )
    output = safety.run(
        cast("StageInputs", inputs), safety.SafetyParams(**params), cast("Models", models)
    )
    found = cast("Sequence[Classification]", output.records["classifications"])
    return [(c.shot_index, c.taxonomy, c.class_name, round(c.score, 4)) for c in found]


def test_the_worst_keyframe_decides_and_like_pictures_are_judged_once() -> None:
    judge = Judge()
    keyframes = [
        keyframe(2, 10), keyframe(0, 3, 0), keyframe(0, 90, 1), keyframe(0, 10, 2),
        keyframe(4, 3),
    ]  # fmt: skip
    assert run(keyframes, judge) == [
        (0, "safety", "unsafe", 0.9), (2, "safety", "safe", 0.9), (4, "safety", "safe", 0.97),
    ]  # fmt: skip
    assert judge.pictures == [10, 3, 90]


def test_the_threshold_moves_the_class_and_the_score_is_of_the_class() -> None:
    assert run([keyframe(0, 30)], Judge(), threshold=0.2) == [(0, "safety", "unsafe", 0.3)]
    assert run([keyframe(0, 30)], Judge(), threshold=0.9) == [(0, "safety", "safe", 0.7)]


def test_without_keyframes_or_a_model_nothing_is_said() -> None:
    assert run([], Judge()) == []
    assert run([keyframe(0, 99)], SimpleNamespace(has=lambda role: False)) == []


def test_a_model_without_the_class_is_refused() -> None:
    judge = Judge()
    judge.class_names = ("cat", "dog")
    with pytest.raises(ConfigurationError, match="judge in the role safety has no class 'unsafe'"):
        run([keyframe(0, 1)], judge)


@pytest.mark.parametrize("threshold", [0.0, 1.1])
def test_a_wrong_threshold_is_named(threshold: float) -> None:
    with pytest.raises(ConfigurationError, match=r"safety\.threshold"):
        safety.SafetyParams(threshold=threshold)
