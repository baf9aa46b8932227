"""Configurations of fusers: bounds, and JSON in and out."""

import json
import subprocess
import sys
from typing import Any

import pytest
from fusion_sets import small_config, tower_config

from pipeline.errors import ConfigurationError
from pipeline.fusion.neural.config import CaptionConfig, FuserConfig, ModalityConfig, TowerConfig


def test_json_and_back() -> None:
    config = tower_config(kind="attention", caption=CaptionConfig(vocabulary=300, language="en"))
    text = config.to_json()
    assert FuserConfig.from_json(text) == config
    assert FuserConfig.from_json(text).to_json() == text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "early"}, "at kind"),
        ({"widht": 3}, "at widht"),
        ({"width": "wide"}, "at width"),
        ({"modalities": []}, "number of modalities is 0"),
        ({"heads": 5}, "width of 16 cannot be shared by 5 heads"),
        ({"dropout": 1}, "dropout is 1"),
        ({"modalities": [{"name": "a"}]}, r"at modalities\.0\.dimension"),
    ],
)
def test_wrong_json_is_told_by_its_field(change: dict[str, Any], said: str) -> None:
    raw = json.loads(small_config().to_json()) | change
    with pytest.raises(ConfigurationError, match=said):
        FuserConfig.from_json(json.dumps(raw))


def test_no_json() -> None:
    with pytest.raises(ConfigurationError, match="configuration of a fuser is wrong"):
        FuserConfig.from_json("{")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"classes": ("only",)}, "the one class 'only'"),
        ({"tags": ("x", "x")}, "name 'x' twice"),
        ({"tags": (" ",)}, "hold an empty name"),
        ({"tags": ("a\0b",)}, "cannot be stored"),
        ({"classes": ("a", "b" * 201)}, "cannot be stored"),
        ({"tags": tuple(map(str, range(20_000))) * 9}, "number of tags is 180000"),
        ({"tags": (), "classes": ()}, "needs something to tell"),
        ({"kind": "concat", "caption": CaptionConfig()}, "kind concat writes no captions"),
        ({"width": 0}, "width of a fuser is 0"),
    ],
)
def test_what_a_fuser_cannot_be(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        small_config(**change)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"input_shape": (1, 8, 8), "widths": (4, 4, 4, 4)}, "8 x 8 is too small"),
        ({"kind": "patch", "input_shape": (1, 8, 8), "widths": (8,), "patch": 3}, "patches of 3"),
        ({"kind": "patch", "input_shape": (1, 8, 8), "widths": (8, 8)}, "one width, and 2"),
        ({"input_shape": (0, 8, 8)}, "channels is 0"),
    ],
)
def test_what_a_tower_cannot_be(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        TowerConfig(**given)


def test_what_a_modality_cannot_be() -> None:
    with pytest.raises(ConfigurationError, match="bad name"):
        ModalityConfig(name="No spaces", dimension=3)
    with pytest.raises(ConfigurationError, match="has a tower and the space"):
        ModalityConfig(name="a", dimension=3, space="x", tower=TowerConfig(input_shape=(1, 8, 8)))


def test_configurations_and_items_need_no_torch() -> None:
    code = (
        "import sys; import pipeline.fusion, pipeline.fusion.neural.items, "
        "pipeline.fusion.neural.config, pipeline.training.data, pipeline.training.options, "
        "pipeline.training.metrics; print('torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
