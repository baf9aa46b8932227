"""What is known about one shot, gathered from all modalities before anything is decided.

A modality that has nothing to say leaves its part empty; that is normal and never an error.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pipeline.errors import ContractError
from schemas.records import Cue, FloatArray, Modality, Shot, SoundEvent


class Span(Protocol):
    """Half-open, in milliseconds."""

    @property
    def start_ms(self) -> int: ...

    @property
    def end_ms(self) -> int: ...


class PictureFeatures(Protocol):
    """What fusion reads of a picture model's answer about one keyframe.

    ``embedding``: float32 ``(dimension,)``, L2-normalised. ``class_scores``: float32
    ``(n_classes,)`` probabilities, or ``None`` for a model without a closed label set.
    """

    @property
    def embedding(self) -> FloatArray: ...

    @property
    def class_scores(self) -> FloatArray | None: ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SoundWindow:
    """A stretch of sound with what its model says of it: float32 ``(dimension,)``."""

    start_ms: int
    end_ms: int
    vector: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ShotEvidence:
    """One shot with its pictures (one per keyframe) and the cues and sounds that touch it.

    ``picture_ms``: when each picture is seen. ``cue_vectors``: float32 ``(n_cues, dimension)``, the
    cues in the text model's space, in the order of ``cues``.
    """

    shot: Shot
    pictures: tuple[PictureFeatures, ...]
    picture_ms: tuple[int, ...]
    cues: tuple[Cue, ...]
    cue_vectors: FloatArray
    sounds: tuple[SoundEvent, ...] = ()
    sound_windows: tuple[SoundWindow, ...] = ()

    def __post_init__(self) -> None:
        if len(self.picture_ms) != len(self.pictures):
            raise ContractError(
                f"expected one time per picture, got {len(self.picture_ms)} for "
                f"{len(self.pictures)} pictures"
            )
        if self.cue_vectors.ndim != 2 or len(self.cue_vectors) != len(self.cues):
            raise ContractError(
                f"expected one cue vector per cue, got {self.cue_vectors.shape=} "
                f"for {len(self.cues)} cues"
            )


def modality_of(cue: Cue) -> Modality:
    """The modality a cue speaks for: recognised speech is ``audio``, written words are ``text``."""
    return "audio" if cue.origin == "speech" else "text"


def overlap_weight(shot: Shot, cue: Span) -> float:
    """How much of a cue or sound belongs to a shot, 0-1: its overlap over the shorter of the two.

    A cue inside the shot, and a cue that covers the whole shot, both count fully. An instant (an
    image's shot, a cue without a duration) counts fully where it lies inside the other span.
    """
    shot_ms = shot.end_ms - shot.start_ms
    cue_ms = cue.end_ms - cue.start_ms
    shorter = min(shot_ms, cue_ms)
    if shorter <= 0:
        if (shot.start_ms, shot.end_ms) == (cue.start_ms, cue.end_ms):
            return 1.0
        if cue_ms <= 0:
            return 1.0 if shot.start_ms <= cue.start_ms < shot.end_ms else 0.0
        return 1.0 if cue.start_ms <= shot.start_ms < cue.end_ms else 0.0
    overlap_ms = min(shot.end_ms, cue.end_ms) - max(shot.start_ms, cue.start_ms)
    return max(0.0, min(1.0, overlap_ms / shorter))


def align(
    shots: Sequence[Shot],
    keyframe_features: Mapping[int, Sequence[tuple[int, PictureFeatures]]],
    cues: Sequence[Cue],
    cue_vectors: FloatArray,
    sounds: Sequence[SoundEvent] = (),
    sound_windows: Sequence[SoundWindow] = (),
) -> list[ShotEvidence]:
    """Give each shot its pictures and every cue and sound it overlaps.

    Args:
        shots: the shots of one asset.
        keyframe_features: times (ms) and pictures by ``shot_index``; a shot may be missing.
        cues: all cues of the asset, in any order.
        cue_vectors: float32 ``(n_cues, dimension)``, in the order of ``cues``.

    One that spans two shots belongs to both, and counts in each by its overlap. One that overlaps
    none (what is said after the picture ended) belongs to none.

    Raises:
        ContractError: cues and vectors disagree, or pictures name a shot that does not exist.
    """
    if cue_vectors.ndim != 2 or len(cue_vectors) != len(cues):
        raise ContractError(
            f"expected one cue vector per cue, got {cue_vectors.shape=} for {len(cues)} cues"
        )
    unknown = sorted(set(keyframe_features) - {shot.shot_index for shot in shots})
    if unknown:
        raise ContractError(f"keyframes belong to shots {unknown}, which do not exist")
    near_cues, near_sounds, near_windows = _Near(cues), _Near(sounds), _Near(sound_windows)
    evidence = []
    for shot in shots:
        pictured = keyframe_features.get(shot.shot_index, ())
        mine = near_cues.of(shot)
        evidence.append(
            ShotEvidence(
                shot=shot,
                pictures=tuple(picture for _, picture in pictured),
                picture_ms=tuple(at_ms for at_ms, _ in pictured),
                cues=tuple(cues[i] for i in mine),
                cue_vectors=cue_vectors[mine],
                sounds=tuple(sounds[i] for i in near_sounds.of(shot)),
                sound_windows=tuple(sound_windows[i] for i in near_windows.of(shot)),
            )
        )
    return evidence


class _Near:
    """Which of many spans overlap a shot."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self._spans = spans
        self._starts = np.array([span.start_ms for span in spans], dtype=np.int64)
        self._ends = np.array([span.end_ms for span in spans], dtype=np.int64)

    def of(self, shot: Shot) -> list[int]:
        near = np.flatnonzero((self._starts <= shot.end_ms) & (self._ends >= shot.start_ms))
        return [i for i in near.tolist() if overlap_weight(shot, self._spans[i]) > 0.0]
