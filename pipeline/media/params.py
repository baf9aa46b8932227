"""What decides how media is split: part of a split's fingerprint."""

from dataclasses import dataclass
from typing import Literal

from pipeline.errors import ConfigurationError
from pipeline.media.languages import normalise_language

#: Of the sound that splitting writes and speech models read.
AUDIO_RATE_HZ = 16_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitParams:
    """Parameters of :func:`pipeline.media.split_media`; ``dataclasses.asdict`` gives JSON.

    A cut is a frame that differs from the one before it by ``cut_threshold`` (0-255, see
    :func:`pipeline.media.shots.grids.difference`) and ``cut_ratio`` times what moves around it, or
    more, and shows another picture. In pictures that stand still less will do.
    """

    #: ``sync``: decode sync frames only, much faster; the times of shots are then coarse.
    decode: Literal["all", "sync"] = "all"
    #: ``transnetv2``: by the model in the role ``shots``.
    shot_detector: Literal["content", "transnetv2"] = "content"
    #: Width of the small frames on which cuts are found.
    analysis_width: int = 64
    cut_threshold: float = 4.0
    cut_ratio: float = 2.0
    #: Of two cuts nearer to each other than this, the weaker one is ignored.
    min_shot_ms: int = 200
    #: Black, frozen and silent stretches shorter than this are not told.
    min_stretch_ms: int = 1000
    #: Sound quieter than this, in dB below full scale, is silence.
    silence_dbfs: float = -50.0
    #: A shot has a further keyframe in every such span of the video, if the picture changes.
    keyframe_every_ms: int = 30_000
    #: Longest distance between two frames considered as keyframes.
    candidate_interval_ms: int = 200
    #: The longer side of a keyframe; smaller pictures are not enlarged.
    keyframe_max_side_px: int = 1280
    #: JPEG quality of keyframes, 1-100.
    jpeg_quality: int = 90
    #: Threads of the video decoder; workers scale by processes, so one each.
    decoder_threads: int = 1
    #: Which audio stream: this index in the container, else the first of these languages that is
    #: there, else the default one, else the one with most channels.
    audio_stream: int | None = None
    audio_languages: tuple[str, ...] = ()
    #: Videos that last longer than twice this are split in ranges of it, by several workers; 0: in
    #: one piece, however long.
    range_ms: int = 600_000

    def __post_init__(self) -> None:
        wrong = [code for code in self.audio_languages if normalise_language(code) is None]
        if wrong:
            raise ConfigurationError(
                f"split.audio_languages holds {wrong[0]!r}: give language codes like en or pt-BR"
            )
        bounds = {
            "analysis_width": (16, 640),
            "cut_threshold": (0.1, 255),
            "cut_ratio": (1, 100),
            "min_shot_ms": (1, 10_000),
            "min_stretch_ms": (1, 3_600_000),
            "silence_dbfs": (-120, 0),
            "keyframe_every_ms": (1000, 3_600_000),
            "candidate_interval_ms": (10, 60_000),
            "keyframe_max_side_px": (16, 8192),
            "jpeg_quality": (1, 100),
            "decoder_threads": (1, 64),
            "range_ms": (0, 12 * 3_600_000),
        }
        for name, (low, high) in bounds.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigurationError(
                    f"split parameter {name} must be between {low} and {high}, got {value}"
                )
