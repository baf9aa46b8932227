"""How much one call on untrusted media may take."""

from dataclasses import dataclass, fields

from pipeline.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaLimits:
    """Bounds of one child process; each must be positive.

    The first group is enforced by the kernel (rlimits, which the decoder inherits) and by the
    parent's clock; going beyond it raises
    :class:`~pipeline.errors.ResourceExhaustedError`. The second group describes what media may
    state or hold; going beyond it raises :class:`~pipeline.errors.MediaLimitError`, except for
    cues, which are cut to size with a note.
    """

    #: CPU time of each process of the child's tree while splitting.
    cpu_seconds: int = 3600
    #: Wall-clock time of the whole call while splitting.
    wall_seconds: int = 7200
    #: CPU and wall-clock time for probing, which reads headers only.
    probe_seconds: int = 60
    #: Address space of each process of the child's tree. Virtual, so several times what is used.
    memory_bytes: int = 2 * 1024**3
    #: Largest single file that may be written.
    output_bytes: int = 4 * 1024**3

    #: Pixels of one picture or one frame.
    max_pixels: int = 100_000_000
    max_duration_seconds: int = 12 * 3600
    #: Elementary streams of one container.
    max_streams: int = 100
    max_sidecar_bytes: int = 8 * 1024**2
    #: Cues of one asset, embedded and sidecar together.
    max_cues: int = 50_000
    max_cue_chars: int = 2_000

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value <= 0:
                raise ConfigurationError(
                    f"media limit {field.name} must be positive, got {value}; set it above 0"
                )
