"""Where a hub model runs, in which arithmetic, and what its weights take there."""

import torch

from pipeline.errors import ConfigurationError, ModelUnavailableError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def usable_device(name: str, device: str) -> torch.device:
    """The device called ``device``.

    Raises:
        ConfigurationError: there is no kind of device of that name.
        ModelUnavailableError: this machine, or this torch, has none.
    """
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise ConfigurationError(
            f"model {name} cannot use the device {device!r}; use cpu, cuda, cuda:N or mps"
        ) from error
    if found.type == "cuda" and not torch.cuda.is_available():
        raise ModelUnavailableError(
            f"model {name} cannot use {device}: this torch sees no GPU; set the device to cpu"
        )
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise ModelUnavailableError(
            f"model {name} cannot use {device}: there are {torch.cuda.device_count()} GPUs, "
            "counted from cuda:0"
        )
    if found.type == "mps" and not torch.backends.mps.is_available():
        raise ModelUnavailableError(
            f"model {name} cannot use {device}: this is no Mac with a GPU that torch can use; set "
            "the device to cpu"
        )
    if found.type not in {"cpu", "cuda", "mps"}:
        raise ConfigurationError(
            f"model {name} cannot use the device {device!r}; use cpu, cuda, cuda:N or mps"
        )
    return found


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """The arithmetic to run in; see :class:`HubModel`."""
    if name != "auto":
        return DTYPES[name]
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def module_bytes(module: torch.nn.Module) -> int:
    """Bytes of a module's weights and buffers; those it holds under several names count once."""
    tensors = [*module.parameters(), *module.buffers()]
    return sum({tensor.data_ptr(): tensor.nbytes for tensor in tensors}.values())
