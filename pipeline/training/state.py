"""Where a training stands, in one file that is replaced as a whole: safetensors, with a JSON
header of ours. No pickle."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from pipeline.errors import ConfigurationError

STATE = "training-state.safetensors"
_HEADER = "mediaweave"


def save_state(folder: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Replace the state in ``folder``; a kill leaves the old one or the new one.

    Raises:
        ConfigurationError: the folder cannot be written.
    """
    draft = folder / f"{STATE}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        flat = {name: value.detach().contiguous() for name, value in tensors.items()}
        draft.write_bytes(save(flat, metadata={_HEADER: json.dumps(header)}))
        draft.replace(folder / STATE)
    except OSError as error:
        raise ConfigurationError(
            f"the state of the training cannot be written to {folder} ({os.strerror(error.errno)})"
            "; give a folder that can be written"
            if error.errno
            else f"the state of the training cannot be written to {folder}; give another folder"
        ) from error


def load_state(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Tensors and header of the state in ``folder``; ``None`` where none was begun.

    Raises:
        ConfigurationError: the file is no state.
    """
    path = folder / STATE
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads(file.metadata()[_HEADER])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(
            f"{path} is no state of a training; delete it to begin again"
        ) from error
    return tensors, header


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Everything an optimizer remembers, by parameter and name."""
    state: dict[int, dict[str, Tensor]] = optimizer.state_dict()["state"]
    return {f"{at}.{key}": value for at, each in state.items() for key, value in each.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """The reverse of :func:`optimizer_tensors`."""
    state: dict[int, dict[str, Tensor]] = {}
    owners = [each for group in optimizer.param_groups for each in group["params"]]
    for name, value in tensors.items():
        at, key = name.split(".", 1)
        owner = owners[int(at)]
        if value.shape == owner.shape:
            # Fused steps go through memory: moments must lie there as their weights do.
            value = torch.empty_like(owner).copy_(value)  # noqa: PLW2901
        state.setdefault(int(at), {})[key] = value
    optimizer.load_state_dict(
        {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
    )


def with_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}{name}": value for name, value in tensors.items()}


def without_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
