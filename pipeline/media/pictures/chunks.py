"""What is seen of a picture's file without decoding: whether it moves, when its frames are shown,
and what a PNG holds behind its pixels."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

_SEQUENCE_BRANDS = {b"avis", b"msf1", b"hevc", b"hevx"}
_PNG_METADATA = {b"eXIf", b"iTXt", b"zTXt", b"tEXt"}
#: A gigabyte in chunks of the usual size has a tenth of this.
_MAX_CHUNKS = 1_000_000
#: Browsers show a frame for which less is asked this long instead.
_SHORTEST_MS = 11
_INSTEAD_MS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """``durations``: of each frame, in seconds; ``skips_first``: a picture for those who cannot
    show animations comes before the frames."""

    durations: tuple[Fraction, ...]
    skips_first: bool = False


def _shown_for(numerator: int, denominator: int) -> Fraction:
    """How long browsers show a frame of the given seconds."""
    if numerator * 1000 < _SHORTEST_MS * denominator:
        return Fraction(_INSTEAD_MS, 1000)
    return Fraction(numerator, denominator)


def may_move(picture_format: str, path: Path) -> bool:
    """Whether a PNG, WebP or GIF has several frames, or an AVIF or HEIF calls itself a sequence."""
    if picture_format in _TIMINGS:
        return len(timing(picture_format, path).durations) > 1
    with path.open("rb") as file:
        return file.read(12)[8:] in _SEQUENCE_BRANDS


def timing(picture_format: str, path: Path) -> Timing:
    """Of a ``PNG``, ``WEBP`` or ``GIF``; without durations, a still."""
    return _TIMINGS[picture_format](path)


def has_late_metadata(path: Path) -> bool:
    """Whether a PNG has EXIF data or texts behind its pixels."""
    pixels_seen = False
    with path.open("rb") as file:
        for kind, _ in _png_chunks(file):
            pixels_seen = pixels_seen or kind == b"IDAT"
            if pixels_seen and kind in _PNG_METADATA:
                return True
    return False


def _png_timing(path: Path) -> Timing:
    durations: list[Fraction] = []
    is_animated = first_is_frame = pixels_seen = False
    with path.open("rb") as file:
        for kind, _ in _png_chunks(file):
            if kind == b"acTL" and not pixels_seen:
                is_animated = True
            elif kind == b"IDAT":
                pixels_seen = True
                if not is_animated:
                    break
            elif kind == b"fcTL" and is_animated:
                first_is_frame = first_is_frame or not pixels_seen
                fields = file.read(26)
                if len(fields) < 26:
                    break
                numerator, denominator = struct.unpack(">HH", fields[20:24])
                durations.append(_shown_for(numerator, denominator or 100))
    if not is_animated:
        durations = []
    return Timing(durations=tuple(durations), skips_first=not first_is_frame)


def _png_chunks(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Type and length of each chunk; the file stands at its data."""
    at = 8
    for _ in range(_MAX_CHUNKS):
        file.seek(at)
        head = file.read(8)
        if len(head) < 8 or head[4:] == b"IEND":
            return
        length = int.from_bytes(head[:4], "big")
        yield head[4:], length
        at += 12 + length


def _webp_timing(path: Path) -> Timing:
    durations: list[Fraction] = []
    with path.open("rb") as file:
        at = 12
        for _ in range(_MAX_CHUNKS):
            file.seek(at)
            head = file.read(24)
            if len(head) < 8:
                break
            if head[:4] == b"ANMF" and len(head) >= 23:
                milliseconds = int.from_bytes(head[20:23], "little")
                durations.append(_shown_for(milliseconds, 1000))
            length = int.from_bytes(head[4:8], "little")
            at += 8 + length + length % 2
    return Timing(durations=tuple(durations))


def _gif_timing(path: Path) -> Timing:
    durations: list[Fraction] = []
    with path.open("rb") as file:
        head = file.read(13)
        file.seek(_colour_table_bytes(head[10:11]), 1)
        delay = 0
        for _ in range(_MAX_CHUNKS):
            kind = file.read(1)
            if kind in {b"", b";"}:
                break
            if kind == b"!":
                is_control = file.read(1) == b"\xf9"
                fields = _skip_blocks(file)
                if is_control and len(fields) >= 3:
                    delay = int.from_bytes(fields[1:3], "little")
            elif kind == b",":
                file.seek(_colour_table_bytes(file.read(9)[8:]) + 1, 1)
                _skip_blocks(file)
                durations.append(_shown_for(delay, 100))
                delay = 0
    return Timing(durations=tuple(durations))


def _colour_table_bytes(flags: bytes) -> int:
    return 3 * 2 ** ((flags[0] & 7) + 1) if flags and flags[0] & 0x80 else 0


def _skip_blocks(file: BinaryIO) -> bytes:
    """The first block of a row of blocks; the file stands behind the row."""
    first = b""
    while size := int.from_bytes(file.read(1), "big"):
        block = file.read(size)
        first = first or block
    return first


_TIMINGS = {"PNG": _png_timing, "WEBP": _webp_timing, "GIF": _gif_timing}
