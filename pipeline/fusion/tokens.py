"""What is known of a shot as the tokens that a trained fuser reads.

Keyframes, cues and windows of sound are tokens of the modality that they speak for, with their
place in the shot and a weight. Their features are the stored ones, so nothing is decoded again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.fusion.evidence import ShotEvidence, overlap_weight
from pipeline.fusion.lines import lines_by_modality
from pipeline.fusion.neural.items import FusionItem, TokenSet
from schemas.records import FloatArray, Modality, Shot

#: Of one modality of a shot. A recording is one shot with thousands of cues: the weightiest are
#: taken, as every one of them is left out once to see what rests on it.
MAX_TOKENS = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class ShotTokens:
    """``spans_ms``: where the tokens of each modality of ``item`` stand in the asset."""

    item: FusionItem
    spans_ms: Mapping[str, Sequence[tuple[int, int]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Token:
    start_ms: int
    end_ms: int
    weight: float
    values: FloatArray


def tokens_of(
    evidence: ShotEvidence, modalities: Sequence[str], languages: tuple[str, ...]
) -> ShotTokens:
    """The tokens of those of ``modalities`` that are there; ``languages``: of the text model, in
    others it does not know what cues mean."""
    found: dict[Modality, list[_Token]] = {
        "visual": [
            _Token(start_ms=at_ms, end_ms=at_ms, weight=1.0, values=picture.embedding)
            for at_ms, picture in zip(evidence.picture_ms, evidence.pictures, strict=True)
        ],
        "sound": [
            _Token(
                start_ms=window.start_ms,
                end_ms=window.end_ms,
                weight=overlap_weight(evidence.shot, window),
                values=window.vector,
            )
            for window in evidence.sound_windows
        ],
    }
    for modality, lines in lines_by_modality(evidence, languages).items():
        found[modality] = [
            _Token(
                start_ms=line.start_ms,
                end_ms=line.end_ms,
                weight=line.weight,
                values=line.vector,
            )
            for line in lines
            if line.understood
        ]
    kept = {name: _weightiest(found[name]) for name in found if name in modalities and found[name]}
    return ShotTokens(
        item=FusionItem(
            modalities={name: _token_set(tokens, evidence.shot) for name, tokens in kept.items()}
        ),
        spans_ms={
            name: [(token.start_ms, token.end_ms) for token in tokens]
            for name, tokens in kept.items()
        },
    )


def _weightiest(tokens: list[_Token]) -> list[_Token]:
    """The weightiest, in order of time."""
    best = sorted(tokens, key=lambda token: (-token.weight, token.start_ms))[:MAX_TOKENS]
    return sorted(best, key=lambda token: (token.start_ms, token.end_ms))


def _token_set(tokens: Sequence[_Token], shot: Shot) -> TokenSet:
    length_ms = max(1, shot.end_ms - shot.start_ms)
    spans = np.array([(token.start_ms, token.end_ms) for token in tokens], np.float64)
    return TokenSet(
        values=np.stack([token.values for token in tokens]).astype(np.float32),
        spans=np.clip((spans - shot.start_ms) / length_ms, 0.0, 1.0).astype(np.float32),
        weights=np.array([token.weight for token in tokens], np.float32),
    )
