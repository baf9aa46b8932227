"""Training: what only fusion can solve, what is told when it cannot be, going on after a stop."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fusion_sets import (
    DIMENSION,
    direction,
    hidden_token_set,
    small_config,
    tower_config,
    vectors,
    xor_set,
)

from pipeline.errors import ConfigurationError
from pipeline.fusion.neural.checkpoint import digest, load
from pipeline.fusion.neural.config import CaptionConfig, FuserConfig
from pipeline.fusion.neural.items import FusionItem, TokenSet
from pipeline.fusion.neural.predict import TokenRef
from pipeline.training.data import Split, TrainingSet
from pipeline.training.loop import Progress, Result, train
from pipeline.training.options import TowerAugment, TrainOptions
from pipeline.training.state import STATE

FAST = TrainOptions(epochs=25, batch_size=16, learning_rate=5e-3, modality_dropout=0.1)
SHORT = replace(FAST, epochs=3)


def parts(data: TrainingSet) -> Split:
    size = len(data.items)
    edges = (int(0.6 * size) // 2 * 2, int(0.8 * size) // 2 * 2)
    return Split(
        train=tuple(range(edges[0])),
        validation=tuple(range(*edges)),
        test=tuple(range(edges[1], size)),
    )


@pytest.mark.parametrize("kind", ["concat", "attention"])
def test_fusion_solves_what_no_modality_knows(kind: str, tmp_path: Path) -> None:
    data = xor_set(200)
    result = train(small_config(kind), data, FAST, tmp_path, split=parts(data))
    test = result.report.test
    assert test["accuracy"].value > 0.95
    assert test["mean_average_precision"].value > 0.95
    for name in "ab":
        assert result.report.without[name]["accuracy"].value < 0.75
    fuser = load(tmp_path)
    assert digest(tmp_path) == result.digest
    bright = vectors(direction(1, np.random.default_rng(9)))
    dark = vectors(direction(0, np.random.default_rng(9)))
    (found,) = fuser.predict([FusionItem(modalities={"a": bright, "b": dark})])
    assert found is not None
    assert found.class_scores[1] > 0.8
    assert found.tag_scores[0] > 0.8
    assert found.tag_scores[1] < 0.2
    # What b says of brightness is nothing: without it the score stays.
    less_b, less_a = found.without["b"], found.without["a"]
    assert less_b is not None
    assert less_a is not None
    assert less_b.tags[0] > 0.8
    assert less_a.tags[0] < 0.8
    assert found.loudest_tags[0] is not None
    assert found.loudest_tags[0].modality == "a"


def test_late_fusion_adds_what_each_modality_knows(tmp_path: Path) -> None:
    data = xor_set(200)
    result = train(small_config("late"), data, FAST, tmp_path, split=parts(data))
    assert result.report.test["mean_average_precision"].value > 0.95
    # The best that sums of two opinions can do about an XOR: three of its four cases.
    assert result.report.test["accuracy"].value < 0.9


@pytest.mark.parametrize("kind", ["late", "concat", "attention"])
def test_the_token_that_carries_the_label_is_the_loudest(kind: str, tmp_path: Path) -> None:
    data, places = hidden_token_set()
    config = small_config(kind, tags=())
    result = train(config, data, FAST, tmp_path, split=parts(data))
    assert result.report.test["accuracy"].value > 0.8
    assert result.report.without["b"]["accuracy"].value > 0.8
    rows = parts(data).test
    found = load(tmp_path).predict([data.items[row] for row in rows])
    pointed = []
    for row, each in zip(rows, found, strict=True):
        assert each is not None
        if config.classes[int(each.class_scores.argmax())] == data.classes[row]:
            pointed.append(each.loudest_class == TokenRef(modality="a", index=places[row]))
    assert np.mean(pointed) >= 0.8


class StoppedError(Exception):
    """By whoever watches."""


def stop_after(epoch: int) -> Callable[[Progress], None]:
    def watch(progress: Progress) -> None:
        if progress.epoch == epoch:
            raise StoppedError

    return watch


def pictures_and_words(size: int = 40) -> TrainingSet:
    rng = np.random.default_rng(2)
    classes = rng.integers(0, 2, size)
    items = []
    for at, odd in enumerate(classes):
        picture = rng.normal(0, 0.3, (1, 1, 8, 8)) + odd
        modalities = {"picture": TokenSet.whole(picture)}
        if at % 3:
            modalities["words"] = vectors(direction(odd, rng))
        items.append(FusionItem(modalities=modalities))
    return TrainingSet(
        items=items,
        groups=[str(row) for row in range(size)],
        classes=[("even", "odd")[odd] for odd in classes],
        captions=[f"this is {('even', 'odd')[odd]}" for odd in classes],
    )


def everything() -> tuple[FuserConfig, TrainOptions]:
    """All that draws random numbers, and all that has a state."""
    config = tower_config(
        kind="attention", tags=(), dropout=0.2, caption=CaptionConfig(vocabulary=270, max_tokens=6)
    )
    options = replace(
        SHORT,
        epochs=4,
        mixup=0.3,
        feature_noise=0.1,
        class_weights=True,
        augment={"picture": TowerAugment(shift=(1, 1), mask=(2, 2), noise=0.1)},
    )
    return config, options


@pytest.mark.parametrize("split", [None, Split(train=tuple(range(40)))])
def test_a_training_that_was_stopped_ends_as_if_it_was_not(
    split: Split | None, tmp_path: Path
) -> None:
    config, options = everything()
    data = pictures_and_words()
    given: dict[str, Any] = {"config": config, "data": data, "options": options, "split": split}
    whole = train(**given, folder=tmp_path / "whole")
    for epoch in (1, 3):
        with pytest.raises(StoppedError):
            train(**given, folder=tmp_path / "parts", on_progress=stop_after(epoch))
        assert (tmp_path / "parts" / STATE).exists()
    resumed = train(**given, folder=tmp_path / "parts")
    assert [(each.epoch, each.loss, each.score) for each in resumed.history] == [
        (each.epoch, each.loss, each.score) for each in whole.history
    ]
    assert resumed.digest == whole.digest
    assert not (tmp_path / "parts" / STATE).exists()
    assert (tmp_path / "parts" / "tokenizer.json").exists()


def test_the_random_numbers_of_others_stay_theirs(tmp_path: Path) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    train(small_config(), xor_set(40), replace(SHORT, epochs=1), tmp_path)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"options": replace(SHORT, learning_rate=1e-3)}, "other options"),
        ({"config": small_config(width=8)}, "other configuration"),
        ({"data": xor_set(seed=5)}, "other data"),
    ],
)
def test_another_training_does_not_go_on(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    given: dict[str, Any] = {"config": small_config(), "data": xor_set(), "options": SHORT}
    with pytest.raises(StoppedError):
        train(**given, folder=tmp_path, on_progress=stop_after(1))
    with pytest.raises(ConfigurationError, match=f"was begun with {said}"):
        train(**(given | change), folder=tmp_path)
    assert train(**given, folder=tmp_path).report.epochs == 3


def test_a_folder_that_is_taken(tmp_path: Path) -> None:
    train(small_config(), xor_set(), SHORT, tmp_path)
    with pytest.raises(ConfigurationError, match="holds a trained fuser already"):
        train(small_config(), xor_set(), SHORT, tmp_path)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / STATE).write_bytes(b"nothing")
    with pytest.raises(ConfigurationError, match="is no state of a training"):
        train(small_config(), xor_set(), SHORT, tmp_path / "broken")


def test_twenty_shots_of_one_asset_each(tmp_path: Path) -> None:
    """Few rows, unbalanced, most modalities absent, a tag nobody has, an item without anything."""
    rng = np.random.default_rng(0)
    items = [
        FusionItem(modalities={"a": vectors(direction(int(at % 5 == 0), rng))}) for at in range(19)
    ]
    items.append(FusionItem(modalities={}))
    data = TrainingSet(
        items=items,
        groups=[str(row) for row in range(20)],
        tags=[frozenset({"bright"}) if at % 5 == 0 else frozenset() for at in range(19)] + [None],
        name="twenty",
    )
    config = small_config("attention", classes=())
    options = replace(FAST, class_weights=True, mixup=0.2)
    result = train(config, data, options, tmp_path)
    found = load(tmp_path).predict(items)
    assert found[-1] is None
    scores = np.array([each.tag_scores for each in found if each is not None])
    assert scores[::5, 0].min() > scores[1:5, 0].max()
    assert scores[:, 1].max() < 0.4
    assert result.report.test.keys() == {"mean_average_precision", "tag_calibration_error"}
    assert (
        "Without an example in the training part, so never told: tag loud."
        in (tmp_path / "README.md").read_text()
    )


def test_without_parts_to_validate_and_test(tmp_path: Path) -> None:
    data = xor_set(40)
    split = Split(train=tuple(range(40)))
    result = train(small_config(), data, replace(SHORT, patience=1), tmp_path, split=split)
    assert result.report.epochs == result.report.best_epoch == 3
    assert not result.report.calibrated
    assert result.report.test == result.report.validation == {}
    assert [each.score for each in result.history] == [None] * 3
    assert load(tmp_path).network.class_temperature.tolist() == [0, 0, 0]
    card = (tmp_path / "README.md").read_text()
    assert "scores are not calibrated" in card
    assert "nothing was measured" in card


def test_training_stops_when_nothing_gets_better(tmp_path: Path) -> None:
    data = replace(xor_set(), tags=())
    rng = np.random.default_rng(0)
    noise = [FusionItem(modalities={"a": vectors(rng.normal(0, 1, DIMENSION))}) for _ in data.items]
    options = replace(FAST, epochs=60, patience=2)
    result = train(small_config(tags=()), replace(data, items=noise), options, tmp_path)
    assert result.report.epochs == result.report.best_epoch + 2 < 60


def test_a_batch_of_one_picture(tmp_path: Path) -> None:
    data = pictures_and_words(3)
    split = Split(train=(0, 1, 2))
    config = tower_config(tags=())
    if len(set(data.classes)) == 1:
        data = replace(data, classes=["even", "odd", "odd"])
    options = replace(SHORT, batch_size=2)
    assert train(config, data, options, tmp_path, split=split).report.epochs == 3


def test_what_cannot_be_trained(tmp_path: Path) -> None:
    data = xor_set()
    nothing = replace(data, items=[FusionItem(modalities={})] * len(data.items))
    with pytest.raises(ConfigurationError, match="no item of the training part has any modality"):
        train(small_config(), nothing, SHORT, tmp_path)
    with pytest.raises(ConfigurationError, match="vary the inputs of a, which has no tower"):
        train(small_config(), data, replace(SHORT, augment={"a": TowerAugment()}), tmp_path)
    with pytest.raises(ConfigurationError, match="class 'even', which the fuser's"):
        train(small_config(classes=("odd", "else")), data, SHORT, tmp_path)
    assert not any(tmp_path.iterdir())


def captioned(tmp_path: Path) -> tuple[Result, TrainingSet]:
    rng = np.random.default_rng(0)
    colours, animals = ("a red", "a blue", "one green"), ("cat", "dog", "Füchschen")
    draws = rng.integers(0, 3, (150, 2))
    data = TrainingSet(
        items=[
            FusionItem(
                modalities={"a": vectors(direction(x, rng)), "b": vectors(direction(y, rng))}
            )
            for x, y in draws
        ],
        groups=[str(row) for row in range(150)],
        captions=[f"{colours[x]} {animals[y]} sits" for x, y in draws],
        name="animals",
    )
    config = small_config(
        "attention",
        width=32,
        tags=(),
        classes=(),
        caption=CaptionConfig(vocabulary=290, max_tokens=8, depth=1),
    )
    return train(config, data, replace(FAST, epochs=24), tmp_path, split=parts(data)), data


def test_captions_are_learned_from_both_modalities(tmp_path: Path) -> None:
    result, data = captioned(tmp_path)
    rows = result.report.epochs and parts(data).test
    fuser = load(tmp_path)
    said = fuser.caption([*(data.items[row] for row in rows), FusionItem(modalities={})])
    assert said[-1] is None
    right = [text == data.captions[row] for text, row in zip(said, rows, strict=False)]
    assert np.mean(right) > 0.9
    assert fuser.caption([data.items[rows[0]]]) == said[:1]
    (found,) = fuser.predict([data.items[0]])
    assert found is not None
    assert found.loudest_class is None
    assert found.tag_scores.shape == found.class_scores.shape == (0,)
