"""The identity of a checkpoint folder by content, for fingerprints."""

import functools
import hashlib
from pathlib import Path

from pipeline.errors import ModelUnavailableError

#: Everything a checkpoint is loaded from: weights, configuration, tokenizer, chat template.
CHECKPOINT_FILES = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja")


def checkpoint_files(folder: Path) -> list[Path]:
    """Files below ``folder`` that can change what the model answers, sorted; no hidden ones."""
    found = {path for pattern in CHECKPOINT_FILES for path in folder.rglob(pattern)}
    return sorted(
        path
        for path in found
        if path.is_file() and not any(p.startswith(".") for p in path.relative_to(folder).parts)
    )


def checkpoint_digest(folder: Path) -> str:
    """sha256 (hex) over the names and contents of the checkpoint's files.

    Reads every byte of the weights once per process: give a revision where that is too slow.

    Raises:
        ModelUnavailableError: the folder is missing or holds no safetensors weights.
    """
    if not folder.is_dir():
        raise ModelUnavailableError(
            f"model folder {folder} does not exist; set the path to a folder with config.json and "
            "*.safetensors"
        )
    files = checkpoint_files(folder)
    if not any(path.suffix == ".safetensors" for path in files):
        raise ModelUnavailableError(
            f"model folder {folder} has no *.safetensors weights; save the model as safetensors "
            "(pickled weights are not read)"
        )
    total = hashlib.sha256()
    for path in files:
        stat = path.stat()
        digest = _file_digest(path, stat.st_size, stat.st_mtime_ns)
        total.update(f"{path.relative_to(folder).as_posix()}\0{digest}\n".encode())
    return total.hexdigest()


@functools.lru_cache(maxsize=256)
def _file_digest(path: Path, _size: int, _mtime_ns: int) -> str:
    """Cached by size and time: both sides of a dual encoder share one folder."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
