"""A model that finds shots works in the parent; the child sends it windows of tiny frames."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from media_factory import make_video

from pipeline.errors import ConfigurationError, ContractError, ResourceExhaustedError
from pipeline.media import MediaLimits, SplitParams, SplitResult, probe_media, split_media
from pipeline.media.windows import SCORES_SHAPE, WINDOW_SHAPE, Scores, Windows

PARAMS = SplitParams(shot_detector="transnetv2")


class Differences:
    """Scores the last frame before a large change, as the model does."""

    def __init__(self) -> None:
        self.windows = 0

    def __call__(self, windows: Windows) -> Scores:
        assert windows.shape[1:] == WINDOW_SHAPE
        assert windows.dtype == np.uint8
        self.windows += len(windows)
        change = np.abs(np.diff(windows.astype(np.int16), axis=1)).mean((2, 3, 4)) > 20
        scores = np.zeros((len(windows), *SCORES_SHAPE), np.float32)
        scores[:, :-1][change] = 0.9
        return scores


def split(path: Path, work_dir: Path, limits: MediaLimits, score: Any) -> SplitResult:
    info = probe_media(path, work_dir=work_dir, limits=limits).info
    return split_media(
        path, info=info, params=PARAMS, sidecars=(), work_dir=work_dir, limits=limits, score=score
    )


@pytest.fixture
def film(tmp_path: Path) -> Path:
    return make_video(tmp_path / "film.mp4", frames_per_shot=(60, 90, 75), sound=False)


def test_the_models_word_decides(film: Path, work_dir: Path, limits: MediaLimits) -> None:
    score = Differences()
    result = split(film, work_dir, limits, score)
    assert [shot.start_ms for shot in result.shots] == [0, 2400, 6000]
    assert [shot.starts_with for shot in result.shots] == ["start", "cut", "cut"]
    # 225 frames, of which each window decides 50.
    assert score.windows >= 5


def test_what_the_model_raises_is_raised(film: Path, work_dir: Path, limits: MediaLimits) -> None:
    def score(windows: Windows) -> Scores:
        raise ResourceExhaustedError("the device is out of memory")

    with pytest.raises(ResourceExhaustedError, match="device is out of memory"):
        split(film, work_dir, limits, score)
    assert list(work_dir.iterdir()) == []


def test_scores_of_another_shape_are_refused(
    film: Path, work_dir: Path, limits: MediaLimits
) -> None:
    with pytest.raises(ContractError, match="expected scores of"):
        split(film, work_dir, limits, lambda windows: np.zeros((len(windows), 3), np.float32))


def test_a_profile_without_the_model_is_told_so(
    film: Path, work_dir: Path, limits: MediaLimits
) -> None:
    with pytest.raises(ConfigurationError, match=r"names no model for 'shots'.*transnetv2"):
        split(film, work_dir, limits, None)


def test_a_model_that_takes_long_is_no_stall(
    film: Path, work_dir: Path, limits: MediaLimits
) -> None:
    impatient = replace(limits, stall_seconds=1)
    scorer = Differences()

    def score(windows: Windows) -> Scores:
        # Longer than the child may go without a sign of life: models are loaded when first asked.
        if scorer.windows == 0:
            threading.Event().wait(2.5)
        return scorer(windows)

    assert len(split(film, work_dir, impatient, score).shots) == 3
