"""Figures against other implementations, and against what is known."""

import numpy as np
import pytest

from pipeline.training.metrics import (
    accuracy,
    bootstrap,
    expected_calibration_error,
    macro_f1,
    mcnemar,
    mean_average_precision,
    mean_interval,
    paired_bootstrap,
    tag_calibration_error,
)

SCORES = np.array([[0.8, 0.2, 0], [0.6, 0.4, 0], [0.3, 0.7, 0], [0.1, 0.9, 0]], dtype=np.float32)
LABELS = np.array([0, 1, 1, 1])


def test_accuracy_and_f1() -> None:
    assert accuracy(SCORES, LABELS) == 0.75
    # Of the first class precision 1/2 and recall 1, of the second 1 and 2/3; no third.
    assert macro_f1(SCORES, LABELS) == pytest.approx((2 / 3 + 4 / 5) / 2)


def test_calibration_errors() -> None:
    assert expected_calibration_error(SCORES, LABELS, bins=1) == pytest.approx(0.0, abs=1e-6)
    assert expected_calibration_error(SCORES, LABELS, bins=15) == pytest.approx(
        (0.2 + 0.6 + 0.3 + 0.1) / 4, abs=1e-6
    )
    tags = np.array([[0.1, 0.9], [0.1, 0.9]], dtype=np.float32)
    assert tag_calibration_error(tags, np.array([[False, True], [False, True]])) == pytest.approx(
        0.1
    )


def test_average_precision_by_hand() -> None:
    scores = np.array([[0.9, 0.5, 0.1], [0.8, 0.5, 0.2], [0.7, 0.5, 0.3]], dtype=np.float32)
    truth = np.array([[True, True, False], [False, False, False], [True, False, False]])
    # The first tag: 1 at rank 1, 2/3 at rank 3; the second is all ties; the third never holds.
    assert mean_average_precision(scores, truth) == pytest.approx(((1 + 2 / 3) / 2 + 1 / 3) / 2)
    assert mean_average_precision(scores, np.zeros_like(truth)) == 0


def test_intervals_hold_the_truth_about_as_often_as_said() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for trial in range(60):
        right = rng.random(120) < 0.8
        found = bootstrap(
            lambda rows, right=right: float(right[rows].mean()),
            [str(row) for row in range(120)],
            resamples=200,
            seed=trial,
        )
        held += found.low <= 0.8 <= found.high
    assert 51 <= held <= 60


def test_rows_of_an_asset_are_no_more_than_the_asset() -> None:
    right = np.repeat(np.random.default_rng(0).random(30) < 0.7, 20)
    alone = bootstrap(lambda rows: float(right[rows].mean()), [str(row) for row in range(600)])
    grouped = bootstrap(
        lambda rows: float(right[rows].mean()), [str(row // 20) for row in range(600)]
    )
    assert grouped.value == alone.value
    assert grouped.high - grouped.low > 3 * (alone.high - alone.low)
    nothing = bootstrap(lambda rows: float(right[rows].mean()), ["one"] * 600)
    assert (nothing.low, nothing.high) == (0, 1)


def test_mcnemar_by_the_binomial() -> None:
    a = np.array([True] * 8 + [False] * 2 + [True] * 90)
    b = np.array([False] * 8 + [True] * 2 + [True] * 90)
    assert mcnemar(a, b) == pytest.approx(2 * (1 + 10 + 45) / 2**10)
    assert mcnemar(a, a) == 1.0


def test_paired_differences() -> None:
    rng = np.random.default_rng(1)
    a = rng.random(400) < 0.7
    better = a | (rng.random(400) < 0.3)
    groups = [str(row) for row in range(400)]

    def compared(other: np.ndarray) -> float:
        found = paired_bootstrap(
            lambda rows: float(a[rows].mean()), lambda rows: float(other[rows].mean()), groups
        )
        assert found.difference.low <= found.difference.value <= found.difference.high
        return found.p_value

    assert compared(better) < 0.01
    assert compared(rng.permutation(a)) > 0.05
    assert compared(a) == 1.0


def test_repeated_trainings() -> None:
    found = mean_interval([0.97, 0.98, 0.99])
    half = 4.303 * 0.01 / np.sqrt(3)
    assert (found.value, found.low, found.high) == pytest.approx((0.98, 0.98 - half, 0.98 + half))
    assert mean_interval([0.5]).low == 0.5
