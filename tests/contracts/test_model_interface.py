"""What every model promises, whatever its task. One suite for all that come as packages."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pipeline.errors import ContractError, ModelUnavailableError
from pipeline.models.base import ImageFeatures, Model, SpokenSegment, TextRegion, Transcript
from pipeline.models.registry import OFFLINE_ENTRIES, ModelEntry, create, with_options

# Texts of one batch are padded to one length, which changes the order of float32 sums.
TOLERANCE = 1e-5


def _picture(word: str) -> Any:
    picture = np.full((120, 400, 3), 255, np.uint8)
    return cv2.putText(picture, word, (20, 80), cv2.FONT_HERSHEY_SIMPLEX, 2, (0, 0, 0), 4)


def _sound(frequency_hz: float) -> Any:
    return np.sin(np.arange(16_000) * frequency_hz * 2 * np.pi / 16_000).astype(np.float32) / 4


INPUTS: dict[str, Sequence[Any]] = {
    "image-features": [_picture(word) for word in ("RIVER", "STONE", "CLOUD")],
    "ocr": [_picture(word) for word in ("RIVER", "STONE", "CLOUD")],
    "text-embedding": ["a cat", "a rather long sentence about the weather at sea", ""],
    "speech": [_sound(220), _sound(440), np.zeros(0, np.float32)],
}
WRONG: dict[str, Any] = {
    "image-features": np.zeros((8, 8), np.float32),
    "ocr": np.zeros((0, 8, 3), np.uint8),
    "text-embedding": 7,
    "speech": np.zeros((2, 16_000), np.float32),
}


def _numbers(output: Any) -> list[float]:
    match output:
        case ImageFeatures(embedding=embedding, class_scores=scores):
            return [*embedding.tolist(), *([] if scores is None else scores.tolist())]
        case Transcript(segments=segments):
            return [s.confidence for s in segments]
        case tuple():
            return [value for r in output for value in (r.confidence, r.box.left, r.box.top)]
        case _:
            return list(output.tolist())


def _words(output: Any) -> list[str]:
    lines = output.segments if isinstance(output, Transcript) else output
    return (
        [line.text for line in lines if isinstance(line, SpokenSegment | TextRegion)]
        if (isinstance(lines, tuple))
        else []
    )


@pytest.fixture(params=sorted(OFFLINE_ENTRIES), scope="module")
def entry(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ModelEntry:
    cache: Path = tmp_path_factory.getbasetemp() / "model-cache"
    return with_options(OFFLINE_ENTRIES[request.param], cache_dir=str(cache))


@pytest.fixture(scope="module")
def model(entry: ModelEntry) -> Any:
    model = create(entry)
    model.load("cpu")
    yield model
    model.unload()


def test_info_says_who_the_model_is(entry: ModelEntry) -> None:
    info = entry.info
    version, _, digest = info.revision.partition("+")
    assert OFFLINE_ENTRIES[info.name].info is info
    assert info.sha256 is not None
    assert len(info.sha256) == 64
    assert info.sha256.startswith(digest)
    assert f"=={version}" in info.source
    assert info.licence
    assert info.task in INPUTS


def test_outputs_come_in_order_and_do_not_depend_on_the_batch(model: Model[Any, Any]) -> None:
    items = list(INPUTS[model.info.task])
    batches = [
        items[start : start + model.max_batch] for start in range(0, len(items), model.max_batch)
    ]
    together = [output for batch in batches for output in model.infer(batch)]
    alone = [model.infer([item])[0] for item in items]

    assert len(together) == len(items)
    for one, other in zip(together, alone, strict=True):
        assert _words(one) == _words(other)
        np.testing.assert_allclose(_numbers(one), _numbers(other), atol=TOLERANCE)
    if model.info.task == "ocr":
        assert [_words(output) for output in together] == [["RIVER"], ["STONE"], ["CLOUD"]]
    elif model.info.task != "speech":
        assert not np.allclose(_numbers(together[0]), _numbers(together[1]), atol=0.01)


def test_the_same_input_gives_the_same_output(model: Model[Any, Any]) -> None:
    item = INPUTS[model.info.task][0]
    assert _numbers(model.infer([item])[0]) == _numbers(model.infer([item])[0])


def test_an_empty_batch_is_no_error(model: Model[Any, Any]) -> None:
    assert model.infer([]) == []


def test_inputs_are_left_as_they_were(model: Model[Any, Any]) -> None:
    item = INPUTS[model.info.task][0]
    if isinstance(item, np.ndarray):
        before = item.copy()
        item.flags.writeable = False
        try:
            model.infer([item])
        finally:
            item.flags.writeable = True
        assert np.array_equal(item, before)


def test_what_is_no_input_is_a_contract_error(model: Model[Any, Any]) -> None:
    with pytest.raises(ContractError, match=model.info.name):
        model.infer([WRONG[model.info.task]])


def test_weights_with_another_digest_are_refused(entry: ModelEntry) -> None:
    other = replace(entry, info=replace(entry.info, sha256="0" * 64))
    with pytest.raises(ModelUnavailableError, match="not the pinned 0000"):
        create(other).load("cpu")


def test_unloading_twice_or_without_loading_is_no_error(entry: ModelEntry) -> None:
    model = create(entry)
    model.unload()
    model.load("cpu")
    model.unload()
    model.unload()
