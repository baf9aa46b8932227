"""The interface behind which every model stands.

A model is one class in one file with one entry in :mod:`pipeline.models.registry`. The batcher is
the only caller of :meth:`Model.infer`, always from one thread at a time, so a model needs no locks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from schemas.records import Box, FloatArray, Image

Task = Literal["image-features", "text-embedding", "speech", "ocr", "caption", "fusion"]

InputT = TypeVar("InputT", contravariant=True)
OutputT = TypeVar("OutputT")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """Who a model is; stored with every row it made.

    ``revision`` changes whenever the weights or the code that feeds them change what comes out.
    ``source`` names the package or the hub repository the weights come from.
    """

    name: str
    revision: str
    task: Task
    licence: str
    source: str
    sha256: str | None = None


class Model(Protocol[InputT, OutputT]):
    """Load, infer on a batch, unload."""

    info: ModelInfo
    #: Most items per call of :meth:`infer`; the batcher never sends more.
    max_batch: int

    def load(self, device: str) -> None:
        """Bring the weights to ``device`` (``cpu``, ``cuda:0``, …). Slow; called once.

        Raises:
            ModelUnavailableError: a file or package is missing or its digest is wrong.
        """

    def infer(self, batch: Sequence[InputT]) -> list[OutputT]:
        """One output per input, in order. May block; must not keep references to its inputs.

        Raises:
            ResourceExhaustedError: memory ran out; the batcher tries again with half the batch.
        """

    def unload(self) -> None:
        """Free the memory. May be called twice."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImageFeatures:
    """What a picture model says about one picture.

    ``embedding``: float32 ``(dimension,)``, the model's own space, L2-normalised.
    ``class_scores``: float32 ``(n_classes,)`` probabilities over the model's closed label set
    (:attr:`ImageModel.class_names`), or ``None`` for models without one (CLIP, SigLIP).
    """

    embedding: FloatArray
    class_scores: FloatArray | None


class ImageModel(Model[Image, ImageFeatures], Protocol):
    """Task ``image-features``: uint8 HWC RGB pictures of any size in, features out."""

    #: Names of the closed label set, in the order of ``class_scores``; empty where there is none.
    class_names: tuple[str, ...]
    #: Name of the vector space of ``embedding``.
    space: str


class TextModel(Model[str, FloatArray], Protocol):
    """Task ``text-embedding``: text in, float32 ``(dimension,)`` L2-normalised out."""

    space: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SpokenSegment:
    """A stretch of recognised speech; times are relative to the start of the audio given."""

    start_ms: int
    end_ms: int
    text: str
    confidence: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcript:
    """What was said; no segments where nobody spoke (then ``language`` is ``None``)."""

    language: str | None
    segments: tuple[SpokenSegment, ...]


class SpeechModel(Model[FloatArray, Transcript], Protocol):
    """Task ``speech``: float32 mono 16 kHz samples in -1..1, shape ``(n,)``, in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRegion:
    """A line of text read in a picture."""

    text: str
    confidence: float
    box: Box


class OcrModel(Model[Image, tuple[TextRegion, ...]], Protocol):
    """Task ``ocr``: uint8 HWC RGB pictures in, lines in reading order out."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CaptionRequest:
    """A picture to describe, with an optional prompt."""

    image: Image
    prompt: str | None = None


class CaptionModel(Model[CaptionRequest, str], Protocol):
    """Task ``caption``: one sentence per picture."""
