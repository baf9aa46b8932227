"""The words of a shot, put in an order that does not depend on how they arrived."""

from dataclasses import dataclass

import numpy as np

from pipeline.fusion.evidence import ShotEvidence, modality_of, overlap_weight
from pipeline.fusion.zero_shot import unit
from schemas.records import Cue, FloatArray, Modality


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Line:
    """One distinct text of a shot in one modality.

    ``weight`` (0-1): the cue's confidence times its overlap with the shot. ``understood``: its
    language is one the text model knows, or unknown, so that its vector means something.
    """

    text: str
    start_ms: int
    end_ms: int
    weight: float
    vector: FloatArray
    understood: bool


def lines_by_modality(
    evidence: ShotEvidence, languages: tuple[str, ...]
) -> dict[Modality, list[Line]]:
    """The lines of each modality that spoke, both in alphabetical order.

    A text said twice in a shot (two subtitle tracks, OCR of several keyframes) is one line with
    the larger weight. Cues without a confidence (subtitles) count fully.
    """
    spoken: dict[Modality, dict[str, Line]] = {}
    for cue, vector in zip(evidence.cues, evidence.cue_vectors, strict=True):
        text = " ".join(cue.text.split())
        confidence = 1.0 if cue.confidence is None else min(1.0, max(0.0, cue.confidence))
        weight = confidence * overlap_weight(evidence.shot, cue)
        if not text or weight <= 0.0:
            continue
        line = Line(
            text=text,
            start_ms=cue.start_ms,
            end_ms=cue.end_ms,
            weight=weight,
            vector=vector,
            understood=_known(cue, languages),
        )
        lines = spoken.setdefault(modality_of(cue), {})
        same = lines.get(text.casefold())
        if same is None or _precedence(line) > _precedence(same):
            lines[text.casefold()] = line
    return {
        modality: [lines[key] for key in sorted(lines)]
        for modality, lines in sorted(spoken.items(), key=lambda item: item[0])
    }


def mean_vector(lines: list[Line]) -> FloatArray | None:
    """The weighted mean of the lines' vectors at unit length; ``None`` where there is none."""
    if not lines:
        return None
    weights = np.array([line.weight for line in lines], dtype=np.float32)
    return unit(weights @ np.stack([line.vector for line in lines]))


def _precedence(line: Line) -> tuple[float, bool, str, bytes, int, int]:
    # Said equally twice, the first time counts.
    vector = line.vector.tobytes()
    return line.weight, line.understood, line.text, vector, -line.start_ms, -line.end_ms


def _known(cue: Cue, languages: tuple[str, ...]) -> bool:
    """Language tags compare by their first part: ``en-US`` is ``en``."""
    if cue.language is None:
        return True
    primary = cue.language.replace("_", "-").split("-", maxsplit=1)[0].casefold()
    return primary in ("", "und", *languages)
