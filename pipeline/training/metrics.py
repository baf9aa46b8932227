"""How good scores are, how sure that is, and whether one model is better than another. numpy."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from schemas.records import FloatArray

Labels = npt.NDArray[np.int64]
Known = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int64]

_CONFIDENCE = 0.95
_RESAMPLES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A figure with the interval of 95 % confidence around it."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4f} ({self.low:.4f} to {self.high:.4f})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Model b against model a on the same rows: ``difference`` is b's figure less a's.

    ``p_value``: how likely a difference as large is where there is none.
    """

    difference: Interval
    p_value: float


def accuracy(scores: FloatArray, labels: Labels) -> float:
    """The share of rows whose likeliest class (``scores`` ``(n, classes)``) is right."""
    return float((scores.argmax(axis=1) == labels).mean())


def macro_f1(scores: FloatArray, labels: Labels) -> float:
    """The mean of the F1 of all classes that occur, in truth or in answers."""
    said = scores.argmax(axis=1)
    size = scores.shape[1]
    right = np.bincount(labels[said == labels], minlength=size)
    total = np.bincount(said, minlength=size) + np.bincount(labels, minlength=size)
    return float((2 * right[total > 0] / total[total > 0]).mean())


def expected_calibration_error(scores: FloatArray, labels: Labels, bins: int = 15) -> float:
    """How far confidence is from accuracy, the mean over bins of equal width by their rows.

    Source: Guo et al. 2017, "On calibration of modern neural networks".
    """
    confidence = scores.max(axis=1).astype(np.float64)
    return _bin_error(confidence, scores.argmax(axis=1) == labels, bins)


def tag_calibration_error(scores: FloatArray, truth: Known, bins: int = 15) -> float:
    """The same for tags, ``scores`` and ``truth`` ``(n, tags)``: score against frequency."""
    return _bin_error(scores.ravel().astype(np.float64), truth.ravel(), bins)


def mean_average_precision(scores: FloatArray, truth: Known) -> float:
    """The mean, over the tags that hold for some row, of average precision; 0 without any.

    Equal scores count as one step, so a constant scores a tag's frequency.
    """
    held = truth.any(axis=0)
    if not held.any():
        return 0.0
    found = [_average_precision(scores[:, at], truth[:, at]) for at in np.flatnonzero(held)]
    return float(np.mean(found))


def bootstrap(
    measure: Callable[[Rows], float],
    groups: Sequence[str],
    *,
    resamples: int = _RESAMPLES,
    seed: int = 0,
) -> Interval:
    """A figure's interval by drawing whole groups with replacement.

    ``measure``: the figure of some rows, which may name one several times. Of a single group
    nothing can be said: the interval is then 0 to 1.
    """
    everything = np.arange(len(groups))
    value = measure(everything)
    drawn = _draws(groups, resamples, seed)
    if not drawn:
        return Interval(value=value, low=0.0, high=1.0)
    low, high = _quantiles(np.array([measure(rows) for rows in drawn]))
    return Interval(value=value, low=low, high=high)


def paired_bootstrap(
    measure_a: Callable[[Rows], float],
    measure_b: Callable[[Rows], float],
    groups: Sequence[str],
    *,
    resamples: int = _RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Whether b's figure is another than a's: both on the same draws of whole groups."""
    everything = np.arange(len(groups))
    value = measure_b(everything) - measure_a(everything)
    drawn = _draws(groups, resamples, seed)
    if not drawn:
        return Comparison(difference=Interval(value=value, low=-1.0, high=1.0), p_value=1.0)
    differences = np.array([measure_b(rows) - measure_a(rows) for rows in drawn])
    low, high = _quantiles(differences)
    # One more draw on each side: so few draws never prove anything beyond doubt.
    below = (np.count_nonzero(differences <= 0) + 1) / (len(drawn) + 1)
    above = (np.count_nonzero(differences >= 0) + 1) / (len(drawn) + 1)
    return Comparison(
        difference=Interval(value=value, low=low, high=high),
        p_value=float(min(1.0, 2 * min(below, above))),
    )


def mcnemar(right_a: Known, right_b: Known) -> float:
    """The exact p-value of McNemar's test (1947): of the rows that only one of two models got
    right, whether one model got more than chance would give it."""
    only_a = int(np.count_nonzero(right_a & ~right_b))
    only_b = int(np.count_nonzero(right_b & ~right_a))
    n = only_a + only_b
    tail = sum(math.comb(n, k) for k in range(min(only_a, only_b) + 1))
    return float(min(1.0, 2 * tail / 2**n))


def mean_interval(values: Sequence[float]) -> Interval:
    """The mean of repeated trainings with its interval by Student's t (2 to 31 of them)."""
    n = len(values)
    mean = float(np.mean(values))
    if n < 2:
        return Interval(value=mean, low=mean, high=mean)
    half = _STUDENT[min(n, 31) - 2] * float(np.std(values, ddof=1)) / math.sqrt(n)
    return Interval(value=mean, low=mean - half, high=mean + half)


#: Two-sided 95 % quantiles of Student's t for 1 to 30 degrees of freedom.
_STUDENT = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
    2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


def _bin_error(confidence: npt.NDArray[np.float64], right: Known, bins: int) -> float:
    at = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    gaps = np.bincount(at, weights=confidence - right, minlength=bins)
    return float(np.abs(gaps).sum() / max(1, len(confidence)))


def _average_precision(scores: FloatArray, truth: Known) -> float:
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    hits = np.cumsum(truth[order])[last]
    gained = np.diff(hits, prepend=0)
    return float((gained * hits / (last + 1)).sum() / hits[-1])


def _draws(groups: Sequence[str], resamples: int, seed: int) -> list[Rows]:
    names, inverse = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    if len(names) < 2:
        return []
    members = np.split(np.argsort(inverse, kind="stable"), np.cumsum(np.bincount(inverse))[:-1])
    rng = np.random.default_rng(seed)
    if len(names) == len(groups):
        joined = np.concatenate(members)
        return [joined[rng.integers(len(names), size=len(names))] for _ in range(resamples)]
    return [
        np.concatenate([members[at] for at in rng.integers(len(names), size=len(names))])
        for _ in range(resamples)
    ]


def _quantiles(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    edge = (1 - _CONFIDENCE) / 2
    low, high = np.quantile(values, [edge, 1 - edge])
    return float(low), float(high)
