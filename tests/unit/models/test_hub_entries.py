"""The entries of the hub models, and models brought by settings."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from tiny_checkpoints import write_blip, write_blip_vqa, write_clip, write_sentence, write_smolvlm
from tiny_sounds import write_whisper

from pipeline.errors import ConfigurationError, ModelUnavailableError
from pipeline.models.base import answers
from pipeline.models.hub.entries import HUB_ENTRIES, from_settings
from pipeline.models.registry import create

LOADS_NOTHING = """
import sys
from pipeline.models.hub.entries import HUB_ENTRIES
assert HUB_ENTRIES
heavy = {"torch", "transformers", "huggingface_hub"} & set(sys.modules)
assert not heavy, heavy
"""


def test_entries_import_no_model_library() -> None:
    subprocess.run([sys.executable, "-c", LOADS_NOTHING], check=True)


def test_every_entry_is_pinned_and_can_be_created() -> None:
    for name, entry in HUB_ENTRIES.items():
        commit, _, code = entry.info.revision.partition("+")
        assert entry.info.name == name
        assert len(commit) == 40
        assert set(commit) <= set("0123456789abcdef")
        assert code == "code=2"
        assert entry.options["revision"] == commit
        assert entry.options["local_files_only"] is True
        assert entry.info.licence in {"MIT", "Apache-2.0", "BSD-3-Clause"}
        assert create(entry).info is entry.info


def test_both_sides_share_a_space_of_their_own() -> None:
    spaces = {name: entry.options.get("space") for name, entry in HUB_ENTRIES.items()}
    assert spaces["clip-vit-base-patch32"] == spaces["clip-vit-base-patch32-labels"]
    assert spaces["siglip2-base-patch16-224"] == spaces["siglip2-base-patch16-224-labels"]
    assert len({space for space in spaces.values() if space is not None}) == 3


def test_a_folder_is_named_by_its_content(tmp_path: Path) -> None:
    folder = write_sentence(tmp_path / "mine")
    (folder / "README.md").write_text("first", encoding="utf-8")
    first = from_settings("mine", implementation="sentence", path=str(folder), licence="MIT")
    assert first.info.task == "text-embedding"
    assert first.info.licence == "MIT"
    assert first.info.source == "mine"
    assert first.info.sha256 is not None
    assert first.info.revision == f"{first.info.sha256}+code=2"

    (folder / "README.md").write_text("second", encoding="utf-8")
    assert from_settings("mine", implementation="sentence", path=str(folder)).info.sha256 == (
        first.info.sha256
    )

    weights = load_file(folder / "model.safetensors")
    weights["embeddings.word_embeddings.weight"] += 1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    second = from_settings("mine", implementation="sentence", path=str(folder))
    assert second.info.revision != first.info.revision
    assert second.options["space"] != first.options["space"]
    with pytest.raises(ModelUnavailableError, match="changed since it was registered"):
        create(first).load("cpu")

    tokenizer = folder / "tokenizer_config.json"
    tokenizer.write_text(tokenizer.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    third = from_settings("mine", implementation="sentence", path=str(folder))
    assert third.info.revision != second.info.revision


def test_a_model_of_each_kind_from_a_folder(tmp_path: Path) -> None:
    clip = str(write_clip(tmp_path / "clip"))
    options: dict[str, Any] = {"runtime": "torch", "cache_dir": str(tmp_path)}
    pictures: Any = create(
        from_settings("p", implementation="image-text", path=clip, options=options)
    )
    labels: Any = create(
        from_settings("l", implementation="image-text-labels", path=clip, options=options)
    )
    caption = create(
        from_settings("c", implementation="caption", path=str(write_blip(tmp_path / "blip")))
    )
    speech = create(
        from_settings("s", implementation="speech", path=str(write_whisper(tmp_path / "whisper")))
    )
    smolvlm = str(write_smolvlm(tmp_path / "smolvlm"))
    described = create(from_settings("v", implementation="vlm-caption", path=smolvlm))
    answered = create(from_settings("q", implementation="vlm-question", path=smolvlm))
    blip = create(
        from_settings("b", implementation="question", path=str(write_blip_vqa(tmp_path / "vqa")))
    )
    for model in (pictures, labels, caption, speech, described, answered, blip):
        model.load("cpu")
    picture = np.zeros((8, 8, 3), dtype=np.uint8)
    (image,), (text,) = answers(pictures, [picture]), answers(labels, ["a cat"])
    assert image.embedding.shape == text.shape
    assert pictures.space == labels.space
    assert answers(speech, [np.ones(16_000, np.float32)])[0].language == "en"


def test_options_that_change_the_results_change_the_revision() -> None:
    def entry(**options: int | str | bool | None) -> str:
        return from_settings(
            "mine",
            implementation="speech",
            path="someone/whisper",
            revision="v2",
            options=options,
        ).info.revision

    assert entry() == entry(max_batch=2, local_files_only=False, window_batch=1, language=None)
    assert entry() == "v2+code=2"
    assert entry() == entry(compile=True)
    assert entry(language="de", dtype="bfloat16") == "v2+code=2+dtype=bfloat16+language=de"
    assert entry(word_times=True) == "v2+code=2+word_times=True"


def test_another_revision_of_a_known_model() -> None:
    entry = from_settings(
        "clip-vit-base-patch32",
        implementation="image-text",
        path="openai/clip-vit-base-patch32",
        revision="main",
        options={"local_files_only": False, "max_batch": 128},
    )
    assert entry.info.sha256 is None
    assert entry.options["max_batch"] == 128
    assert entry.options["local_files_only"] is False
    assert entry.options["space"] == "image-text:openai/clip-vit-base-patch32@main"
    assert create(entry).max_batch == 128


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"implementation": "telepathy"},
            "use one of image-text, image-text-labels, caption, vlm-caption, vlm-question",
        ),
        ({"implementation": "sentence", "revision": None}, "set it to a commit"),
        ({"options": {"colour": "red"}}, "unknown option 'colour'; use one of dtype"),
        ({"options": {"max_batch": "8"}}, "max_batch='8'; it must be of type int"),
        ({"options": {"max_batch": True}}, "max_batch=True; it must be of type int"),
        ({"options": {"max_batch": 0}}, "must be 1 or more"),
    ],
)
def test_wrong_settings(settings: dict[str, Any], message: str) -> None:
    usual: dict[str, Any] = {
        "implementation": "sentence",
        "path": "someone/model",
        "revision": "v1",
    }
    with pytest.raises(ConfigurationError, match=message):
        from_settings("mine", **{**usual, **settings})


def test_folder_without_weights(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailableError, match="does not exist"):
        from_settings("mine", implementation="caption", path=str(tmp_path / "absent"))
    with pytest.raises(ModelUnavailableError, match=r"no \*\.safetensors"):
        from_settings("mine", implementation="caption", path=str(tmp_path))
