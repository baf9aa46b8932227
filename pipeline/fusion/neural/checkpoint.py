"""A fuser as a folder: weights (safetensors), configuration, tokenizer, model card. No pickle.

``model.safetensors``, ``config.json``, ``tokenizer.json`` where captions are written, and
``README.md``, the card, whose head says the digest of the other files. So a folder that was put
together from two trainings, or edited, does not load.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from tokenizers import Tokenizer
from torch import Tensor

from pipeline.errors import ConfigurationError, ModelUnavailableError
from pipeline.fusion.neural.base import FusionNetwork
from pipeline.fusion.neural.config import CARD_NAME, CONFIG_NAME, FuserConfig
from pipeline.fusion.neural.network import build_network
from pipeline.fusion.neural.predict import TrainedFuser

WEIGHTS, TOKENIZER = "model.safetensors", "tokenizer.json"
_DIGEST_LINE = "checkpoint_sha256: "


def save(
    folder: Path, network: FusionNetwork, *, card: str = "", tokenizer: Tokenizer | None = None
) -> str:
    """Write the checkpoint, and return its digest.

    ``card``: markdown, which may begin with a head between two lines of ``---``; the digest is
    added to it.

    Raises:
        ConfigurationError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: value.contiguous() for name, value in network.state_dict().items()}
        (folder / WEIGHTS).write_bytes(to_bytes(weights))
        (folder / CONFIG_NAME).write_text(network.config.to_json(), encoding="utf-8")
        if tokenizer is not None:
            (folder / TOKENIZER).write_text(tokenizer.to_str(pretty=True), encoding="utf-8")
        found = digest(folder)
        head, body = _parts(card)
        text = "\n".join(["---", *head, f"{_DIGEST_LINE}{found}", "---", body])
        (folder / CARD_NAME).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(
            f"the checkpoint cannot be written to {folder} ({error.strerror}); give a folder that "
            "can be written"
        ) from error
    return found


def load(folder: Path, device: torch.device | str = "cpu") -> TrainedFuser:
    """The fuser in ``folder``, ready to predict.

    Raises:
        ModelUnavailableError: a file is missing or broken, or the files do not belong together.
    """
    said = _said_digest(_read(folder, CARD_NAME))
    if said is None:
        raise ModelUnavailableError(
            f"the card {folder / CARD_NAME} says no {_DIGEST_LINE.strip(': ')}; train the fuser "
            "again, or restore the card that was written with it"
        )
    if digest(folder) != said:
        raise ModelUnavailableError(
            f"the files in {folder} are not those its card was written for; restore the whole "
            "folder, or train the fuser again"
        )
    try:
        config = FuserConfig.from_json(_read(folder, CONFIG_NAME))
    except ConfigurationError as error:
        raise ModelUnavailableError(f"fuser {folder} cannot be loaded: {error}") from error
    try:
        weights = load_file(folder / WEIGHTS)
        _check_shapes(weights, config)
        network = build_network(config)
        network.load_state_dict(weights)
    except (SafetensorError, RuntimeError, OSError) as error:
        raise ModelUnavailableError(
            f"the weights in {folder} do not fit its {CONFIG_NAME} ({type(error).__name__}); "
            "restore the whole folder, or train the fuser again"
        ) from error
    tokenizer = _tokenizer(folder) if config.caption is not None else None
    return TrainedFuser(network, tokenizer, device)


def _check_shapes(weights: Mapping[str, Tensor], config: FuserConfig) -> None:
    """Before memory is taken: a few bytes of configuration can ask for any number of gigabytes."""
    with torch.device("meta"):
        wanted = build_network(config).state_dict()
    if {k: v.shape for k, v in weights.items()} != {k: v.shape for k, v in wanted.items()}:
        raise RuntimeError("other names or shapes")


def digest(folder: Path) -> str:
    """sha256 (hex) over names and contents of all that changes what the fuser answers.

    Raises:
        ModelUnavailableError: weights or configuration are missing.
    """
    total = hashlib.sha256()
    for name in (WEIGHTS, CONFIG_NAME, TOKENIZER):
        path = folder / name
        if name == TOKENIZER and not path.exists():
            continue
        try:
            with path.open("rb") as file:
                own = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise _missing(folder, name) from error
        total.update(f"{name}\0{own}\n".encode())
    return total.hexdigest()


def _tokenizer(folder: Path) -> Tokenizer:
    text = _read(folder, TOKENIZER)
    # The library raises plain Exception for text it cannot read.
    try:
        return Tokenizer.from_str(text)
    except Exception as error:
        raise ModelUnavailableError(
            f"{folder / TOKENIZER} is no tokenizer; restore the whole folder"
        ) from error


def _read(folder: Path, name: str) -> str:
    try:
        return (folder / name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _missing(folder, name) from error


def _missing(folder: Path, name: str) -> ModelUnavailableError:
    return ModelUnavailableError(
        f"fuser {folder} has no readable {name}; give it a folder that training wrote"
    )


def _parts(card: str) -> tuple[list[str], str]:
    """The lines of a card's head, and what follows it."""
    lines = card.splitlines()
    if lines and lines[0] == "---" and "---" in lines[1:]:
        end = lines.index("---", 1)
        return lines[1:end], "\n".join([*lines[end + 1 :], ""])
    return [], card


def _said_digest(card: str) -> str | None:
    for line in _parts(card)[0]:
        if line.startswith(_DIGEST_LINE):
            return line.removeprefix(_DIGEST_LINE).strip()
    return None
