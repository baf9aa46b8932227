"""A large fuser teaches a small one; two fusers are compared."""

from dataclasses import replace
from pathlib import Path

import pytest
from fusion_sets import KINDS, small_config, tower_config, xor_set

from pipeline.errors import ConfigurationError
from pipeline.fusion.neural.checkpoint import load
from pipeline.fusion.neural.network import build_network, parameter_count
from pipeline.training.compare import compare
from pipeline.training.data import Split
from pipeline.training.distill import smaller
from pipeline.training.loop import train
from pipeline.training.options import TrainOptions

OPTIONS = TrainOptions(epochs=25, batch_size=16, learning_rate=5e-3, modality_dropout=0.1)
SPLIT = Split(
    train=tuple(range(100)), validation=tuple(range(100, 140)), test=tuple(range(140, 200))
)


@pytest.mark.parametrize("kind", KINDS)
def test_smaller_is_as_small_as_asked(kind: str) -> None:
    config = tower_config(kind=kind, width=64)
    before = parameter_count(build_network(config))
    found = smaller(config, 0.3)
    after = parameter_count(build_network(found))
    assert 0.2 * before < after <= 0.3 * before
    assert (found.tags, found.classes) == (config.tags, config.classes)
    assert found.modalities[0] == config.modalities[0]
    with pytest.raises(ConfigurationError, match="ask for a larger share"):
        smaller(config, 0.001)
    with pytest.raises(ConfigurationError, match="use 0 to 1"):
        smaller(config, 1.5)


def test_a_teacher_teaches_without_labels_of_its_own(tmp_path: Path) -> None:
    data = xor_set(200)
    config = small_config(width=32)
    teacher = load(train(config, data, OPTIONS, tmp_path / "large", split=SPLIT).folder)
    # Half of the labels are wrong: only the teacher knows better.
    flipped = [
        {"even": "odd", "odd": "even"}[str(name)] if row % 2 and row < 100 else name
        for row, name in enumerate(data.classes)
    ]
    noisy = replace(data, classes=flipped)
    options = replace(OPTIONS, distill=1.0, unimodal=0.0, mixup=0.2)
    small = smaller(config, 0.6)
    folder = tmp_path / "small"
    result = train(small, noisy, options, folder, split=SPLIT, teacher=teacher)
    assert result.report.parameters <= 0.6 * parameter_count(teacher.network)
    assert result.report.test["accuracy"].value > 0.9
    alone = train(small, noisy, options, tmp_path / "alone", split=SPLIT)
    assert alone.report.test["accuracy"].value < result.report.test["accuracy"].value
    found = compare(load(alone.folder), load(folder), data, SPLIT.test)
    assert found.rows == 60
    assert found.accuracy is not None
    assert found.accuracy.difference.value > 0
    assert found.mean_average_precision is not None


def test_models_are_compared_by_what_they_get_right(tmp_path: Path) -> None:
    data = xor_set(200)
    good = load(train(small_config(), data, OPTIONS, tmp_path / "good", split=SPLIT).folder)
    blind_config = small_config(names="a")
    only_a = [replace(item, modalities={"a": item.modalities["a"]}) for item in data.items]
    blind = load(
        train(
            blind_config, replace(data, items=only_a), OPTIONS, tmp_path / "blind", split=SPLIT
        ).folder
    )
    found = compare(blind, good, data, SPLIT.test)
    assert found.accuracy is not None
    assert found.accuracy.difference.low > 0
    assert found.accuracy.p_value < 0.01
    assert found.mean_average_precision is not None
    assert found.mean_average_precision.difference.value > 0.1
    same = compare(good, good, data, SPLIT.test)
    assert same.accuracy is not None
    assert (same.accuracy.difference.value, same.accuracy.p_value) == (0, 1)
    other = build_network(small_config(classes=("odd", "even")))
    with pytest.raises(ConfigurationError, match="cannot be compared"):
        compare(good, type(good)(other), data, SPLIT.test)


def test_a_teacher_of_something_else(tmp_path: Path) -> None:
    data = xor_set(200)
    config = small_config()
    teacher = load(
        train(config, data, replace(OPTIONS, epochs=1), tmp_path / "one", split=SPLIT).folder
    )
    with pytest.raises(ConfigurationError, match="other tags or classes"):
        train(
            small_config(tags=("loud", "bright")), data, OPTIONS, tmp_path / "two", teacher=teacher
        )
    with pytest.raises(ConfigurationError, match=r"the teacher reads \['a', 'b'\]"):
        train(small_config(names="a"), data, OPTIONS, tmp_path / "two", teacher=teacher)
