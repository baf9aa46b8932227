"""Checkpoints: what is saved loads, what does not belong together does not."""

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fusion_sets import KINDS, random_item, small_config, tower_config

from pipeline.errors import ConfigurationError, ModelUnavailableError
from pipeline.fusion.neural.caption import CaptionConfig, train_tokenizer
from pipeline.fusion.neural.checkpoint import digest, load, save
from pipeline.fusion.neural.network import build_network
from pipeline.fusion.neural.predict import TrainedFuser
from pipeline.models.hub.entries import from_settings
from pipeline.models.registry import create
from pipeline.training.state import save_state

CARD = "---\nlicense: made\n---\n# A fuser\n"


def saved(folder: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    save(folder, build_network(small_config()), card=CARD)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_says_the_same(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = tower_config(kind=kind)
    network = build_network(config)
    network.class_temperature.fill_(0.3)
    said = save(tmp_path, network, card=CARD)
    rng = np.random.default_rng(0)
    items = [random_item(config, rng, 2, 1, 1), random_item(config, rng, 0, 2, 0)]
    for before, after in zip(
        TrainedFuser(network).predict(items), load(tmp_path).predict(items), strict=True
    ):
        assert before is not None
        assert after is not None
        np.testing.assert_array_equal(before.tag_scores, after.tag_scores)
        np.testing.assert_array_equal(before.class_scores, after.class_scores)
        np.testing.assert_array_equal(before.embedding, after.embedding)
    assert load(tmp_path).config == config
    assert said == digest(tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert card.startswith("---\nlicense: made\ncheckpoint_sha256: ")
    assert card.endswith("---\n# A fuser\n")


def test_the_same_network_has_the_same_digest(tmp_path: Path) -> None:
    one, other = saved(tmp_path / "one"), saved(tmp_path / "other")
    assert digest(one) == digest(other)
    assert digest(saved(tmp_path / "third", seed=1)) != digest(one)


def test_weights_of_another_training(tmp_path: Path) -> None:
    one, other = saved(tmp_path / "one"), saved(tmp_path / "other", seed=1)
    (one / "model.safetensors").write_bytes((other / "model.safetensors").read_bytes())
    with pytest.raises(ModelUnavailableError, match="not those its card was written for"):
        load(one)


def test_a_configuration_that_was_edited(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    raw = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(raw | {"tags": ["dark", "loud"]}))
    with pytest.raises(ModelUnavailableError, match="not those its card was written for"):
        load(folder)


@pytest.mark.parametrize(
    ("change", "said"), [({"width": 32}, "do not fit its config"), ({"width": 0}, "width of a")]
)
def test_a_card_that_was_written_anew(change: dict[str, int], said: str, tmp_path: Path) -> None:
    folder = saved(tmp_path)
    raw = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(raw | change))
    (folder / "README.md").write_text(f"---\ncheckpoint_sha256: {digest(folder)}\n---\n")
    with pytest.raises(ModelUnavailableError, match=said):
        load(folder)


def test_weights_that_are_none(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    (folder / "model.safetensors").write_bytes(b"no weights")
    (folder / "README.md").write_text(f"---\ncheckpoint_sha256: {digest(folder)}\n---\n")
    with pytest.raises(ModelUnavailableError, match="do not fit"):
        load(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "README.md"])
def test_a_file_that_is_missing(name: str, tmp_path: Path) -> None:
    folder = saved(tmp_path)
    (folder / name).unlink()
    with pytest.raises(ModelUnavailableError, match=f"no readable {name}"):
        load(folder)


def test_a_card_without_a_digest(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    (folder / "README.md").write_text(CARD)
    with pytest.raises(ModelUnavailableError, match="says no checkpoint_sha256"):
        load(folder)


def test_the_tokenizer_belongs_to_it(tmp_path: Path) -> None:
    caption = CaptionConfig(vocabulary=270)
    config = small_config("attention", caption=caption)
    save(tmp_path, build_network(config), tokenizer=train_tokenizer(["a cat"], caption))
    assert load(tmp_path).config.caption == caption
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelUnavailableError, match="not those"):
        load(tmp_path)
    (tmp_path / "README.md").write_text(f"---\ncheckpoint_sha256: {digest(tmp_path)}\n---\n")
    with pytest.raises(ModelUnavailableError, match="is no tokenizer"):
        load(tmp_path)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot be written"):
        save(tmp_path / "file", build_network(small_config()))


@contextmanager
def full_disk() -> Iterator[None]:
    """No file can grow beyond some bytes, as Python ignores the signal for it."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    network = build_network(small_config())
    with full_disk(), pytest.raises(ConfigurationError, match="cannot be written"):
        save(tmp_path, network)
    with full_disk(), pytest.raises(ConfigurationError, match="cannot be written"):
        save_state(tmp_path, network.state_dict(), {})


def test_whoever_may_read_the_configuration_may_read_the_weights(tmp_path: Path) -> None:
    saved(tmp_path)
    modes = {path.stat().st_mode for path in tmp_path.iterdir()}
    assert len(modes) == 1


def test_a_configuration_of_gigabytes_takes_no_memory(tmp_path: Path) -> None:
    saved(tmp_path)
    config = replace(small_config("attention"), width=4096, depth=24)
    (tmp_path / "config.json").write_text(config.to_json(), encoding="utf-8")
    card = f"---\ncheckpoint_sha256: {digest(tmp_path)}\n---\n"
    (tmp_path / "README.md").write_text(card, encoding="utf-8")
    limits = resource.getrlimit(resource.RLIMIT_AS)
    with Path("/proc/self/statm").open() as file:
        taken = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + 2**30, limits[1]))
    try:
        with pytest.raises(ModelUnavailableError, match="do not fit"):
            load(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def test_another_training_in_the_folder_of_a_registered_fuser(tmp_path: Path) -> None:
    entry = from_settings("mine", implementation="fuser", path=str(saved(tmp_path)))
    model = create(entry)
    model.load("cpu")
    model.unload()
    saved(tmp_path, seed=1)
    with pytest.raises(ModelUnavailableError, match="changed since it was registered"):
        model.load("cpu")
