"""HEIC and JPEG XL, which Pillow does not read, as a PNG made by ffmpeg: upright, any depth."""

import re
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import MediaLimitError, UnsupportedMediaError
from pipeline.media import ffmpeg_process
from pipeline.media.limits import MediaLimits
from pipeline.media.pictures.colour import MAX_PROFILE_BYTES
from pipeline.media.sniff import ALLOWED_PROTOCOLS

_DEMUXERS = {"HEIF": "mov", "JPEGXL": "jpegxl_pipe,jpegxl_anim"}
_REMEDY = {
    "HEIF": "this ffmpeg is older than version 8: install a newer one, or the package pillow-heif",
    "JPEGXL": "this ffmpeg was built without libjxl: install one that has it",
}
#: HEIF keeps what describes its pictures in front.
_META_BYTES = 1024**2
_SPATIAL_EXTENT = re.compile(rb"\0\0\0\x14ispe\0{4}(.{8})", re.DOTALL)
#: A version that does not join tiles gives one of at least four; cropping takes less than half.
_LEAST_SHARE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """A PNG file that is upright. ``icc_profile``: the picture's, where ffmpeg loses it."""

    path: Path
    icc_profile: bytes | None


def decode(picture_format: str, limits: MediaLimits, ffmpeg: str) -> Decoded:
    """The input's main picture; of an animation, its first frame.

    Raises:
        MediaLimitError: it states more pixels than allowed.
        UnsupportedMediaError: this ffmpeg cannot, or the picture is damaged.
    """
    stated_pixels, profile = 0, None
    if picture_format == "HEIF":
        with Path("input").open("rb") as file:
            meta = file.read(_META_BYTES)
        stated_pixels, profile = _stated_pixels(meta), _icc_profile(meta)
        if stated_pixels > limits.max_pixels:
            raise MediaLimitError(
                f"the picture states {stated_pixels} pixels, more than the limit of "
                f"{limits.max_pixels}; submit a smaller one or raise max_pixels"
            )
    path = Path("decoded.png")
    command = [ffmpeg, "-nostdin", "-v", "error", "-threads", "1", "-y"]
    command += ["-format_whitelist", _DEMUXERS[picture_format]]
    command += ["-protocol_whitelist", ALLOWED_PROTOCOLS, "-max_pixels", str(limits.max_pixels)]
    # Hardly packed: this file is read once.
    command += ["-i", "file:input", "-frames:v", "1", "-f", "image2", "-update", "1"]
    command += ["-c:v", "png", "-compression_level", "0", "-pred", "none", f"file:{path}"]
    report = ffmpeg_process.Report()
    with ffmpeg_process.running(command, report, limits):
        pass
    if not path.exists() or _png_pixels(path) < stated_pixels * _LEAST_SHARE:
        raise UnsupportedMediaError(
            f"the {picture_format} picture cannot be read ({report.reason}): it is "
            f"damaged, or {_REMEDY[picture_format]}"
        )
    return Decoded(path=path, icc_profile=profile)


def _stated_pixels(meta: bytes) -> int:
    """Of the largest item, tiles joined."""
    sizes = [found[1] for found in _SPATIAL_EXTENT.finditer(meta)]
    return max(
        (int.from_bytes(size[:4], "big") * int.from_bytes(size[4:], "big") for size in sizes),
        default=0,
    )


def _icc_profile(meta: bytes) -> bytes | None:
    at = meta.find(b"colrprof")
    if at < 4:
        return None
    size = int.from_bytes(meta[at - 4 : at], "big")
    return meta[at + 8 : at - 4 + size] if 12 < size <= MAX_PROFILE_BYTES else None


def _png_pixels(path: Path) -> int:
    with path.open("rb") as file:
        head = file.read(24)
    return int.from_bytes(head[16:20], "big") * int.from_bytes(head[20:24], "big")
