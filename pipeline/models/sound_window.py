"""What every sound model checks of a window."""

import numpy as np

from pipeline.errors import ContractError
from schemas.records import FloatArray

SAMPLE_RATE_HZ = 16_000


def check_window(samples: FloatArray, window_ms: int, model: str) -> FloatArray:
    """``samples`` in one piece of memory.

    Raises:
        ContractError: they are not finite float32 of shape ``(n,)``, or longer than ``window_ms``.
    """
    if (
        not isinstance(samples, np.ndarray)
        or samples.ndim != 1
        or samples.dtype != np.float32
        or len(samples) > window_ms * SAMPLE_RATE_HZ // 1000
    ):
        raise ContractError(
            f"{model} expects float32 mono samples of at most {window_ms} ms at 16 kHz, got "
            f"{getattr(samples, 'shape', None)} {getattr(samples, 'dtype', type(samples))}"
        )
    if not np.isfinite(samples).all():
        raise ContractError(f"{model} was given samples that are not finite, {samples.shape=}")
    return np.ascontiguousarray(samples)
