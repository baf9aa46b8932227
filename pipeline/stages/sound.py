"""sound: 16 kHz sound → what is heard besides words, and when."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import ConfigurationError, ContractError
from pipeline.models.base import ModelInfo, SoundFeatures
from pipeline.models.sound_window import SAMPLE_RATE_HZ
from pipeline.stages.base import Models, StageInputs, StageOutput, StageSpec
from schemas.records import FloatArray, SoundEvent

EVERYDAY_SOUNDS = tuple(
    (
        "speech, singing, music, a crowd, applause, laughter, crying, shouting, whispering, "
        "footsteps, a door, knocking, a telephone ringing, an alarm, a siren, a bell, "
        "a clock ticking, typing on a keyboard, a car, a car horn, traffic, a train, an aeroplane, "
        "a helicopter, an engine, a power tool, hammering, breaking glass, an explosion, "
        "a gunshot, fireworks, fire crackling, rain, thunder, wind, water flowing, waves, "
        "birds singing, a dog barking, a cat meowing, a horse, insects"
    ).split(", ")
)
PROMPT = "This is a sound of {}."
#: What a label must fit better than: descriptions of any sound.
NEUTRAL = ("This is a sound.", "This is a recording.", "This is background noise.")
MAX_LABELS = 1000

#: -80 dB of full scale, three steps of 16 bits: what stays below is silence, whatever a model says.
_AUDIBLE_PEAK = 1e-4
_SAMPLES_PER_MS = SAMPLE_RATE_HZ // 1000
#: Rows of ``sound_features`` are at least so long, where a model's frames are shorter.
_ROW_MS = 1000

_Times = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class SoundParams:
    """``threshold``: score (0-1) from which a label is heard; ``max_gap_ms``: shorter pauses belong
    to the event; ``min_ms``: shorter events are dropped. ``labels``: what a model of sounds and
    texts listens for (others bring their own), as in ``prompt``, whose ``{}`` is the label."""

    threshold: float = 0.5
    max_gap_ms: int = 500
    min_ms: int = 500
    labels: tuple[str, ...] = EVERYDAY_SOUNDS
    prompt: str = PROMPT

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise ConfigurationError(
                f"sound.threshold is {self.threshold}: give a number above 0, at most 1"
            )
        if self.max_gap_ms < 0 or self.min_ms < 0:
            raise ConfigurationError("sound.max_gap_ms and sound.min_ms must be 0 or more")
        if not 0 < len(self.labels) <= MAX_LABELS or len(set(self.labels)) < len(self.labels):
            raise ConfigurationError(f"sound.labels must be 1 to {MAX_LABELS} different labels")
        if not all(label.strip() and len(label) <= 200 for label in self.labels):
            raise ConfigurationError("sound.labels must have 1 to 200 characters each")
        if "{}" not in self.prompt:
            raise ConfigurationError(f"sound.prompt is {self.prompt!r}: it lacks {{}}")


def run(inputs: StageInputs, params: SoundParams, models: Models) -> StageOutput:
    samples = inputs.audio() if models.has("sound") else None
    heard = None if samples is None else _listen(samples, params, models)
    if heard is None:
        return StageOutput(records={"sound_events": ()}, arrays={"sound_features": {}})
    return StageOutput(
        records={"sound_events": find_events(heard, params)},
        arrays={"sound_features": _rows(heard, models.info("sound"))},
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Heard:
    """Frames in the order of time, ``[start_ms, end_ms)`` each, without overlaps; silence has none.

    ``scores``: float32 ``(n_frames, n_labels)``. ``embedding``: float32 ``(n_frames, dimension)``
    where frames are windows with one.
    """

    start_ms: _Times
    end_ms: _Times
    labels: tuple[str, ...]
    scores: FloatArray
    embedding: FloatArray | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Window:
    """``[start_ms, end_ms)`` is heard, ``[from_ms, to_ms)`` of it counts: half of what a window
    shares with its neighbour, and all that it shares with none."""

    start_ms: int
    end_ms: int
    from_ms: int
    to_ms: int


def windows(total_ms: int, window_ms: int, hop_ms: int) -> list[_Window]:
    """Cover ``total_ms`` of sound."""
    count = 1 + max(0, -(-(total_ms - window_ms) // hop_ms))
    margin_ms = (window_ms - hop_ms) // 2
    return [
        _Window(
            start_ms=index * hop_ms,
            end_ms=min(index * hop_ms + window_ms, total_ms),
            from_ms=index * hop_ms + margin_ms if index else 0,
            to_ms=(index + 1) * hop_ms + margin_ms if index < count - 1 else total_ms,
        )
        for index in range(count)
    ]


def _listen(samples: FloatArray, params: SoundParams, models: Models) -> Heard | None:
    """``None`` where all is silence."""
    model = models.get("sound")
    total_ms = -(-len(samples) // _SAMPLES_PER_MS)
    audible = [
        window
        for window in windows(total_ms, model.window_ms, model.hop_ms)
        if _peak(_cut(samples, window.start_ms, window.end_ms)) >= _AUDIBLE_PEAK
    ]
    features: list[SoundFeatures] = list(
        models.map("sound", (_cut(samples, w.start_ms, w.end_ms) for w in audible))
    )
    if not features:
        return None
    if features[0].embedding is not None:
        return _heard_windows(samples, audible, features, params, models)
    parts = [
        _heard_frames(samples, window, found)
        for window, found in zip(audible, features, strict=True)
    ]
    return Heard(
        start_ms=np.concatenate([part[0] for part in parts]),
        end_ms=np.concatenate([part[1] for part in parts]),
        labels=features[0].labels,
        scores=np.concatenate([part[2] for part in parts]),
    )


def _heard_frames(
    samples: FloatArray, window: _Window, found: SoundFeatures
) -> tuple[_Times, _Times, FloatArray]:
    """Start, end and scores of the frames that count; 0 where there is silence."""
    if found.scores is None or found.scores.shape[1:] != (len(found.labels),):
        shape = None if found.scores is None else found.scores.shape
        raise ContractError(f"a sound model gave {len(found.labels)} labels, scores {shape=}")
    starts = window.start_ms + found.frame_ms * np.arange(len(found.scores), dtype=np.int64)
    ends = starts + found.frame_ms
    ends[-1:] = window.end_ms
    starts, ends = np.maximum(starts, window.from_ms), np.minimum(ends, window.to_ms)
    counts = starts < ends
    starts, ends, scores = starts[counts], ends[counts], found.scores[counts].copy()
    if len(starts):
        heard = np.abs(_cut(samples, int(starts[0]), int(ends[-1])))
        peaks = np.maximum.reduceat(heard, (starts - starts[0]) * _SAMPLES_PER_MS)
        scores[peaks < _AUDIBLE_PEAK] = 0.0
    return starts, ends, scores


def _heard_windows(
    samples: FloatArray,
    audible: Sequence[_Window],
    features: Sequence[SoundFeatures],
    params: SoundParams,
    models: Models,
) -> Heard:
    """Each window is a frame, compared with the labels where there is a model for them."""
    embedding = np.stack([found.embedding for found in features if found.embedding is not None])
    labels: tuple[str, ...] = ()
    scores = np.zeros((len(embedding), 0), np.float32)
    if models.has("sound_labels"):
        labels = params.labels
        scores = _fits(embedding, features[0], params, models)
        for row, window in enumerate(audible):
            if _peak(_cut(samples, window.from_ms, window.to_ms)) < _AUDIBLE_PEAK:
                scores[row] = 0.0
    return Heard(
        start_ms=np.array([window.from_ms for window in audible], np.int64),
        end_ms=np.array([window.to_ms for window in audible], np.int64),
        labels=labels,
        scores=scores,
        embedding=embedding,
    )


def _fits(
    embedding: FloatArray, first: SoundFeatures, params: SoundParams, models: Models
) -> FloatArray:
    """How well each label fits each window, float32 ``(n_windows, n_labels)``.

    The softmax of the label against the neutral descriptions alone, at the temperature the network
    was trained with: labels do not compete with each other, as many may be heard at once. 0.5 is a
    label that fits as well as all neutral descriptions together.
    """
    space = models.get("sound_labels").space
    if space != first.space or first.scale is None:
        raise ConfigurationError(
            f"the model in the role sound has vectors in {first.space}, the one in sound_labels in "
            f"{space}: name the two halves of one checkpoint"
        )
    prompts = [params.prompt.replace("{}", label) for label in params.labels]
    texts = np.stack(models.infer("sound_labels", [*prompts, *NEUTRAL])).astype(np.float64)
    logits = first.scale * (embedding.astype(np.float64) @ texts.T)
    wanted, neutral = logits[:, : len(prompts)], logits[:, len(prompts) :]
    ahead = wanted - np.logaddexp.reduce(neutral, axis=1)[:, None]
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(ahead, -50.0, 50.0))), np.float32)


def find_events(heard: Heard, params: SoundParams) -> list[SoundEvent]:
    """Stretches at or over the threshold; their score is the mean over them, pauses included."""
    lengths = (heard.end_ms - heard.start_ms).astype(np.float64)
    events = []
    for column, label in enumerate(heard.labels):
        scores = heard.scores[:, column]
        for first, last in _stretches(heard, scores >= params.threshold, params.max_gap_ms):
            start, end = int(heard.start_ms[first]), int(heard.end_ms[last])
            if end - start < params.min_ms:
                continue
            span = slice(first, last + 1)
            mean = float(scores[span].astype(np.float64) @ lengths[span]) / (end - start)
            events.append(SoundEvent(start_ms=start, end_ms=end, label=label, score=min(mean, 1.0)))
    return sorted(events, key=lambda event: (event.start_ms, event.end_ms, event.label))


def _stretches(
    heard: Heard, is_heard: npt.NDArray[np.bool_], max_gap_ms: int
) -> list[tuple[int, int]]:
    """First and last frame of each stretch."""
    found = np.flatnonzero(is_heard)
    if not len(found):
        return []
    gaps = heard.start_ms[found[1:]] - heard.end_ms[found[:-1]]
    breaks = np.flatnonzero(gaps > max_gap_ms)
    firsts = found[np.concatenate([[0], breaks + 1])]
    lasts = found[np.concatenate([breaks, [len(found) - 1]])]
    return list(zip(firsts.tolist(), lasts.tolist(), strict=True))


def _rows(heard: Heard, made_by: ModelInfo) -> dict[str, Any]:
    """``sound_features``: ``start_ms``, ``end_ms`` (int64), ``labels`` (JSON in UTF-8), ``scores``
    and ``embedding`` (float32), a row per second, or per frame where these are longer; ``model``
    (JSON in UTF-8): the name and revision of who made them."""
    if not len(heard.start_ms):
        return {}
    _, firsts = np.unique(heard.start_ms // _ROW_MS, return_index=True)
    lasts = np.append(firsts[1:], len(heard.start_ms)) - 1
    arrays: dict[str, Any] = {
        "start_ms": heard.start_ms[firsts],
        "end_ms": heard.end_ms[lasts],
        "model": np.frombuffer(json.dumps([made_by.name, made_by.revision]).encode(), np.uint8),
    }
    if heard.labels:
        lengths = (heard.end_ms - heard.start_ms)[:, None]
        sums = np.add.reduceat(heard.scores.astype(np.float64) * lengths, firsts, axis=0)
        arrays["scores"] = (sums / np.add.reduceat(lengths, firsts, axis=0)).astype(np.float32)
        arrays["labels"] = np.frombuffer(json.dumps(heard.labels).encode(), np.uint8)
    if heard.embedding is not None:
        arrays["embedding"] = heard.embedding[firsts]
    return arrays


def _cut(samples: FloatArray, start_ms: int, end_ms: int) -> FloatArray:
    return samples[start_ms * _SAMPLES_PER_MS : end_ms * _SAMPLES_PER_MS]


def _peak(samples: FloatArray) -> float:
    return float(np.abs(samples).max(initial=0.0))


SPEC = StageSpec(
    name="sound",
    queue="device",
    code_version=1,
    kinds=frozenset({"video", "audio"}),
    inputs=("audio",),
    outputs=("sound_events", "sound_features"),
    roles=("sound", "sound_labels"),
    optional_roles=frozenset({"sound", "sound_labels"}),
    credited_role="sound",
    needs_audio=True,
    params=SoundParams,
    run=run,
)
