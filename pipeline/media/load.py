"""Reading back what splitting wrote. For our own files only, never for submitted ones."""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.error import FFmpegError
from PIL import Image as PillowImage

from pipeline.errors import ContractError
from pipeline.media.params import AUDIO_RATE_HZ
from schemas.records import FloatArray, Image


@dataclass(frozen=True, slots=True, kw_only=True)
class CuePicture:
    """A subtitle that is a picture of text: black on white, a PNG."""

    start_ms: int
    end_ms: int
    png: bytes
    stream_index: int | None
    sidecar: str | None
    language: str | None

    def pixels(self) -> Image:
        """uint8, HWC, RGB, 0-255.

        Raises:
            ContractError: it is not a picture that :func:`split_media` wrote.
        """
        try:
            with PillowImage.open(io.BytesIO(self.png), formats=["PNG"]) as picture:
                return np.array(picture.convert("RGB"), dtype=np.uint8)
        except OSError as error:
            raise ContractError(
                f"a subtitle at {self.start_ms} ms is no picture: {error}"
            ) from error


def cue_pictures(arrays: Mapping[str, Any]) -> list[CuePicture]:
    """What the arrays hold that splitting wrote (see
    :func:`pipeline.media.subtitles.bitmaps.write_pictures`); none of none."""
    if not arrays:
        return []
    data, offsets = arrays["png"].tobytes(), arrays["offset"].tolist()
    sources = json.loads(arrays["sources"].tobytes())
    rows = zip(arrays["start_ms"], arrays["end_ms"], arrays["source"], strict=True)
    return [
        CuePicture(
            start_ms=int(start_ms),
            end_ms=int(end_ms),
            png=data[offsets[row] : offsets[row + 1]],
            **sources[int(source)],
        )
        for row, (start_ms, end_ms, source) in enumerate(rows)
    ]


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
