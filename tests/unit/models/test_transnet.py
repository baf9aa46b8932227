import random
from collections.abc import Iterator

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch

from pipeline.models.base import answers
from pipeline.models.offline.transnet import TransNetV2
from pipeline.models.registry import find_entry

Window = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def model() -> Iterator[TransNetV2]:
    model = TransNetV2(info=find_entry("transnetv2").info)
    model.load("cpu")
    yield model
    model.unload()


def pictures() -> list[npt.NDArray[np.float32]]:
    coarse = np.random.default_rng(0).integers(0, 256, (2, 4, 6, 3), dtype=np.uint8)
    return [
        cv2.resize(one, (48, 27), interpolation=cv2.INTER_CUBIC).astype(np.float32)
        for one in coarse
    ]


def window(first: int, count: int) -> Window:
    """One picture, then another, with ``count`` mixed frames between them from ``first`` on."""
    one, other = pictures()
    share = np.clip((np.arange(100) - first + 1) / (count + 1), 0, 1)[:, None, None, None]
    return (one * (1 - share) + other * share).astype(np.uint8)


def test_cut_is_told_for_the_last_frame_before_it(model: TransNetV2) -> None:
    (scores,) = answers(model, [window(60, 0)])

    assert scores.shape == (100, 2)
    assert scores.dtype == np.float32
    assert np.flatnonzero(scores[:, 0] > 0.5).tolist() == [59]


def test_dissolve_is_told_for_its_middle_and_all_its_frames(model: TransNetV2) -> None:
    (scores,) = answers(model, [window(40, 20)])

    assert 45 <= int(scores[:, 0].argmax()) <= 55
    assert 12 <= int((scores[:, 1] > 0.5).sum()) <= 28


def test_a_still_has_no_boundary(model: TransNetV2) -> None:
    (scores,) = answers(model, [window(200, 0)])
    assert float(scores.max()) < 0.1


def test_loading_leaves_the_process_as_it_was() -> None:
    random.seed(7)
    np.random.seed(7)
    torch.manual_seed(7)
    before = random.getstate(), torch.get_rng_state(), torch.are_deterministic_algorithms_enabled()
    numbers = np.random.get_state()[1]
    model = TransNetV2(info=find_entry("transnetv2").info)
    threads = torch.get_num_threads()

    model.load("cpu")
    answers(model, [window(60, 0)])

    assert random.getstate() == before[0]
    assert torch.are_deterministic_algorithms_enabled() is before[2]
    assert (np.random.get_state()[1] == numbers).all()
    assert torch.get_num_threads() == threads
