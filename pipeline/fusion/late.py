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
from pipeline.fusion.evidence import PictureFeatures, ShotEvidence, overlap_weight
from pipeline.fusion.lines import Line, lines_by_modality, mean_vector
from pipeline.fusion.opinions import Opinion, combined
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
from schemas.records import (
    Caption,
    Classification,
    Embedding,
    FloatArray,
    Modality,
    Shot,
    SoundEvent,
    Tag,
)

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
    """What was fused, in the order of the shots; captions of a trained fuser that writes them."""

    tags: tuple[Tag, ...]
    classifications: tuple[Classification, ...]
    embeddings: tuple[Embedding, ...]
    captions: tuple[Caption, ...] = ()


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
            pictures, spoken = self._heard_parts(item)
            tags.extend(self._tags(item, pictures, spoken))
            classifications.extend(self._classes(item.shot, pictures, spoken))
            embedding = self._embedding(item.shot, pictures, spoken)
            if embedding is not None:
                embeddings.append(embedding)
        return FusionResult(
            tags=tuple(tags),
            classifications=tuple(classifications),
            embeddings=tuple(embeddings),
        )

    def embeddings(self, evidence: Sequence[ShotEvidence]) -> list[Embedding]:
        """The joint embeddings of :meth:`fuse` alone: in the text model's space, for search."""
        found = []
        for item in evidence:
            embedding = self._embedding(item.shot, *self._heard_parts(item))
            if embedding is not None:
                found.append(embedding)
        return found

    def _heard_parts(
        self, item: ShotEvidence
    ) -> tuple[Sequence[PictureFeatures], dict[Modality, list[Line]]]:
        """The pictures and lines of those modalities that are trusted at all.

        Raises:
            ContractError: the cues' vectors are of another space.
        """
        if item.cues and item.cue_vectors.shape[1] != self._text.dimension:
            raise ContractError(
                f"expected cue vectors of {self._text.dimension} dimensions in "
                f"{self._text.name}, got {item.cue_vectors.shape=}"
            )
        lines = lines_by_modality(item, self._params.text_languages)
        spoken = {m: own for m, own in lines.items() if self._params.weight(m) > 0.0}
        return item.pictures if self._params.visual_weight > 0.0 else (), spoken

    def _tags(
        self,
        item: ShotEvidence,
        pictures: Sequence[PictureFeatures],
        spoken: dict[Modality, list[Line]],
    ) -> list[Tag]:
        """The labels whose noisy-or over the modalities that spoke reaches the threshold."""
        params, candidates = self._params, self._candidates
        opinions: list[Opinion] = []
        if pictures:
            spans = [(at_ms, at_ms) for at_ms in item.picture_ms]
            shown = map(self._picture_scores, pictures)
            opinions.append(Opinion.of("visual", shown, spans, params.visual_weight))
        for modality, lines in spoken.items():
            spans = [(line.start_ms, line.end_ms) for line in lines]
            said = map(self._line_scores, lines)
            opinions.append(Opinion.of(modality, said, spans, params.weight(modality)))
        if item.sounds and params.sound_weight > 0.0:
            spans = [(sound.start_ms, sound.end_ms) for sound in item.sounds]
            heard_scores = (self._sound_scores(item.shot, sound) for sound in item.sounds)
            opinions.append(Opinion.of("sound", heard_scores, spans, params.sound_weight))
        nothing = np.zeros(len(candidates.names))
        fused = combined(opinions, nothing)
        chosen = (fused > 0.0) & (fused >= params.tag_threshold)
        seen = next((o.weighted for o in opinions if o.modality == "visual"), nothing)
        unnamed = slice(candidates.n_named, None)
        chosen[unnamed] &= (seen[unnamed] > 0.0) & (seen[unnamed] >= params.tag_threshold)
        best = sorted(
            (int(i) for i in np.flatnonzero(chosen)), key=lambda i: (-fused[i], candidates.names[i])
        )
        without = {o.modality: combined(opinions, nothing, o.modality) for o in opinions}
        shot = item.shot
        tags = []
        for i in best[: params.max_tags_per_shot]:
            heard = [o for o in opinions if o.scores[i] > 0.0]
            tags.append(
                Tag(
                    shot_index=shot.shot_index,
                    start_ms=shot.start_ms,
                    end_ms=shot.end_ms,
                    label=candidates.names[i],
                    score=float(fused[i]),
                    **{f"{o.modality}_score": float(o.scores[i]) for o in heard},
                    **{f"without_{o.modality}": float(without[o.modality][i]) for o in heard},
                    evidence=max(heard, key=lambda o: o.weighted[i]).evidence(i),
                )
            )
        return tags

    def _picture_scores(self, picture: PictureFeatures) -> Scores:
        """``(n_candidates,)``; 0 where the picture does not speak."""
        candidates = self._candidates
        best = np.zeros(len(candidates.names))
        if self._scorer is None:
            return best
        if isinstance(self._scorer, ConseScorer):
            best = candidates.roll_up(self._scorer.probabilities(picture))
            best[best < LEAST_DIRECT_SCORE] = 0.0
        fits = probability(self._scorer.fit(picture, self._seen_vectors))
        fits[(fits < self._meaning_floor) | candidates.direct[: len(fits)]] = 0.0
        best[: len(fits)] = np.maximum(best[: len(fits)], fits)
        return best

    def _line_scores(self, line: Line) -> Scores:
        """``(n_candidates,)``: what is said literally, or by meaning."""
        candidates = self._candidates
        best = np.zeros(len(candidates.names))
        named = best[: len(self._named)]
        if line.understood and len(words_of(line.text)) >= LEAST_WORDS_FOR_MEANING:
            # Line by line: in one product of all lines, each would round by its neighbours.
            fits = probability(
                self._text.standard_scores(line.vector[None], self._named_vectors).ravel()
            )
            fits[fits < self._meaning_floor] = 0.0
            named[:] = line.weight * fits
        for i in candidates.phrases.find(line.text):
            best[i] = line.weight
        return best

    def _sound_scores(self, shot: Shot, sound: SoundEvent) -> Scores:
        """``(n_candidates,)``: what the sound is called, literally."""
        scores = np.zeros(len(self._candidates.names))
        for i in self._candidates.phrases.find(sound.label):
            scores[i] = sound.score * overlap_weight(shot, sound)
        return scores

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
