"""What is known about one shot, gathered from all modalities before anything is decided.

A modality that has nothing to say leaves its part empty; that is normal and never an error.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pipeline.errors import ContractError
from schemas.records import Cue, FloatArray, Modality, Shot


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
class ShotEvidence:
    """One shot with its pictures (one per keyframe) and the cues that touch it.

    ``cue_vectors``: float32 ``(n_cues, dimension)``, the cues in the text model's space, in the
    order of ``cues``.
    """

    shot: Shot
    pictures: tuple[PictureFeatures, ...]
    cues: tuple[Cue, ...]
    cue_vectors: FloatArray

    def __post_init__(self) -> None:
        if self.cue_vectors.ndim != 2 or len(self.cue_vectors) != len(self.cues):
            raise ContractError(
                f"expected one cue vector per cue, got {self.cue_vectors.shape=} "
                f"for {len(self.cues)} cues"
            )


def modality_of(cue: Cue) -> Modality:
    """The modality a cue speaks for: recognised speech is ``audio``, written words are ``text``."""
    return "audio" if cue.origin == "speech" else "text"


def overlap_weight(shot: Shot, cue: Cue) -> float:
    """How much of a cue belongs to a shot, 0-1: the overlap over the shorter of the two spans.

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
    keyframe_features: Mapping[int, Sequence[PictureFeatures]],
    cues: Sequence[Cue],
    cue_vectors: FloatArray,
) -> list[ShotEvidence]:
    """Give each shot its pictures and every cue it overlaps.

    Args:
        shots: the shots of one asset.
        keyframe_features: pictures by ``shot_index``; a shot may be missing.
        cues: all cues of the asset, in any order.
        cue_vectors: float32 ``(n_cues, dimension)``, in the order of ``cues``.

    A cue that overlaps no shot (sound that runs on after the picture ended) belongs to none.

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
    starts = np.array([cue.start_ms for cue in cues], dtype=np.int64)
    ends = np.array([cue.end_ms for cue in cues], dtype=np.int64)
    evidence = []
    for shot in shots:
        near = np.flatnonzero((starts <= shot.end_ms) & (ends >= shot.start_ms))
        mine = [i for i in near.tolist() if overlap_weight(shot, cues[i]) > 0.0]
        evidence.append(
            ShotEvidence(
                shot=shot,
                pictures=tuple(keyframe_features.get(shot.shot_index, ())),
                cues=tuple(cues[i] for i in mine),
                cue_vectors=cue_vectors[mine],
            )
        )
    return evidence
