"""What every offline model checks at its edges."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from pipeline.errors import ContractError, PipelineError, ResourceExhaustedError
from schemas.records import FloatArray, Image

_MEMORY_MESSAGES = ("out of memory", "bad_alloc", "bad allocation", "allocate memory")


def check_picture(picture: Image, model: str) -> None:
    """Raises ContractError unless ``picture`` is uint8, HWC, RGB with at least one pixel."""
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or picture.size == 0:
        raise ContractError(
            f"{model} expects uint8 HWC RGB pictures, got {picture.shape=} {picture.dtype=}"
        )


def check_finite(values: FloatArray, model: str) -> FloatArray:
    """``values`` unchanged; raises ContractError where one is NaN or infinite."""
    if not np.isfinite(values).all():
        raise ContractError(f"{model} gave values that are not finite, shape {values.shape}")
    return values


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
        text = str(error)
        if isinstance(error, MemoryError) or any(m in text.lower() for m in _MEMORY_MESSAGES):
            raise ResourceExhaustedError(f"{model} ran out of memory: {text}") from error
        raise ContractError(f"{model} failed: {type(error).__name__}: {text}") from error
