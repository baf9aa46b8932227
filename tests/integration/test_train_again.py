"""Trainings that were stopped at a bad moment, and names that are taken."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fusion_sets import small_config, xor_set

from pipeline.config import Settings
from pipeline.db.migrate import ensure_schema
from pipeline.errors import ConfigurationError
from pipeline.fusion.neural.checkpoint import load
from pipeline.runner import training
from pipeline.runner.runtime import Runtime
from pipeline.training.loop import Result, train
from pipeline.training.options import TrainOptions


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    runtime = Runtime(Settings(data_dir=tmp_path))
    ensure_schema(runtime.database)
    yield runtime
    runtime.close()


def test_stopped_after_the_checkpoint_was_written(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train_and_stop(*arguments: Any, **named: Any) -> Result:
        train(*arguments, **named)
        raise KeyboardInterrupt

    given = ("mine", small_config(), xor_set(40), TrainOptions(epochs=1))
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(training, "train", train_and_stop)
        training.train_fuser(runtime, *given)

    made = training.train_fuser(runtime, *given)
    assert made.is_new
    assert load(made.folder).config == small_config()
    assert [path.name for path in made.folder.parent.iterdir()] == [made.folder.name]


def test_one_training_at_a_time_for_a_name(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ("mine", small_config(), xor_set(40), TrainOptions(epochs=1))

    def train_beside(*arguments: Any, **named: Any) -> Result:
        with pytest.raises(ConfigurationError, match="another training of mine is under way"):
            training.train_fuser(runtime, *given)
        return train(*arguments, **named)

    monkeypatch.setattr(training, "train", train_beside)
    assert training.train_fuser(runtime, *given).is_new


@pytest.mark.parametrize("name", ["safety", "mediaweave", "../up"])
def test_names_that_are_taken(runtime: Runtime, name: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be the name of a fuser"):
        training.train_fuser(runtime, name, small_config(), xor_set(4), TrainOptions())
