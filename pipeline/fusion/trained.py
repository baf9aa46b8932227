"""From what a trained fuser says of each shot to tags, classes and embeddings."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipeline.errors import ConfigurationError
from pipeline.fusion.late import FusionResult
from pipeline.fusion.neural.config import FuserConfig
from pipeline.fusion.neural.model import Said
from pipeline.fusion.params import LateFusionParams
from pipeline.fusion.tokens import ShotTokens
from schemas.records import Caption, Classification, Embedding, Evidence, Modality, Shot, Tag


def check_features(name: str, config: FuserConfig, made_by: Mapping[Modality, str]) -> None:
    """Whether a fuser can read features that these models made; a modality may be absent.

    Raises:
        ConfigurationError: it was trained on those of others.
    """
    known: Mapping[str, str] = {str(modality): maker for modality, maker in made_by.items()}
    for modality in config.modalities:
        maker = known.get(modality.name, modality.space)
        if maker != modality.space:
            raise ConfigurationError(
                f"the fuser {name} was trained on {modality.name} features of {modality.space}, "
                f"and these are of {maker}: train it again on them"
            )


def results_of(
    shots: Sequence[Shot],
    tokens: Sequence[ShotTokens],
    answers: Iterable[Said | None],
    config: FuserConfig,
    params: LateFusionParams,
    *,
    name: str,
    space: str,
) -> FusionResult:
    """``answers``: one per shot, taken one by one: each scores every label in many ways. ``name``:
    of the fuser, which its classes are stored under; ``space``: of its joint embedding. A shot
    without any modality has no rows."""
    tags: list[Tag] = []
    classifications: list[Classification] = []
    embeddings: list[Embedding] = []
    captions: list[Caption] = []
    for shot, own, answer in zip(shots, tokens, answers, strict=True):
        if answer is None:
            continue
        said = answer.prediction
        if answer.caption is not None and config.caption is not None:
            captions.append(
                Caption(
                    shot_index=shot.shot_index,
                    start_ms=shot.start_ms,
                    end_ms=shot.end_ms,
                    text=answer.caption,
                    language=config.caption.language or "und",
                )
            )
        tags += _tags(shot, own.spans_ms, said, config, params)
        if len(said.class_scores):
            best = int(said.class_scores.argmax())
            classifications.append(
                Classification(
                    shot_index=shot.shot_index,
                    taxonomy=name,
                    class_name=config.classes[best],
                    score=_probability(said.class_scores[best]),
                )
            )
        embeddings.append(
            Embedding(
                shot_index=shot.shot_index,
                start_ms=shot.start_ms,
                end_ms=shot.end_ms,
                space=space,
                vector=said.embedding,
            )
        )
    return FusionResult(
        tags=tuple(tags),
        classifications=tuple(classifications),
        embeddings=tuple(embeddings),
        captions=tuple(captions),
    )


def _tags(
    shot: Shot,
    spans_ms: Mapping[str, Sequence[tuple[int, int]]],
    said: Any,
    config: FuserConfig,
    params: LateFusionParams,
) -> list[Tag]:
    ranked = sorted(
        (index for index, score in enumerate(said.tag_scores) if score >= params.tag_threshold),
        key=lambda index: (-said.tag_scores[index], config.tags[index]),
    )
    return [
        Tag(
            shot_index=shot.shot_index,
            start_ms=shot.start_ms,
            end_ms=shot.end_ms,
            label=config.tags[index],
            score=_probability(said.tag_scores[index]),
            **{f"{m}_score": _of(said.alone[m], index) for m in said.present},
            **{f"without_{m}": _of(said.without[m], index) for m in said.present},
            evidence=_evidence(said.loudest_tags[index], spans_ms),
        )
        for index in ranked[: params.max_tags_per_shot]
    ]


def _of(scores: Any, index: int) -> float:
    """Nothing is left of the score where no modality is."""
    return 0.0 if scores is None else _probability(scores.tags[index])


def _evidence(token: Any, spans_ms: Mapping[str, Sequence[tuple[int, int]]]) -> Evidence | None:
    if token is None:
        return None
    start_ms, end_ms = spans_ms[token.modality][token.index]
    return Evidence(modality=token.modality, start_ms=start_ms, end_ms=end_ms)


def _probability(value: Any) -> float:
    return min(1.0, max(0.0, float(value)))
