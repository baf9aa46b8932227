"""Where the ffmpeg program is."""

import shutil
from pathlib import Path

from pipeline.errors import ConfigurationError


def find_ffmpeg() -> Path:
    """The ffmpeg on PATH, or else the one that the imageio-ffmpeg package brings.

    Raises:
        ConfigurationError: there is neither.
    """
    on_path = shutil.which("ffmpeg")
    if on_path is not None:
        return Path(on_path).resolve()
    try:
        import imageio_ffmpeg

        return Path(imageio_ffmpeg.get_ffmpeg_exe()).resolve()
    except (ImportError, RuntimeError) as error:
        raise ConfigurationError(
            "ffmpeg was not found; type: pip install imageio-ffmpeg (or: apt-get install ffmpeg)"
        ) from error
