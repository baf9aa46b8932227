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
#: ``visual``: what is seen; ``audio``: what is said; ``text``: what is written; ``sound``: what
#: else is heard.
Modality = Literal["visual", "audio", "text", "sound"]
#: How a shot begins: ``start`` is where the video does; ``fade``: through one colour.
ShotStart = Literal["start", "cut", "dissolve", "fade"]
StretchKind = Literal["black", "frozen", "silent"]

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
    #: A gradual transition belongs in halves to the shots on its sides. ``None``: not known.
    starts_with: ShotStart | None = None
    #: Whether the times are exact to the frame; in the fast mode they are those of sync frames.
    is_exact: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """A span in which the picture is black or stands still, or the sound is silent."""

    kind: StretchKind
    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sound:
    """The audio stream that was taken, measured as it is in the file.

    ``loudness_lufs``: integrated loudness (EBU R 128), ``None`` where all is silence;
    ``peak_dbfs``: the largest sample, ``None`` where there is no sound above zero.
    """

    stream_index: int
    language: str | None
    title: str | None
    loudness_lufs: float | None
    peak_dbfs: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Keyframe:
    """A frame chosen to stand for a shot, 0 being the most typical; its JPEG is the artifact with
    this sha256.

    Keyframes of one asset with the same ``picture_index`` show nearly the same: what is found in
    one holds for all. ``phash``: perceptual hash, 64 bits in hex.
    """

    shot_index: int
    keyframe_index: int
    at_ms: int
    pts: int | None
    width_px: int
    height_px: int
    sha256: str
    picture_index: int | None = None
    phash: str | None = None


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
class Word:
    """One recognised word of the ``cue_index``-th cue of the same stage run."""

    cue_index: int
    word_index: int
    start_ms: int
    end_ms: int
    text: str
    confidence: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CueSource:
    """Where subtitles came from: a stream of the container, or a sidecar file.

    ``format``: the codec of a stream (``mov_text``, ``hdmv_pgs_subtitle``, ``cea608``), the format
    of a sidecar (``srt``, ``vtt``). ``is_bitmap``: its cues are pictures of text, read by OCR.
    """

    source_index: int
    stream_index: int | None
    sidecar: str | None
    format: str
    encoding: str | None
    language: str | None
    title: str | None
    is_default: bool
    is_forced: bool
    is_bitmap: bool
    cue_count: int
    broken_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What spoke loudest for a tag: a keyframe (then ``start_ms == end_ms``), or the span of a cue
    or sound."""

    modality: Modality
    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tag:
    """A label with its fused score, and what each modality had to do with it.

    ``…_score``: what the modality said by itself, ``None``: it did not speak. ``without_…``: what
    the fused score is when it is left out: the less is left, the more it contributed; ``None``
    where it did not speak.
    """

    shot_index: int
    start_ms: int
    end_ms: int
    label: str
    score: float
    visual_score: float | None = None
    audio_score: float | None = None
    text_score: float | None = None
    sound_score: float | None = None
    without_visual: float | None = None
    without_audio: float | None = None
    without_text: float | None = None
    without_sound: float | None = None
    evidence: Evidence | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SoundEvent:
    """A span in which something is heard; ``score``: the model's mean over it."""

    start_ms: int
    end_ms: int
    label: str
    score: float


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
