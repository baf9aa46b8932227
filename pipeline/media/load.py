"""Reading back what splitting wrote. For our own files only, never for submitted ones."""

from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError
from PIL import Image as PillowImage

from pipeline.errors import ContractError
from pipeline.media.params import AUDIO_RATE_HZ
from schemas.records import FloatArray, Image


def load_image(path: Path) -> Image:
    """A keyframe's pixels: uint8, HWC, RGB, 0-255.

    Raises:
        ContractError: the file is not a picture that :func:`split_media` wrote.
    """
    try:
        with PillowImage.open(path, formats=["JPEG"]) as picture:
            return np.array(picture.convert("RGB"), dtype=np.uint8)
    except OSError as error:
        raise ContractError(f"{path} is not a readable keyframe: {error}") from error


def load_audio(path: Path) -> FloatArray:
    """A split's sound: float32, mono, 16 kHz, -1..1, shape ``(n,)``.

    Raises:
        ContractError: the file is not sound that :func:`split_media` wrote.
    """
    try:
        with av.open(str(path), format="flac") as container:
            stream = container.streams.audio[0]
            if stream.rate != AUDIO_RATE_HZ or stream.channels != 1:
                raise ContractError(
                    f"expected mono {AUDIO_RATE_HZ} Hz in {path}, "
                    f"got {stream.channels} channels at {stream.rate} Hz"
                )
            blocks = [frame.to_ndarray().reshape(-1) for frame in container.decode(stream)]
    except FFmpegError as error:
        raise ContractError(f"{path} is not readable sound: {error}") from error
    samples = np.concatenate(blocks) if blocks else np.zeros(0, dtype=np.int16)
    if samples.dtype != np.int16:
        raise ContractError(f"expected int16 samples in {path}, got {samples.dtype}")
    scaled: FloatArray = samples.astype(np.float32)
    scaled /= 32768.0
    return scaled
