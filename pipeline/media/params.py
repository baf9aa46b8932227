"""What decides how media is split: part of a split's fingerprint."""

from dataclasses import dataclass

from pipeline.errors import ConfigurationError

#: Of the sound that splitting writes and speech models read.
AUDIO_RATE_HZ = 16_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitParams:
    """Parameters of :func:`pipeline.media.split_media`; ``dataclasses.asdict`` gives JSON.

    A cut is a frame whose HSV difference to the frame before is at least ``cut_threshold`` (mean
    over pixels and channels, 0-255, see :mod:`pipeline.media.shots`) and at least ``cut_ratio``
    times the mean difference of its neighbours.
    """

    #: Width of the small frames on which cuts are found.
    analysis_width: int = 64
    cut_threshold: float = 6.0
    cut_ratio: float = 3.0
    #: A cut sooner than this after the one before is ignored.
    min_shot_ms: int = 200
    #: Longest distance between two frames considered as keyframes.
    candidate_interval_ms: int = 500
    #: The longer side of a keyframe; smaller pictures are not enlarged.
    keyframe_max_side_px: int = 1280
    #: JPEG quality of keyframes, 1-100.
    jpeg_quality: int = 90
    #: Threads of the video decoder; workers scale by processes, so one each.
    decoder_threads: int = 1

    def __post_init__(self) -> None:
        bounds = {
            "analysis_width": (16, 640),
            "cut_threshold": (0.1, 255),
            "cut_ratio": (1, 100),
            "min_shot_ms": (1, 3_600_000),
            "candidate_interval_ms": (10, 60_000),
            "keyframe_max_side_px": (16, 8192),
            "jpeg_quality": (1, 100),
            "decoder_threads": (1, 64),
        }
        for name, (low, high) in bounds.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigurationError(
                    f"split parameter {name} must be between {low} and {high}, got {value}"
                )
