"""One class of a closed set per shot, from whichever modalities speak."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.fusion.evidence import PictureFeatures
from pipeline.fusion.taxonomy import Taxonomy
from pipeline.fusion.vocabulary import class_key, load_vocabulary
from pipeline.fusion.words import words_of
from pipeline.fusion.zero_shot import (
    FIT_SLOPE,
    ConseScorer,
    LabelSpace,
    PictureScorer,
    Scores,
)
from schemas.records import FloatArray

#: Softmax temperature over cosines in the text model's space.
TEMPERATURE = 0.05
#: What a modality always leaves to all classes alike, so that none can veto another.
DOUBT = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassSet:
    """Classes to choose from. ``prompts`` and ``members`` are parallel to ``names``: phrases
    that stand for the class, and names of picture classes that certainly belong to it."""

    taxonomy: str
    names: tuple[str, ...]
    prompts: tuple[tuple[str, ...], ...]
    members: tuple[frozenset[str], ...]

    @classmethod
    def from_taxonomy(cls, taxonomy: Taxonomy) -> "ClassSet":
        return cls(
            taxonomy=taxonomy.name,
            names=tuple(c.name for c in taxonomy.classes),
            prompts=tuple(c.prompts for c in taxonomy.classes),
            members=tuple(c.classes for c in taxonomy.classes),
        )

    @classmethod
    def from_labels(cls, name: str, labels: tuple[str, ...]) -> "ClassSet":
        """A user's labels; one that means a concept of the vocabulary has its picture classes."""
        known: dict[tuple[str, ...], frozenset[str]] = {}
        for concept in load_vocabulary().concepts.values():
            for word in (concept.label, *concept.aliases):
                known.setdefault(words_of(word), concept.classes)
        return cls(
            taxonomy=name,
            names=labels,
            prompts=tuple((label,) for label in labels),
            members=tuple(known.get(words_of(label), frozenset((label,))) for label in labels),
        )


class Classifier:
    """Chooses among one :class:`ClassSet`."""

    def __init__(
        self,
        classes: ClassSet,
        text: LabelSpace,
        scorer: PictureScorer | None,
    ) -> None:
        self.classes = classes
        self._centroids = text.centroids(classes.prompts)
        self._scorer = scorer
        if isinstance(scorer, ConseScorer):
            self._shares = self._shares_of(scorer)
        elif scorer is not None:
            self._labels = scorer.vectors(classes.prompts)

    def from_pictures(self, pictures: Sequence[PictureFeatures]) -> Scores | None:
        """Class probabilities, float64 ``(n,)``; ``None`` where pictures say nothing."""
        if not pictures or self._scorer is None:
            return None
        if isinstance(self._scorer, ConseScorer):
            mean = np.mean([self._scorer.probabilities(p) for p in pictures], axis=0)
            total = float(mean.sum())
            if total <= 0.0:
                return None
            shares: FloatArray = (mean / total).astype(np.float32) @ self._shares
            return shares.astype(np.float64)
        fits = [self._scorer.fit(picture, self._labels) for picture in pictures]
        return np.asarray(np.mean([_softmax(FIT_SLOPE * fit) for fit in fits], axis=0))

    def from_words(self, vector: FloatArray | None) -> Scores | None:
        """Class probabilities of a text by its unit vector in the text model's space."""
        if vector is None:
            return None
        return _softmax((self._centroids @ vector).astype(np.float64) / TEMPERATURE)

    def decide(self, opinions: Sequence[tuple[float, Scores | None]]) -> tuple[str, float] | None:
        """The likeliest class and its probability from weighted opinions of the modalities.

        The softmax of the weighted mean of log-probabilities over those that have an opinion. On
        a tie the class that comes first in the set wins. ``None`` where nobody has an opinion.
        """
        heard = [(weight, p) for weight, p in opinions if p is not None and weight > 0.0]
        if not heard:
            return None
        n = len(self.classes.names)
        total = sum(weight for weight, _ in heard)
        logs = np.zeros(n)
        for weight, p in heard:
            logs += weight / total * np.log((1.0 - DOUBT) * p + DOUBT / n)
        fused = _softmax(logs)
        best = int(np.argmax(fused))
        return self.classes.names[best], min(1.0, float(fused[best]))

    def _shares_of(self, scorer: ConseScorer) -> FloatArray:
        """float32 ``(n_picture_classes, n)``: how a picture class divides over the classes.

        A class that is a member of some goes to the narrowest of them; others by meaning.
        """
        similarities = scorer.class_vectors @ self._centroids.T
        shares = _softmax(similarities / TEMPERATURE).astype(np.float32)
        members = self.classes.members
        by_width = sorted(range(len(members)), key=lambda i: (len(members[i]), i))
        narrowest: dict[str, int] = {}
        for at in by_width:
            for name in members[at]:
                narrowest.setdefault(name, at)
        for row, name in enumerate(scorer.class_names):
            owner = narrowest.get(class_key(name))
            if owner is not None:
                shares[row] = 0.0
                shares[row, owner] = 1.0
        return np.asarray(shares, dtype=np.float32)


def _softmax(logits: Scores | FloatArray) -> Scores:
    """Over the last axis, float64."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True), dtype=np.float64)
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))
