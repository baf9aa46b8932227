"""What stages produce: plain, frozen values with their units in their names.

Times are integer milliseconds on the asset's own clock (0 = start of the presentation), spans are
half-open ``[start_ms, end_ms)``; where a frame is meant, its exact PTS and time base stand beside
it. Scores are 0-1. Boxes are normalised to the picture (0-1, origin top left).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

MediaKind = Literal["video", "image", "audio"]
StreamKind = Literal["video", "audio", "subtitle", "other"]
CueOrigin = Literal["subtitle", "speech", "ocr"]
Modality = Literal["visual", "audio", "text"]

FloatArray = npt.NDArray[np.float32]
#: One picture: uint8, HWC, RGB, 0-255.
Image = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRecord:
    """One elementary stream of a container, as its header states it."""

    stream_index: int
    kind: StreamKind
    codec: str | None
    language: str | None = None
    title: str | None = None
    is_default: bool = False
    width_px: int | None = None
    height_px: int | None = None
    frame_rate: float | None = None
    sample_rate_hz: int | None = None
    channels: int | None = None
    time_base_num: int | None = None
    time_base_den: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaInfo:
    """What a file is. Width and height are as displayed, after rotation."""

    kind: MediaKind
    container: str
    duration_ms: int | None
    width_px: int | None
    height_px: int | None
    frame_rate: float | None
    streams: tuple[StreamRecord, ...]

    @property
    def has_audio(self) -> bool:
        return any(stream.kind == "audio" for stream in self.streams)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """The span between two cuts. An image, or a sound without a picture, is one shot.

    ``start_pts``/``end_pts`` are in units of ``time_base_num / time_base_den`` seconds of the video
    stream's own clock; ``None`` where there is no video stream.
    """

    shot_index: int
    start_ms: int
    end_ms: int
    start_pts: int | None = None
    end_pts: int | None = None
    time_base_num: int | None = None
    time_base_den: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Keyframe:
    """The frame chosen to stand for a shot; its JPEG is the artifact with this sha256."""

    shot_index: int
    keyframe_index: int
    at_ms: int
    pts: int | None
    width_px: int
    height_px: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A rectangle, normalised to the picture."""

    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Cue:
    """One timed line of text: a subtitle, a stretch of speech, or text read in a picture."""

    origin: CueOrigin
    start_ms: int
    end_ms: int
    text: str
    #: Stream of the container for embedded subtitles and speech; ``None`` for sidecars and OCR.
    stream_index: int | None = None
    language: str | None = None
    confidence: float | None = None
    box: Box | None = None
    #: Name of the sidecar file a subtitle came from.
    sidecar: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tag:
    """A label with its fused score and what each modality said; ``None``: it did not speak."""

    shot_index: int
    start_ms: int
    end_ms: int
    label: str
    score: float
    visual_score: float | None = None
    audio_score: float | None = None
    text_score: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Classification:
    """One class of a closed set (a taxonomy)."""

    shot_index: int
    taxonomy: str
    class_name: str
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Caption:
    """One sentence about a shot."""

    shot_index: int
    start_ms: int
    end_ms: int
    text: str
    language: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Embedding:
    """A vector for a shot. ``space`` names the vector space: only vectors of one space compare.

    ``vector``: float32, shape ``(dimension,)``.
    """

    shot_index: int
    start_ms: int
    end_ms: int
    space: str
    vector: FloatArray
