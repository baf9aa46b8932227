"""Late fusion: every modality gives its opinion of a shot, and the opinions are combined.

Nothing is trained here, and a modality that is missing is left out of every formula rather than
filled in, so that it changes no score.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.errors import ContractError
from pipeline.fusion.candidates import build_candidates
from pipeline.fusion.classify import Classifier, ClassSet
from pipeline.fusion.evidence import PictureFeatures, ShotEvidence
from pipeline.fusion.lines import Line, lines_by_modality, mean_vector
from pipeline.fusion.params import LateFusionParams
from pipeline.fusion.taxonomy import load_taxonomy
from pipeline.fusion.words import words_of
from pipeline.fusion.zero_shot import (
    ConseScorer,
    LabelSpace,
    NativeScorer,
    PictureScorer,
    Scores,
    probability,
    unit,
)
from schemas.records import Classification, Embedding, FloatArray, Modality, Shot, Tag

__all__ = ["FUSER_NAME", "FUSER_REVISION", "FusionResult", "LateFuser", "LateFusionParams"]

FUSER_NAME = "late-fusion"
#: Changes with every change of code or shipped data that can change a result.
FUSER_REVISION = "1"

#: Below this a picture model's probability is noise, not a vote.
LEAST_DIRECT_SCORE = 0.05
#: Texts shorter than this are taken literally only: their vectors are near too much.
LEAST_WORDS_FOR_MEANING = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class FusionResult:
    """What was fused, in the order of the shots."""

    tags: tuple[Tag, ...]
    classifications: tuple[Classification, ...]
    embeddings: tuple[Embedding, ...]


class LateFuser:
    """Fuses shots one by one. Building one embeds the labels once per process.

    Args:
        params: how to fuse.
        image_class_names: the picture model's closed label set, in the order of its scores;
            empty for a model without one.
        image_space: name of the picture model's vector space.
        text_space: name of the text model's vector space, which the joint embedding shares.
        embed_text: texts to float32 ``(n, dimension)`` vectors of the text model; may block.
        embed_labels: the same into the picture model's own space, for models with a text tower.
            Without it and without class names, pictures have no opinion on labels.

    Raises:
        ContractError: an embedding function does not return one finite vector per text.
    """

    def __init__(
        self,
        params: LateFusionParams,
        image_class_names: tuple[str, ...],
        image_space: str,
        text_space: str,
        embed_text: Callable[[Sequence[str]], FloatArray],
        embed_labels: Callable[[Sequence[str]], FloatArray] | None = None,
    ) -> None:
        self._params = params
        self._text = LabelSpace(text_space, embed_text)
        self._scorer: PictureScorer | None = None
        if image_class_names:
            self._scorer = ConseScorer(image_class_names, self._text)
        elif embed_labels is not None:
            self._scorer = NativeScorer(image_space, embed_labels, self._text)
        labels = params.labels or ()
        self._candidates = build_candidates(labels, image_class_names)
        self._named = self._candidates.names[: self._candidates.n_named]
        self._named_vectors = self._text.vectors(self._named)
        if self._scorer is not None:
            self._seen_vectors = self._scorer.vectors([(name,) for name in self._named])
        #: Least probability by meaning, per named label: the user's own are always considered.
        self._meaning_floor = np.full(len(self._named), params.zero_shot_threshold)
        self._meaning_floor[: self._candidates.n_user] = params.tag_threshold
        sets = [ClassSet.from_taxonomy(load_taxonomy(params.taxonomy))]
        if len(labels) > 1:
            sets.append(ClassSet.from_labels(params.label_set_name, labels))
        self._classifiers = [Classifier(classes, self._text, self._scorer) for classes in sets]

    def fuse(self, evidence: Sequence[ShotEvidence]) -> FusionResult:
        """Tags, classes and a joint embedding for each shot that has any evidence.

        Raises:
            ContractError: scores or vectors of another shape than the models promised.
        """
        tags: list[Tag] = []
        classifications: list[Classification] = []
        embeddings: list[Embedding] = []
        for item in evidence:
            if item.cues and item.cue_vectors.shape[1] != self._text.dimension:
                raise ContractError(
                    f"expected cue vectors of {self._text.dimension} dimensions in "
                    f"{self._text.name}, got {item.cue_vectors.shape=}"
                )
            spoken = {
                modality: lines
                for modality, lines in lines_by_modality(item, self._params.text_languages).items()
                if self._params.weight(modality) > 0.0
            }
            pictures = item.pictures if self._params.visual_weight > 0.0 else ()
            tags.extend(self._tags(item.shot, pictures, spoken))
            classifications.extend(self._classes(item.shot, pictures, spoken))
            embedding = self._embedding(item.shot, pictures, spoken)
            if embedding is not None:
                embeddings.append(embedding)
        return FusionResult(
            tags=tuple(tags),
            classifications=tuple(classifications),
            embeddings=tuple(embeddings),
        )

    def _tags(
        self,
        shot: Shot,
        pictures: Sequence[PictureFeatures],
        spoken: dict[Modality, list[Line]],
    ) -> list[Tag]:
        """The labels whose noisy-or over the modalities that spoke reaches the threshold."""
        params, candidates = self._params, self._candidates
        scores: dict[Modality, Scores] = {}
        if pictures:
            scores["visual"] = self._visual_scores(pictures)
        for modality, lines in spoken.items():
            scores[modality] = self._word_scores(lines)
        fused = np.zeros(len(candidates.names))
        for modality, opinion in scores.items():
            fused = noisy_or(fused, params.weight(modality) * opinion)
        chosen = (fused > 0.0) & (fused >= params.tag_threshold)
        seen = params.visual_weight * scores["visual"] if "visual" in scores else 0.0 * fused
        unnamed = slice(candidates.n_named, None)
        chosen[unnamed] &= (seen[unnamed] > 0.0) & (seen[unnamed] >= params.tag_threshold)
        best = sorted(
            (int(i) for i in np.flatnonzero(chosen)), key=lambda i: (-fused[i], candidates.names[i])
        )
        return [
            Tag(
                shot_index=shot.shot_index,
                start_ms=shot.start_ms,
                end_ms=shot.end_ms,
                label=candidates.names[i],
                score=float(fused[i]),
                visual_score=_spoken_score(scores.get("visual"), i),
                audio_score=_spoken_score(scores.get("audio"), i),
                text_score=_spoken_score(scores.get("text"), i),
            )
            for i in best[: params.max_tags_per_shot]
        ]

    def _visual_scores(self, pictures: Sequence[PictureFeatures]) -> Scores:
        """``(n_candidates,)``: the best of the keyframes; 0 where they do not speak."""
        candidates = self._candidates
        best = np.zeros(len(candidates.names))
        if self._scorer is None:
            return best
        for picture in pictures:
            if isinstance(self._scorer, ConseScorer):
                rolled = candidates.roll_up(self._scorer.probabilities(picture))
                rolled[rolled < LEAST_DIRECT_SCORE] = 0.0
                best = np.maximum(best, rolled)
            fits = probability(self._scorer.fit(picture, self._seen_vectors))
            fits[(fits < self._meaning_floor) | candidates.direct[: len(fits)]] = 0.0
            best[: len(fits)] = np.maximum(best[: len(fits)], fits)
        return best

    def _word_scores(self, lines: Sequence[Line]) -> Scores:
        """``(n_candidates,)``: the best line for each label, said literally or by meaning."""
        candidates = self._candidates
        best = np.zeros(len(candidates.names))
        named = best[: len(self._named)]
        for line in lines:
            if line.understood and len(words_of(line.text)) >= LEAST_WORDS_FOR_MEANING:
                # Line by line: in one product of all lines, each would round by its neighbours.
                fits = probability(
                    self._text.standard_scores(line.vector[None], self._named_vectors).ravel()
                )
                fits[fits < self._meaning_floor] = 0.0
                np.maximum(named, line.weight * fits, out=named)
            for i in candidates.phrases.find(line.text):
                best[i] = max(best[i], line.weight)
        return best

    def _classes(
        self,
        shot: Shot,
        pictures: Sequence[PictureFeatures],
        spoken: dict[Modality, list[Line]],
    ) -> list[Classification]:
        """One class per closed set; none where no modality has an opinion."""
        vectors = {
            modality: mean_vector([line for line in lines if line.understood])
            for modality, lines in sorted(spoken.items())
        }
        rows = []
        for classifier in self._classifiers:
            opinions = [(self._params.visual_weight, classifier.from_pictures(pictures))]
            opinions += [
                (self._params.weight(modality), classifier.from_words(vector))
                for modality, vector in vectors.items()
            ]
            decision = classifier.decide(opinions)
            if decision is not None:
                rows.append(
                    Classification(
                        shot_index=shot.shot_index,
                        taxonomy=classifier.classes.taxonomy,
                        class_name=decision[0],
                        score=decision[1],
                    )
                )
        return rows

    def _embedding(
        self,
        shot: Shot,
        pictures: Sequence[PictureFeatures],
        spoken: dict[Modality, list[Line]],
    ) -> Embedding | None:
        """The weighted sum of where pictures, speech and text lie in the text model's space."""
        parts: list[FloatArray] = []
        place = None if self._scorer is None else self._scorer.place(pictures)
        if place is not None:
            parts.append(self._params.visual_weight * place)
        for modality, lines in sorted(spoken.items()):
            mean = mean_vector(lines)
            if mean is not None:
                parts.append(self._params.weight(modality) * mean)
        vector = unit(np.sum(parts, axis=0)) if parts else None
        if vector is None:
            return None
        return Embedding(
            shot_index=shot.shot_index,
            start_ms=shot.start_ms,
            end_ms=shot.end_ms,
            space=self._text.name,
            vector=vector,
        )


def noisy_or(first: Scores, second: Scores) -> Scores:
    """Probability that at least one of two independent causes holds, elementwise, 0-1."""
    return np.minimum(1.0, first + second * (1.0 - first))


def _spoken_score(opinion: Scores | None, index: int) -> float | None:
    if opinion is None or opinion[index] <= 0.0:
        return None
    return float(opinion[index])
