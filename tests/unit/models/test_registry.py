import subprocess
import sys

import pytest

from pipeline.errors import ConfigurationError
from pipeline.models.base import ModelInfo
from pipeline.models.registry import (
    OFFLINE_ENTRIES,
    ModelEntry,
    create,
    find_entry,
    with_options,
)

INFO = ModelInfo(
    name="mine", revision="1", task="ocr", licence="Apache-2.0", source="a folder", sha256=None
)


def test_importing_the_registry_imports_no_model_library() -> None:
    code = (
        "import sys, pipeline.models.registry\n"
        "print(sorted({'torch', 'transformers', 'onnxruntime', 'cv2'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match=r"'clip-9000'.*efficientnet-lite0.*whisper-base"):
        find_entry("clip-9000")


def test_an_extra_entry_is_found_and_hides_a_built_in_one() -> None:
    mine = ModelEntry(info=INFO, factory="somewhere:Thing")
    assert find_entry("mine", {"mine": mine}) is mine
    assert find_entry("minilm", {"minilm": mine}) is mine
    assert find_entry("minilm").info.task == "text-embedding"


def test_options_reach_only_the_models_that_have_them() -> None:
    efficientnet = with_options(find_entry("efficientnet-lite0"), threads=2, cache_dir="/cache")
    minilm = with_options(find_entry("minilm"), threads=2, cache_dir="/cache")
    ocr = with_options(find_entry("rapidocr"), threads=2, cache_dir="/cache")
    assert efficientnet.options == minilm.options == {"threads": 2, "cache_dir": "/cache"}
    assert ocr.options == {"threads": 2}
    assert find_entry("minilm").options == {"threads": 1, "cache_dir": None}


def test_creating_a_model_loads_no_weights() -> None:
    for entry in OFFLINE_ENTRIES.values():
        assert create(entry).info is entry.info


@pytest.mark.parametrize(
    ("factory", "options"),
    [
        ("pipeline.models.no_such_module:Thing", {}),
        ("pipeline.models.offline.minilm:Thing", {}),
        ("pipeline.models.offline.minilm:MiniLm", {"colour": "red"}),
    ],
)
def test_a_wrong_entry_is_a_configuration_error(factory: str, options: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="'mine' cannot be created"):
        create(ModelEntry(info=INFO, factory=factory, options=options))
