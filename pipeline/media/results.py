"""What splitting takes in and gives back, beside the records of :mod:`schemas.records`."""

from dataclasses import dataclass
from pathlib import Path

from schemas.records import Cue, CueSource, MediaInfo, Shot, Sound, Stretch


@dataclass(frozen=True, slots=True, kw_only=True)
class SidecarFile:
    """A subtitle file beside the media. ``name`` is the name as submitted (``film.en.srt``)."""

    path: Path
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyframeFile:
    """A keyframe as a JPEG in the work directory.

    ``pts`` is in the video stream's time base (that of the :class:`~schemas.records.Shot`);
    ``None`` for a picture.
    """

    shot_index: int
    keyframe_index: int
    at_ms: int
    pts: int | None
    width_px: int
    height_px: int
    picture_index: int
    phash: str
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildUsage:
    """CPU seconds, user and system together, of one child call."""

    #: The child and everything it started.
    cpu_seconds: float
    #: ffmpeg itself, or the decoding of a picture.
    decoder_cpu_seconds: float
    #: What the child did before it read the media: taking up its request, limits, sandbox.
    startup_cpu_seconds: float

    def by_kind(self) -> dict[str, float]:
        """As it is stored with a stage run."""
        return {
            "child": self.cpu_seconds,
            "decoder": self.decoder_cpu_seconds,
            "startup": self.startup_cpu_seconds,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    """What a file is, and what finding out has cost (reading headers counts as no decoding)."""

    info: MediaInfo
    usage: ChildUsage


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitResult:
    """Shots in order, covering the presentation without gaps, and what stands for them.

    ``audio_path`` is mono 16 kHz FLAC whose first sample is the start of the presentation;
    ``None`` where there is no sound. ``cue_pictures_path``: pictures of subtitles for OCR, as
    :func:`pipeline.media.subtitles.bitmaps.write_pictures` describes them. ``notes`` are sentences
    for a person about what was left out.
    """

    shots: tuple[Shot, ...]
    keyframes: tuple[KeyframeFile, ...]
    stretches: tuple[Stretch, ...]
    audio_path: Path | None
    sound: Sound | None
    cue_sources: tuple[CueSource, ...]
    cues: tuple[Cue, ...]
    cue_pictures_path: Path | None
    usage: ChildUsage
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanResult:
    """One range of a long video, as a file in the work directory for :func:`split_media`."""

    path: Path
    usage: ChildUsage
    notes: tuple[str, ...]
