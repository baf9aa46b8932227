"""What every model checks at its edges, whichever library it runs on."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from pipeline.errors import ContractError, PipelineError, ResourceExhaustedError
from schemas.records import FloatArray, Image

#: How memory that ran out is worded by torch, CUDA, cuBLAS, onnxruntime and the C++ runtime, which
#: share no class of error for it.
_MEMORY_MESSAGES = (
    "out of memory",
    "bad_alloc",
    "bad allocation",
    "allocate memory",
    "cublas_status_alloc",
)


def check_picture(picture: Image, model: str) -> None:
    """Raises ContractError unless ``picture`` is uint8, HWC, RGB with at least one pixel."""
    if not isinstance(picture, np.ndarray):
        raise ContractError(f"{model} expects pictures, got {type(picture).__name__}")
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or picture.size == 0:
        raise ContractError(
            f"{model} expects uint8 HWC RGB pictures, got {picture.shape=} {picture.dtype=}"
        )


def check_samples(samples: FloatArray, model: str) -> None:
    """Raises ContractError unless ``samples`` is finite float32 of shape ``(n,)``, maybe empty."""
    if not isinstance(samples, np.ndarray):
        raise ContractError(f"{model} expects samples, got {type(samples).__name__}")
    if samples.ndim != 1 or samples.dtype != np.float32:
        raise ContractError(
            f"{model} expects float32 mono samples, got {samples.shape=} {samples.dtype=}"
        )
    check_finite(samples, f"the input of {model}")


def check_text(text: str, model: str) -> None:
    """Raises ContractError unless ``text`` is a string."""
    if not isinstance(text, str):
        raise ContractError(f"{model} expects text, got {type(text).__name__}")


def check_finite(values: FloatArray, model: str) -> FloatArray:
    """``values`` unchanged; raises ContractError where one is NaN or infinite."""
    if not np.isfinite(values).all():
        raise ContractError(f"{model} gave values that are not finite, shape {values.shape}")
    return values


def is_out_of_memory(error: Exception) -> bool:
    """Whether a library says that memory ran out, on the device or on the host."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(words in text for words in _MEMORY_MESSAGES)


@contextmanager
def vendor_errors(model: str) -> Iterator[None]:
    """Translate what a model's library raises while it infers.

    Raises:
        ResourceExhaustedError: memory ran out.
        ContractError: anything else.
    """
    try:
        yield
    except PipelineError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise ResourceExhaustedError(f"{model} ran out of memory: {error}") from error
        raise ContractError(f"{model} failed: {type(error).__name__}: {error}") from error
