"""Whether a model can be loaded on this machine: by looking, not by loading."""

import importlib.metadata
from pathlib import Path

from pipeline.models.entry import ModelEntry
from pipeline.models.hub.digest import CHECKPOINT_FILES


def what_is_missing(entry: ModelEntry) -> str | None:
    """What the model lacks and how to get it, in a sentence; ``None``: it is all there.

    Weights are not read: that they are the pinned ones is checked when they are loaded.
    """
    for package in entry.packages:
        name, _, version = package.partition("==")
        try:
            installed = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            return f"the package {package} is not installed: {_install(entry)}"
        if installed != version:
            return f"the package {name} has version {installed}, not {version}: {_install(entry)}"
    path = entry.options.get("path_or_repo")
    return _checkpoint_missing(entry, str(path)) if path is not None else None


def _install(entry: ModelEntry) -> str:
    return f"pip install 'mediaweave[{entry.extra}]'"


def _checkpoint_missing(entry: ModelEntry, path: str) -> str | None:
    folder = Path(path).expanduser()
    revision = entry.options.get("revision")
    if not folder.is_dir():
        if folder.is_absolute() or path.startswith((".", "~")):
            return f"the folder {path} does not exist: copy the checkpoint there"
        snapshot = _snapshot(path, None if revision is None else str(revision))
        if snapshot is None:
            if not entry.options.get("local_files_only", True):
                return "it is not in the hub cache yet: it is fetched when it is first used"
            at = f" --revision {revision}" if revision else ""
            return f"it is not in the hub cache: hf download {path}{at}"
        folder = snapshot
    if not any(folder.glob("*.safetensors")):
        return f"{folder} has no *.safetensors: save the model as safetensors"
    return None


def _snapshot(repository: str, revision: str | None) -> Path | None:
    """The repository's folder in the hub cache; ``None`` where it is absent or incomplete."""
    # Not at the top: fingerprints and help must not wait for it.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import IncompleteSnapshotError

    try:
        return Path(
            snapshot_download(
                repository,
                revision=revision,
                local_files_only=True,
                allow_patterns=list(CHECKPOINT_FILES),
            )
        )
    except (OSError, ValueError, IncompleteSnapshotError):
        return None
