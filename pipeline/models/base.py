"""The interface behind which every model stands.

A model is one class in one file with one entry in :mod:`pipeline.models.registry`. What can be done
to an item by itself is done by :meth:`Model.prepare`, in the threads of whoever asks, while the
device works on other items. The batcher is the only caller of :meth:`Model.infer`, always from one
thread at a time, so a model needs no locks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from pipeline.errors import ContractError
from schemas.records import Box, FloatArray, Image

Task = Literal[
    "image-features",
    "text-embedding",
    "speech",
    "ocr",
    "caption",
    "question",
    "fusion",
    "shot-boundaries",
    "sound-events",
    "picture-classes",
]

FrameWindow: TypeAlias = npt.NDArray[np.uint8]

InputT = TypeVar("InputT", contravariant=True)
OutputT = TypeVar("OutputT")

#: Where nobody said.
UNKNOWN_LICENCE = "unknown"


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
    """Load, prepare, infer on a batch, unload; what a model declares holds while it is unloaded."""

    info: ModelInfo
    #: Most items per call of :meth:`infer`; the batcher never sends more.
    max_batch: int

    def load(self, device: str) -> None:
        """Bring the weights to ``device`` (``cpu``, ``cuda:0``, ``mps``). Slow; called again after
        :meth:`unload`.

        Raises:
            ModelUnavailableError: a file or package is missing or its digest is wrong.
        """

    def prepare(self, item: InputT) -> Any:
        """What :meth:`infer` takes of an item: decoded, scaled, in tokens, as a spectrogram.

        Called by many threads at once while the model is loaded; stays off the device.

        Raises:
            ContractError: the item has another type, shape or range than the task promises.
        """

    def infer(self, batch: Sequence[Any]) -> list[OutputT]:
        """One output per prepared item, in order. May block; must not keep references to its
        inputs.

        Raises:
            ResourceExhaustedError: memory ran out; the batcher tries again with half the batch.
            ContractError: an output is not finite.
        """

    def unload(self) -> None:
        """Free the memory. May be called twice."""

    @property
    def memory_bytes(self) -> int:
        """Bytes the weights take in the memory of their device; 0 while unloaded."""


def answers(model: Model[InputT, OutputT], items: Sequence[InputT]) -> list[OutputT]:
    """Prepare and infer at once, for whoever has a loaded model to himself."""
    return model.infer([model.prepare(item) for item in items])


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
class Calibration:
    """How a model that was trained on pictures with their texts reads its cosine similarities.

    ``sigmoid(scale · cosine + bias)`` is the probability that a text belongs to a picture, each
    text by itself (SigLIP). With ``softmax`` the model only tells texts apart: over a set of them,
    ``softmax(scale · cosine)`` (CLIP).
    """

    kind: Literal["sigmoid", "softmax"]
    scale: float
    bias: float


class LabelModel(TextModel, Protocol):
    """A :class:`TextModel` in the space of an :class:`ImageModel`."""

    #: Known while loaded.
    calibration: Calibration


@dataclass(frozen=True, slots=True, kw_only=True)
class SpokenWord:
    """One word with its punctuation; times are relative to the start of the audio given.

    It may begin and end at once, where the model saw no time between two words.
    """

    start_ms: int
    end_ms: int
    text: str
    confidence: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SpokenSegment:
    """A stretch of recognised speech; times are relative to the start of the audio given.

    ``words`` is empty unless the model was asked to time them.
    """

    start_ms: int
    end_ms: int
    text: str
    confidence: float
    words: tuple[SpokenWord, ...] = ()


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
    """What is to be described: pictures of one shot in order of time, and words found in it.

    ``images``: uint8 HWC RGB, at least one. ``transcript`` (what is said) and ``screen_text``
    (what is written in the pictures) come out of the media, which strangers made. ``prompt``: how
    to describe; see the model for what it makes of it.

    Raises:
        ContractError: there is no picture.
    """

    images: tuple[Image, ...]
    transcript: str | None = None
    screen_text: str | None = None
    prompt: str | None = None

    def __post_init__(self) -> None:
        if not self.images:
            raise ContractError("a caption was asked for without a picture")


class CaptionModel(Model[CaptionRequest, str], Protocol):
    """Task ``caption``: one sentence per request."""

    #: How many pictures of a request it looks at; give it no more.
    max_images: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class QuestionRequest:
    """A question about pictures; the fields are as those of :class:`CaptionRequest`.

    Raises:
        ContractError: there is no picture, or the question is empty.
    """

    images: tuple[Image, ...]
    question: str
    transcript: str | None = None
    screen_text: str | None = None

    def __post_init__(self) -> None:
        if not self.images or not self.question.strip():
            raise ContractError(
                f"expected pictures and a question, got {len(self.images)} pictures and "
                f"{self.question!r}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a model answers.

    ``confidence``: the mean probability (0-1) that the model gave to the tokens of its answer, the
    end included; how sure it is of its words, not how often it is right. ``None``: not known.
    """

    text: str
    confidence: float | None


class QuestionModel(Model[QuestionRequest, Answer], Protocol):
    """Task ``question``: an answer in a few words per request."""

    #: How many pictures of a request it looks at; give it no more.
    max_images: int


class ShotModel(Model[FrameWindow, FloatArray], Protocol):
    """Task ``shot-boundaries``: windows of consecutive frames, uint8 ``(100, 27, 48, 3)`` RGB, in;
    float32 ``(100, 2)`` out: for each frame the probability that it is the last of a shot (for
    gradual transitions, the middle one), and that it is part of a transition at all."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SoundFeatures:
    """What a sound model says about one window.

    ``scores``: float32 ``(n_frames, n_labels)``, for each label by itself the probability that it
    is heard; frame ``i`` covers ``[i * frame_ms, (i + 1) * frame_ms)`` of the window, and the last
    one whatever remains. ``None`` for models without a closed label set.

    ``embedding``: float32 ``(dimension,)`` L2-normalised, in ``space``; ``scale``: what its cosines
    to the texts of that space are multiplied by where the model compares them (``None``: it has no
    texts).
    """

    labels: tuple[str, ...] = ()
    scores: FloatArray | None = None
    frame_ms: int
    embedding: FloatArray | None = None
    space: str | None = None
    scale: float | None = None


class SoundModel(Model[FloatArray, SoundFeatures], Protocol):
    """Task ``sound-events``: float32 mono 16 kHz samples in -1..1, shape ``(n,)``, at most
    ``window_ms`` long, in."""

    window_ms: int
    #: From the start of a window to that of the next: they overlap by the context a model needs.
    hop_ms: int


class PictureClassModel(Model[Image, FloatArray], Protocol):
    """Task ``picture-classes``: uint8 HWC RGB pictures of any size in; float32 ``(n_classes,)``
    probabilities, which sum to 1, out."""

    class_names: tuple[str, ...]
