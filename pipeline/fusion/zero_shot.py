"""How well any label name fits one picture, without training on that label.

Two kinds of picture model, one interface (:class:`PictureScorer`):

* A model with a closed label set is read by ConSE (Norouzi et al., 2014): the mean of the
  embeddings of its ten likeliest class names, weighted by probability, is the picture's place in
  the text model's space, and any label has a place there too. Good for a demonstration, not open
  vocabulary: what lies far from all classes of the picture model stays invisible.
* A model with its own text tower (CLIP, SigLIP) compares in its own space.

A bare cosine means little: some pictures and some texts are near everything. So each fit is read
against a fixed bank of queries (the shipped vocabulary): how many standard deviations the label
lies above the mean of the bank. One logistic curve turns that into a probability.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from pipeline.errors import ContractError
from pipeline.fusion.evidence import PictureFeatures
from pipeline.fusion.vocabulary import gloss, load_vocabulary
from schemas.records import FloatArray

Embed = Callable[[Sequence[str]], FloatArray]
Scores = npt.NDArray[np.float64]

#: ConSE's T: how many of the likeliest classes make up the picture's place.
TOP_CLASSES = 10
#: The logistic curve from standard deviations above the bank to probability, fitted on
#: EfficientNet-Lite0 with all-MiniLM-L6-v2 over photographs with known content.
FIT_CENTRE = 4.8
FIT_SLOPE = 1.1
#: What a label is called where pictures and texts share a space.
PROMPT = "a photo of a {}"

_PROBE = "a photograph of a cat"
_CACHED_MATRICES = 16


class _VectorCache:
    """Label embeddings by space and names, shared by the process; the least used go first."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._entries: OrderedDict[tuple[str, bytes, tuple[str, ...]], FloatArray] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, space: str, probe: bytes, names: tuple[str, ...], embed: Embed) -> FloatArray:
        key = (space, probe, names)
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
                return self._entries[key]
        vectors = checked_vectors(embed(names), len(names))
        vectors.setflags(write=False)
        with self._lock:
            self._entries[key] = vectors
            while len(self._entries) > self._size:
                self._entries.popitem(last=False)
        return vectors


_cache = _VectorCache(_CACHED_MATRICES)


class LabelSpace:
    """A vector space into which names can be embedded, with the bank of queries in it.

    ``prompt`` is a template for :meth:`vectors`. One probe is embedded up front, so that two
    models that go by the same name of a space never share cached vectors.
    """

    def __init__(self, name: str, embed: Embed, prompt: str = "{}") -> None:
        self.name = name
        self._embed = embed
        self._prompt = prompt
        probe = checked_vectors(embed([_PROBE]), 1)
        self._probe = np.round(probe, 2).tobytes()
        self.bank = self.vectors(tuple(load_vocabulary().concepts))

    @property
    def dimension(self) -> int:
        return int(self.bank.shape[1])

    def vectors(self, names: tuple[str, ...]) -> FloatArray:
        """float32 ``(n, dimension)``, L2-normalised, read-only; embedded once per process."""
        prompted = tuple(self._prompt.format(name) for name in names)
        return _cache.get(self.name, self._probe, prompted, self._embed)

    def centroids(self, groups: Sequence[tuple[str, ...]]) -> FloatArray:
        """float32 ``(n_groups, dimension)``: the L2-normalised mean of each group of phrases."""
        flat = self.vectors(tuple(phrase for group in groups for phrase in group))
        starts = np.cumsum([0] + [len(group) for group in groups[:-1]])
        return normalised(np.add.reduceat(flat, starts, axis=0))

    def standard_scores(self, points: FloatArray, labels: FloatArray) -> Scores:
        """How far each label lies above the bank for each point, in standard deviations.

        ``points``: ``(n, dimension)``; ``labels``: ``(m, dimension)``; result ``(n, m)``.
        """
        reference = points @ self.bank.T
        mean = reference.mean(axis=1, keepdims=True)
        deviation = np.maximum(reference.std(axis=1, keepdims=True), 1e-6)
        scores: Scores = ((points @ labels.T - mean) / deviation).astype(np.float64)
        return scores


class PictureScorer(Protocol):
    """Scores of any labels for one picture."""

    def vectors(self, groups: Sequence[tuple[str, ...]]) -> FloatArray:
        """``(n_groups, dimension)``: labels, each given by one or more phrases, where this
        scorer compares them with pictures. Embeds what is new to the process: may block."""

    def fit(self, picture: PictureFeatures, labels: FloatArray) -> Scores:
        """``(n_labels,)``: standard deviations above the bank of queries."""

    def place(self, pictures: Sequence[PictureFeatures]) -> FloatArray | None:
        """Where pictures of one shot lie in the text model's space: ``(dimension,)``, unit
        length; ``None`` where they say nothing."""


class ConseScorer:
    """Reads the class probabilities of a picture model with a closed label set."""

    def __init__(self, class_names: tuple[str, ...], text: LabelSpace) -> None:
        self._text = text
        self.class_names = class_names
        #: float32 ``(n_classes, dimension)``, in the text model's space.
        self.class_vectors = text.vectors(tuple(gloss(name) for name in class_names))

    def probabilities(self, picture: PictureFeatures) -> Scores:
        """The picture's class probabilities, float64 ``(n_classes,)``."""
        scores = picture.class_scores
        if scores is None or scores.shape != (len(self.class_names),):
            seen = None if scores is None else scores.shape
            raise ContractError(
                f"expected {len(self.class_names)} class scores for a picture, got shape {seen}"
            )
        return np.asarray(np.clip(scores, 0.0, 1.0), dtype=np.float64)

    def vectors(self, groups: Sequence[tuple[str, ...]]) -> FloatArray:
        return self._text.centroids(groups)

    def fit(self, picture: PictureFeatures, labels: FloatArray) -> Scores:
        place = self._place(self.probabilities(picture))
        if place is None:
            return np.full(len(labels), -np.inf)
        return self._text.standard_scores(place[None], labels).ravel()

    def place(self, pictures: Sequence[PictureFeatures]) -> FloatArray | None:
        if not pictures:
            return None
        return self._place(np.mean([self.probabilities(picture) for picture in pictures], axis=0))

    def _place(self, probabilities: Scores) -> FloatArray | None:
        top = np.argsort(-probabilities, kind="stable")[:TOP_CLASSES]
        return unit(probabilities[top].astype(np.float32) @ self.class_vectors[top])


class NativeScorer:
    """Compares in the picture model's own space, into which its text tower embeds labels."""

    def __init__(self, space: str, embed_labels: Embed, text: LabelSpace) -> None:
        self._native = LabelSpace(space, embed_labels, PROMPT)
        self._text = text

    def vectors(self, groups: Sequence[tuple[str, ...]]) -> FloatArray:
        return self._native.centroids(groups)

    def fit(self, picture: PictureFeatures, labels: FloatArray) -> Scores:
        if picture.embedding.shape != (self._native.dimension,):
            raise ContractError(
                f"expected a picture embedding of {self._native.dimension} dimensions in "
                f"{self._native.name}, got {picture.embedding.shape=}"
            )
        return self._native.standard_scores(picture.embedding[None], labels).ravel()

    def place(self, pictures: Sequence[PictureFeatures]) -> FloatArray | None:
        """ConSE again, with the vocabulary in the part of the closed label set."""
        if not pictures:
            return None
        fit = np.mean([self.fit(picture, self._native.bank) for picture in pictures], axis=0)
        top = np.argsort(-fit, kind="stable")[:TOP_CLASSES]
        return unit(probability(fit[top]).astype(np.float32) @ self._text.bank[top])


def probability(fit: Scores) -> Scores:
    """Probability that a label fits, from its standard deviations above the bank."""
    return np.asarray(1.0 / (1.0 + np.exp(-FIT_SLOPE * (np.maximum(fit, -100.0) - FIT_CENTRE))))


def checked_vectors(vectors: FloatArray, count: int) -> FloatArray:
    """``vectors`` as L2-normalised float32 rows.

    Raises:
        ContractError: not one finite vector per text.
    """
    array = np.asarray(vectors, dtype=np.float32)
    if array.ndim != 2 or len(array) != count or not np.isfinite(array).all():
        raise ContractError(f"expected {count} finite vectors, got {array.shape=}")
    return normalised(array)


def normalised(rows: FloatArray) -> FloatArray:
    """Rows of unit length; rows of zeros stay zeros."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(lengths > 0.0, lengths, 1.0), dtype=np.float32)


def unit(vector: FloatArray) -> FloatArray | None:
    """The vector at unit length, or ``None`` if it has no direction."""
    length = float(np.linalg.norm(vector))
    return None if length < 1e-6 else np.asarray(vector / length, dtype=np.float32)
