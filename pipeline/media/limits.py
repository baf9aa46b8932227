"""How much one call on untrusted media may take."""

from dataclasses import dataclass, fields

from pipeline.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaLimits:
    """Bounds of one child process; each must be positive.

    The first group is enforced by the kernel (rlimits, which the decoder inherits) and by the
    parent, which watches its clock and the child's folder; going beyond it raises
    :class:`~pipeline.errors.ResourceExhaustedError`. The second group describes what media may
    state, hold or make of itself; going beyond it raises
    :class:`~pipeline.errors.MediaLimitError`, except for cues and pages, which are cut to size with
    a note.
    """

    #: CPU time of each process of the child's tree while splitting.
    cpu_seconds: int = 3600
    #: Wall-clock time of the whole call while splitting.
    wall_seconds: int = 7200
    #: Wall-clock time in which nothing comes out of the decoder and no file grows.
    stall_seconds: int = 120
    #: CPU and wall-clock time for probing, which reads headers only.
    probe_seconds: int = 60
    #: CPU time of each process while splitting a picture: none needs as long as a film.
    picture_seconds: int = 300
    #: Address space of each process of the child's tree. Virtual, so several times what is used.
    memory_bytes: int = 2 * 1024**3
    #: Whether a CUDA device decodes video, where there is one; ffmpeg's address space is then not
    #: bounded, as the driver reserves more than any limit.
    hardware_decoding: bool = True
    #: Bytes of all files that may be written.
    output_bytes: int = 4 * 1024**3

    #: Pixels of one picture or one frame.
    max_pixels: int = 100_000_000
    #: Pages of one TIFF; what follows is left out with a note.
    max_pages: int = 100
    #: Frames of an animated WebP, PNG or AVIF, and their pixels together.
    max_animation_frames: int = 20_000
    max_animation_pixels: int = 20_000_000_000
    max_duration_seconds: int = 12 * 3600
    #: Frames of one video.
    max_frames: int = 12 * 3600 * 120
    #: Elementary streams of one container, attached files not counted.
    max_streams: int = 100
    #: Attached files (fonts, covers) of one container, and bytes of them and of codec headers.
    max_attachments: int = 500
    max_header_bytes: int = 256 * 1024**2
    max_chapters: int = 10_000
    #: Characters of all titles and tags.
    max_metadata_chars: int = 16 * 1024**2
    #: Files in the child's folder: keyframes, sound, subtitles.
    max_output_files: int = 50_000
    #: Bytes of what a decoder has to say about the media.
    max_message_bytes: int = 64 * 1024**2
    #: Bytes of shots, keyframes and cues as JSON.
    max_reply_bytes: int = 64 * 1024**2
    max_sidecar_bytes: int = 8 * 1024**2
    #: Cues of one asset, embedded and sidecar together.
    max_cues: int = 50_000
    max_cue_chars: int = 2_000
    #: Pictures of subtitles of one asset, as PNG.
    max_cue_picture_bytes: int = 128 * 1024**2

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value <= 0 and not isinstance(value, bool):
                raise ConfigurationError(
                    f"media limit {field.name} must be positive, got {value}; set it above 0"
                )
