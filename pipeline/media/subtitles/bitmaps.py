"""Subtitles that are pictures of text, made ready for OCR: black on white, cropped, legible.

Runs in the child only.
"""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from av.codec import CodecContext
from av.error import FFmpegError
from av.subtitles.subtitle import BitmapSubtitle, SubtitleSet
from PIL import Image
from safetensors.numpy import save_file

from pipeline.media.limits import MediaLimits

CUE_PICTURES_NAME = "cue-pictures.safetensors"
#: White around the text, in pixels of the stream.
_MARGIN_PX = 12
#: Lower than this, text is enlarged: OCR misses small letters.
_LEGIBLE_HEIGHT_PX = 96
_MAX_ENLARGEMENT = 4
#: Larger than any screen.
_MAX_SIDE_PX = 8192
_MAX_PIXELS = 16_000_000
#: Ink that is lighter than this share of full contrast is no text but its blurred edge.
_FAINT = 48
#: What is shown until something else is, at most this long.
_MAX_OPEN_MS = 10_000
#: Pictures that follow each other as close as this without a change are one.
_SEAMLESS_MS = 50

#: Of DVB subtitles.
_SEGMENT = b"\x0f"
_PALETTE_SEGMENT = 0x12

Grey = npt.NDArray[np.uint8]


@dataclass(slots=True)
class _Shown:
    start_ms: int
    end_ms: int | None
    png: bytes | None


@dataclass(slots=True)
class BitmapReader:
    """The pictures of one stream, in order of time."""

    limits: MediaLimits
    shown: list[_Shown] = field(default_factory=list)
    broken: int = 0
    total_bytes: int = 0

    def push(self, start_ms: int, end_ms: int | None, shown: SubtitleSet) -> None:
        """What is shown from ``start_ms`` on, maybe nothing. ``end_ms``: ``None`` where it is shown
        until something else is."""
        if len(self.shown) > 2 * self.limits.max_cues:
            return
        png = None
        if len(shown) and self.total_bytes < self.limits.max_cue_picture_bytes:
            try:
                picture = _drawn(shown)
            except (ValueError, FFmpegError):
                self.broken += 1
                picture = None
            if picture is not None:
                png = _png(picture)
                self.total_bytes += len(png)
        self.shown.append(_Shown(start_ms, end_ms, png))

    def pictures(self) -> list[tuple[int, int, bytes]]:
        """Start, end and PNG. Equal pictures without a gap between them are one."""
        self.shown.sort(key=lambda shown: shown.start_ms)
        found: list[tuple[int, int, bytes]] = []
        for shown, following in zip(self.shown, self._following(), strict=True):
            if shown.png is None:
                continue
            ends = [end for end in (shown.end_ms, following) if end is not None]
            end_ms = min(ends, default=shown.start_ms + _MAX_OPEN_MS)
            if end_ms <= max(0, shown.start_ms):
                continue
            if found and found[-1][2] == shown.png:
                start_ms, before_ms, _ = found[-1]
                if shown.start_ms - before_ms <= _SEAMLESS_MS:
                    found[-1] = (start_ms, end_ms, shown.png)
                    continue
            found.append((max(0, shown.start_ms), end_ms, shown.png))
        return found

    def _following(self) -> list[int | None]:
        """For each picture, when something else is shown."""
        found: list[int | None] = []
        later: int | None = None
        last: int | None = None
        for shown in reversed(self.shown):
            if last is not None and shown.start_ms < last:
                later = last
            last = shown.start_ms
            found.append(later)
        return found[::-1]


def _drawn(shown: SubtitleSet) -> Grey | None:
    """All rectangles as they lie on the screen; ``None`` where nothing can be seen.

    Raises:
        ValueError: sizes that no screen has, or fewer pixels than stated.
        FFmpegError: the palette cannot be had.
    """
    rectangles = [part for part in shown.rects if isinstance(part, BitmapSubtitle)]
    sizes = [(r.x, r.y, r.width, r.height) for r in rectangles]
    if any(
        min(x, y) < 0 or min(w, h) < 1 or max(x + w, y + h) > _MAX_SIDE_PX for x, y, w, h in sizes
    ):
        raise ValueError(f"a rectangle beyond {_MAX_SIDE_PX} pixels: {sizes}")
    left, top = min(x for x, *_ in sizes), min(y for _, y, *_ in sizes)
    right, bottom = max(x + w for x, _, w, _ in sizes), max(y + h for _, y, _, h in sizes)
    if (right - left) * (bottom - top) > _MAX_PIXELS:
        raise ValueError(f"a subtitle of {right - left}x{bottom - top} pixels")
    canvas = np.zeros((bottom - top, right - left, 2), np.uint8)
    for rectangle, palette in zip(rectangles, _palettes(shown), strict=True):
        pixels = np.frombuffer(cast("bytes", rectangle.planes[0]), np.uint8)
        colours = palette[pixels.reshape(rectangle.height, rectangle.width)]
        x, y = rectangle.x - left, rectangle.y - top
        part = canvas[y : y + rectangle.height, x : x + rectangle.width]
        np.copyto(part, colours, where=colours[..., 1:] > part[..., 1:])
    return _black_on_white(canvas[..., 0], canvas[..., 1])


def _palettes(shown: SubtitleSet) -> list[npt.NDArray[np.uint8]]:
    """Lightness and opacity of the 256 colours of each rectangle: uint8, shape ``(256, 2)``.

    PyAV keeps the palette to itself, but FFmpeg's encoder for DVB writes it out (ETSI EN 300 743,
    CLUT definition segments), whatever the subtitle came from.
    """
    encoder = CodecContext.create("dvbsub", "w")
    encoder.time_base = Fraction(1, 1000)
    data = bytes(encoder.encode_subtitle(shown))
    found: list[npt.NDArray[np.uint8]] = []
    at = 0
    while data[at : at + 1] == _SEGMENT:
        length = int.from_bytes(data[at + 4 : at + 6], "big")
        if data[at + 1] == _PALETTE_SEGMENT:
            entries = np.frombuffer(data[at + 8 : at + 6 + length], np.uint8).reshape(-1, 6)
            luma, red, blue = (entries[:, column].astype(np.float32) for column in (2, 3, 4))
            luma, red, blue = 1.164 * (luma - 16), red - 128, blue - 128
            parts = (luma + 1.596 * red, luma - 0.813 * red - 0.392 * blue, luma + 2.017 * blue)
            palette = np.zeros((256, 2), np.uint8)
            palette[entries[:, 0], 0] = np.clip(np.max(parts, axis=0), 0, 255)
            palette[entries[:, 0], 1] = 255 - entries[:, 5]
            found.append(palette)
        at += 6 + length
    return found


def _black_on_white(lightness: Grey, opacities: Grey) -> Grey | None:
    """Letters are light with dark edges as a rule: what is light becomes ink."""
    opacity = opacities.astype(np.uint16)
    light = lightness.astype(np.uint16) * opacity // 255
    if light.max(initial=0) < 2 * _FAINT:
        # Dark letters: the shape alone.
        light = opacity
    elif (light > 128).mean() > 0.5:
        # Dark letters on a light box.
        light = opacity - light
    ink = light.astype(np.uint8)
    rows, columns = np.nonzero((ink > _FAINT).any(1))[0], np.nonzero((ink > _FAINT).any(0))[0]
    if not len(rows) or not len(columns):
        return None
    cropped = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return 255 - np.pad(cropped, _MARGIN_PX)


def _png(picture: Grey) -> bytes:
    drawn = Image.fromarray(picture)
    factor = min(_MAX_ENLARGEMENT, -(-_LEGIBLE_HEIGHT_PX // drawn.height))
    if factor > 1:
        size = (drawn.width * factor, drawn.height * factor)
        drawn = drawn.resize(size, Image.Resampling.BICUBIC)
    file = io.BytesIO()
    drawn.save(file, "PNG")
    return file.getvalue()


def write_pictures(
    pictures: Sequence[tuple[int, int, bytes, int]], sources: Sequence[dict[str, Any]]
) -> None:
    """Write all pictures of an asset (start, end, PNG, row of ``sources``) to one file here.

    Arrays: ``png`` (uint8, all files one after the other), ``offset`` (int64, n + 1), ``start_ms``,
    ``end_ms``, ``source`` (int64, n: a row of ``sources``), ``sources`` (uint8: JSON, UTF-8).
    """
    pngs = [png for _, _, png, _ in pictures]
    save_file(
        {
            "png": np.frombuffer(b"".join(pngs), np.uint8),
            "offset": np.cumsum([0, *map(len, pngs)], dtype=np.int64),
            "start_ms": np.array([start for start, *_ in pictures], np.int64),
            "end_ms": np.array([end for _, end, *_ in pictures], np.int64),
            "source": np.array([source for *_, source in pictures], np.int64),
            "sources": np.frombuffer(json.dumps(list(sources)).encode(), np.uint8),
        },
        Path(CUE_PICTURES_NAME),
    )
