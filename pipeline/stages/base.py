"""What a stage is: values in, values out.

A stage never sees the database or a store. The runner gives it :class:`StageInputs` (which reads on
demand, so that a long video's keyframes need not be in memory at once) and :class:`Models`, and
stores the :class:`StageOutput` it returns.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from pipeline.media import MediaLimits, SidecarFile
from pipeline.models.base import ModelInfo
from schemas.records import (
    Caption,
    Classification,
    Cue,
    CueSource,
    Embedding,
    FloatArray,
    Image,
    Keyframe,
    MediaInfo,
    MediaKind,
    Shot,
    Sound,
    SoundEvent,
    Stretch,
    Tag,
    Word,
)

Queue = Literal["io", "cpu", "device"]
QUEUES: tuple[Queue, ...] = ("io", "cpu", "device")

Record = (
    Shot
    | Keyframe
    | Stretch
    | Sound
    | SoundEvent
    | CueSource
    | Cue
    | Word
    | Tag
    | Classification
    | Caption
    | Embedding
)

#: Names of what stages hand to each other; ``media`` and ``sidecars`` come from the ingest.
#: ``audio scan`` are files, ``cue_pictures subtitle_languages picture_features sound_features
#: cue_vectors`` are arrays, the rest are rows.
OutputName = Literal[
    "shots",
    "keyframes",
    "stretches",
    "sounds",
    "sound_events",
    "cue_sources",
    "cues",
    "words",
    "tags",
    "classifications",
    "captions",
    "embeddings",
    "audio",
    "scan",
    "cue_pictures",
    "subtitle_languages",
    "picture_features",
    "sound_features",
    "cue_vectors",
]
InputName = Literal["media", "sidecars"] | OutputName


class StageInputs(Protocol):
    """What the stages before have made of the asset. Only declared inputs may be read."""

    #: Bounds on what opening the media may cost.
    limits: MediaLimits

    @property
    def work_dir(self) -> Path:
        """A folder of this stage run's own, removed when it ends."""

    def info(self) -> MediaInfo: ...

    def media(self) -> Path:
        """The asset's own bytes: hostile until proven otherwise, for the child process only."""

    def sidecars(self) -> Sequence[SidecarFile]: ...

    def shots(self) -> Sequence[Shot]: ...

    def keyframes(self) -> Sequence[Keyframe]: ...

    def image(self, keyframe: Keyframe) -> Image:
        """uint8, HWC, RGB."""

    def audio(self) -> FloatArray | None:
        """float32 mono 16 kHz, shape ``(n,)``; ``None`` where the asset has no sound."""

    def cues(self) -> Sequence[Cue]:
        """Cues of all origins, in the one order that ``cue_vectors`` follows."""

    def cue_sources(self) -> Sequence[CueSource]: ...

    def tags(self) -> Sequence[Tag]: ...

    def sound_events(self) -> Sequence[SoundEvent]: ...

    def files(self, name: OutputName) -> Sequence[Path]:
        """One for each stage before this one that made such a file, in the order of their names."""

    def arrays(self, name: OutputName) -> Mapping[str, Any]:
        """Arrays by name, as the stage that made them named them; empty where no stage did."""


class Models(Protocol):
    """The models of a stage run, by role."""

    def has(self, role: str) -> bool: ...

    def info(self, role: str) -> ModelInfo: ...

    def get(self, role: str) -> Any:
        """The loaded model, for what it declares (label names, vector space)."""

    def infer(self, role: str, items: Sequence[Any]) -> list[Any]:
        """One output per item, through the batcher."""

    def map(self, role: str, items: Iterator[Any]) -> Iterator[Any]:
        """Like :meth:`infer` over many items, holding only a few batches in memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """A file to keep as an artifact. ``name`` is ``None`` where rows refer to it by digest."""

    name: OutputName | None
    path: Path
    sha256: str
    media_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StageOutput:
    """Everything a stage run makes."""

    records: Mapping[OutputName, Sequence[Record]] = field(default_factory=dict)
    arrays: Mapping[OutputName, Mapping[str, Any]] = field(default_factory=dict)
    blobs: Sequence[Blob] = ()
    #: Sentences for a person about what was left out or repaired.
    notes: Sequence[str] = ()
    #: CPU seconds by kind, where the stage knows better than the runner (child processes).
    cpu_seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSpec:
    """A stage of the plan. ``params`` is a frozen dataclass of JSON values with defaults."""

    name: str
    queue: Queue
    #: Raised whenever the code changes what comes out: makes the stage and its followers stale.
    code_version: int
    kinds: frozenset[MediaKind]
    inputs: tuple[InputName, ...]
    outputs: tuple[OutputName, ...]
    #: Roles of the models it uses.
    roles: tuple[str, ...]
    #: Role of the model whose output the rows are.
    credited_role: str | None = None
    #: Roles that a profile may leave empty.
    optional_roles: frozenset[str] = frozenset()
    #: Whom the rows are credited to where the profile has no model in ``credited_role``.
    own_model: ModelInfo | None = None
    #: Runs only for assets with a sound stream.
    needs_audio: bool = False
    params: type[Any]
    #: The stage whose parameters this one has, instead of its own.
    configured_as: str | None = None
    #: Inputs that make no difference under these (full) parameters and with models in these roles,
    #: and are left out.
    unused_inputs: Callable[[Mapping[str, Any], Collection[str]], frozenset[InputName]] = (
        lambda _params, _roles: frozenset()
    )
    run: Callable[[StageInputs, Any, Models], StageOutput]


def distinct_pictures(keyframes: Sequence[Keyframe]) -> tuple[list[Keyframe], list[int]]:
    """The keyframes to analyse, one of each picture, and for every keyframe its place there."""
    places: dict[tuple[str, int | str], int] = {}
    chosen: list[Keyframe] = []
    place_of = []
    for keyframe in keyframes:
        is_numbered = keyframe.picture_index is not None
        key = ("picture", keyframe.picture_index or 0) if is_numbered else ("sha", keyframe.sha256)
        if key not in places:
            places[key] = len(chosen)
            chosen.append(keyframe)
        place_of.append(places[key])
    return chosen, place_of
