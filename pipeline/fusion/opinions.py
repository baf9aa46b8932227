"""What each modality says of every candidate, and how that is put together."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.fusion.zero_shot import Scores
from schemas.records import Evidence, Modality


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Opinion:
    """What one modality says of every candidate: its best part, and which that is.

    ``weighted``: ``scores`` times the trust in the modality. ``loudest``: int64 ``(n_candidates,)``
    into ``spans``.
    """

    modality: Modality
    scores: Scores
    weighted: Scores
    loudest: npt.NDArray[np.int64]
    spans: Sequence[tuple[int, int]]

    @classmethod
    def of(
        cls,
        modality: Modality,
        parts: Iterable[Scores],
        spans: Sequence[tuple[int, int]],
        weight: float,
    ) -> "Opinion":
        """``parts``: one for each of ``spans``, at least one; of equals the first is the loudest.

        They are taken one by one: a sound recording is one shot with thousands of lines.
        """
        rest = iter(parts)
        scores = next(rest).copy()
        loudest = np.zeros(scores.shape, np.int64)
        for index, part in enumerate(rest, start=1):
            louder = part > scores
            scores[louder] = part[louder]
            loudest[louder] = index
        return cls(
            modality=modality,
            scores=scores,
            weighted=weight * scores,
            loudest=loudest,
            spans=spans,
        )

    def evidence(self, index: int) -> Evidence:
        start_ms, end_ms = self.spans[self.loudest[index]]
        return Evidence(modality=self.modality, start_ms=start_ms, end_ms=end_ms)


def combined(opinions: Sequence[Opinion], nothing: Scores, but: Modality | None = None) -> Scores:
    """The noisy-or of all opinions, ``but`` that of one modality."""
    fused = nothing
    for opinion in opinions:
        if opinion.modality != but:
            fused = noisy_or(fused, opinion.weighted)
    return fused


def noisy_or(first: Scores, second: Scores) -> Scores:
    """Probability that at least one of two independent causes holds, elementwise, 0-1."""
    return np.minimum(1.0, first + second * (1.0 - first))
