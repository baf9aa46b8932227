"""What every model promises, whatever its task. One suite for all that come as packages, and for
the hub's implementations on tiny checkpoints."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tiny_checkpoints import write_blip, write_clip, write_sentence
from tiny_sounds import write_whisper
from tunes import tune

from pipeline.errors import ContractError, ModelUnavailableError
from pipeline.models.base import (
    CaptionRequest,
    ImageFeatures,
    Model,
    SoundFeatures,
    SpokenSegment,
    TextRegion,
    Transcript,
    answers,
)
from pipeline.models.hub.entries import from_settings
from pipeline.models.registry import OFFLINE_ENTRIES, ModelEntry, create, with_options

# Texts of one batch are padded to one length, which changes the order of float32 sums.
TOLERANCE = 1e-5


def _picture(word: str) -> Any:
    picture = np.full((120, 400, 3), 255, np.uint8)
    return cv2.putText(picture, word, (20, 80), cv2.FONT_HERSHEY_SIMPLEX, 2, (0, 0, 0), 4)


def _sound(frequency_hz: float) -> Any:
    return np.sin(np.arange(16_000) * frequency_hz * 2 * np.pi / 16_000).astype(np.float32) / 4


def _frames(cut_at: int) -> Any:
    """A window of frames in which another picture begins at one of them."""
    pictures = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 3), dtype=np.uint8)
    large = [cv2.resize(one, (48, 27), interpolation=cv2.INTER_CUBIC) for one in pictures]
    return np.stack([large[n >= cut_at] for n in range(100)])


INPUTS: dict[str, Sequence[Any]] = {
    "image-features": [_picture(word) for word in ("RIVER", "STONE", "CLOUD")],
    "ocr": [_picture(word) for word in ("RIVER", "STONE", "CLOUD")],
    "text-embedding": ["a cat", "a rather long sentence about the weather at sea", ""],
    "shot-boundaries": [_frames(40), _frames(60), _frames(100)],
    "caption": [CaptionRequest(images=(_picture(word),)) for word in ("RIVER", "STONE")],
    "speech": [_sound(220), _sound(440), np.zeros(0, np.float32)],
    "sound-events": [tune(2), _sound(440), np.zeros(100, np.float32)],
    "picture-classes": [
        np.zeros((64, 64, 3), np.uint8),
        _picture("RIVER"),
        np.full((20, 30_000, 3), 90, np.uint8),
    ],
}
WRONG: dict[str, Any] = {
    "image-features": np.zeros((8, 8), np.float32),
    "ocr": np.zeros((0, 8, 3), np.uint8),
    "text-embedding": 7,
    "speech": np.zeros((2, 16_000), np.float32),
    "sound-events": np.zeros((2, 16_000), np.float32),
    "picture-classes": np.zeros((8, 8), np.uint8),
    "shot-boundaries": np.zeros((99, 27, 48, 3), np.uint8),
    "caption": CaptionRequest(images=(np.zeros((8, 8), np.uint8),)),
}
TORCH: dict[str, Any] = {"runtime": "torch"}  # ONNX Runtime: tests/unit/models/test_hub_onnx.py
#: Implementations of hub models: what writes a checkpoint of each, and options.
HUB: dict[str, tuple[Callable[[Path], Path], dict[str, Any]]] = {
    "image-text": (write_clip, TORCH),
    "image-text-labels": (write_clip, TORCH),
    "sentence": (write_sentence, TORCH),
    "caption": (write_blip, {}),
    "speech": (write_whisper, {}),
}


def _numbers(output: Any) -> list[float]:
    match output:
        case ImageFeatures(embedding=embedding, class_scores=scores):
            return [*embedding.tolist(), *([] if scores is None else scores.tolist())]
        case Transcript(segments=segments):
            return [s.confidence for s in segments]
        case SoundFeatures(scores=scores):
            return [] if scores is None else [float(value) for value in scores.ravel()]
        case tuple():
            return [value for r in output for value in (r.confidence, r.box.left, r.box.top)]
        case str():
            return []
        case _:
            return list(output.tolist())


def _words(output: Any) -> list[str]:
    if isinstance(output, str):
        return [output]
    lines = output.segments if isinstance(output, Transcript) else output
    return (
        [line.text for line in lines if isinstance(line, SpokenSegment | TextRegion)]
        if (isinstance(lines, tuple))
        else []
    )


def _entry(name: str, folder: Path) -> ModelEntry:
    if name in OFFLINE_ENTRIES:
        return with_options(OFFLINE_ENTRIES[name], cache_dir=str(folder / "model-cache"))
    write, options = HUB[name]
    checkpoint = folder / write.__name__
    if not checkpoint.exists():
        write(checkpoint)
    return from_settings(f"tiny-{name}", implementation=name, path=str(checkpoint), options=options)


@pytest.fixture(params=[*sorted(OFFLINE_ENTRIES), *HUB], scope="module")
def entry(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ModelEntry:
    return _entry(request.param, tmp_path_factory.getbasetemp())


@pytest.fixture(params=sorted(OFFLINE_ENTRIES), scope="module")
def packaged(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> ModelEntry:
    return _entry(request.param, tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def model(entry: ModelEntry) -> Any:
    model = create(entry)
    model.load("cpu")
    yield model
    model.unload()


def test_info_says_who_the_model_is(packaged: ModelEntry) -> None:
    info = packaged.info
    version, digest, *_ = info.revision.split("+")
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
    together = [output for batch in batches for output in answers(model, batch)]
    alone = [answers(model, [item])[0] for item in items]

    assert len(together) == len(items)
    for one, other in zip(together, alone, strict=True):
        assert _words(one) == _words(other)
        np.testing.assert_allclose(_numbers(one), _numbers(other), atol=TOLERANCE)
    if model.info.task == "ocr":
        assert [_words(output) for output in together] == [["RIVER"], ["STONE"], ["CLOUD"]]
    elif model.info.task not in {"speech", "caption"}:
        first, second = _numbers(together[0]), _numbers(together[1])
        assert len(first) != len(second) or not np.allclose(first, second, atol=0.01)


def test_the_same_input_gives_the_same_output(model: Model[Any, Any]) -> None:
    item = INPUTS[model.info.task][0]
    assert _numbers(answers(model, [item])[0]) == _numbers(answers(model, [item])[0])


def test_many_threads_prepare_as_one_does(model: Model[Any, Any]) -> None:
    items = list(INPUTS[model.info.task])
    alone = [model.infer([model.prepare(item)])[0] for item in items]
    with ThreadPoolExecutor(8) as threads:
        prepared = list(threads.map(model.prepare, items * 4))
    for one, expected in zip(prepared[-len(items) :], alone, strict=True):
        (output,) = model.infer([one])
        assert _words(output) == _words(expected)
        assert _numbers(output) == _numbers(expected)


def test_an_empty_batch_is_no_error(model: Model[Any, Any]) -> None:
    assert answers(model, []) == []


def test_inputs_are_left_as_they_were(model: Model[Any, Any]) -> None:
    item = INPUTS[model.info.task][0]
    if isinstance(item, np.ndarray):
        before = item.copy()
        item.flags.writeable = False
        try:
            answers(model, [item])
        finally:
            item.flags.writeable = True
        assert np.array_equal(item, before)


def test_what_is_no_input_is_a_contract_error(model: Model[Any, Any]) -> None:
    with pytest.raises(ContractError, match=model.info.name):
        answers(model, [WRONG[model.info.task]])


def test_weights_with_another_digest_are_refused(packaged: ModelEntry) -> None:
    other = replace(packaged, info=replace(packaged.info, sha256="0" * 64))
    with pytest.raises(ModelUnavailableError, match="not the pinned 0000"):
        create(other).load("cpu")


def test_unloading_twice_or_without_loading_is_no_error(entry: ModelEntry) -> None:
    model = create(entry)
    model.unload()
    assert model.memory_bytes == 0
    model.load("cpu")
    assert model.memory_bytes > 10_000
    model.unload()
    model.unload()
    assert model.memory_bytes == 0
