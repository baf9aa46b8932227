"""From a picture of any kind to 8-bit sRGB, upright, on white, in the order that costs least."""

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

from pipeline.errors import MediaLimitError
from pipeline.media.limits import MediaLimits
from pipeline.media.pictures.colour import to_srgb
from pipeline.media.pictures.opening import OpenedPicture, check_scans

#: What brings each EXIF orientation upright.
_TURNS = {
    2: PillowImage.Transpose.FLIP_LEFT_RIGHT,
    3: PillowImage.Transpose.ROTATE_180,
    4: PillowImage.Transpose.FLIP_TOP_BOTTOM,
    5: PillowImage.Transpose.TRANSPOSE,
    6: PillowImage.Transpose.ROTATE_270,
    7: PillowImage.Transpose.TRANSVERSE,
    8: PillowImage.Transpose.ROTATE_90,
}
_BITS_PER_SAMPLE = 258
_PHOTOMETRIC = 262
#: Rows converted at a time: wide numbers of the whole picture would take several times its memory.
_ROWS = 256


def render(opened: OpenedPicture, max_side_px: int, limits: MediaLimits) -> PillowImage.Image:
    """Decode the page that ``opened`` stands at: ``RGB``, its longer side at most ``max_side_px``.

    Raises:
        MediaLimitError: it has too many pixels, or too many scans.
        Exception: one of :data:`~pipeline.media.pictures.opening.DAMAGE`, as Pillow raises it.
    """
    picture = opened.image
    if picture.width * picture.height > limits.max_pixels:
        raise MediaLimitError(
            f"a page has {picture.width}x{picture.height} pixels, more than the limit of "
            f"{limits.max_pixels}"
        )
    if opened.picture_format in {"JPEG", "RAW"}:
        check_scans(opened.path)
    picture.draft("RGB", (max_side_px, max_side_px))
    picture.load()
    profile = picture.info.get("icc_profile")
    small = to_srgb(_shrunk(_to_8_bit(picture), max_side_px), profile, opened.notes)
    if small.mode == "RGBA":
        # White, so that dark text on a transparent ground stays readable.
        ground = PillowImage.new("RGB", small.size, "white")
        ground.paste(small, mask=small.getchannel("A"))
        small = ground
    turn = _TURNS.get(opened.orientation)
    return small if turn is None else small.transpose(turn)


def _shrunk(picture: PillowImage.Image, max_side_px: int) -> PillowImage.Image:
    ratio = min(1.0, max_side_px / max(picture.size))
    size = max(1, round(picture.width * ratio)), max(1, round(picture.height * ratio))
    # Pillow weighs colours by their opacity here, so transparent ones do not bleed into the rest.
    return picture.resize(size, PillowImage.Resampling.LANCZOS, reducing_gap=2.0)


def _to_8_bit(picture: PillowImage.Image) -> PillowImage.Image:
    """``L``, ``LA``, ``RGB``, ``RGBA``, ``CMYK`` or ``LAB``; the picture itself where it is."""
    mode = picture.mode
    if mode.startswith("I;"):
        return _from_16_bit(picture)
    if mode in {"I", "F"}:
        return _stretched(picture)
    if mode in {"CMYK", "LAB", "LA", "RGBA"}:
        return picture
    _keep_transparent_colour(picture)
    wanted = "L" if mode in {"1", "L", "La"} else "RGB"
    if picture.has_transparency_data:
        wanted = {"L": "LA", "RGB": "RGBA"}[wanted]
    return picture if mode == wanted else picture.convert(wanted)


def _keep_transparent_colour(picture: PillowImage.Image) -> None:
    """PNGs of 16 bits name their transparent colour in 16 bits, when Pillow has cut them to 8."""
    transparent = picture.info.get("transparency")
    if picture.mode == "RGB" and isinstance(transparent, tuple) and max(transparent) > 255:
        picture.info["transparency"] = tuple(value >> 8 for value in transparent)


def _from_16_bit(picture: PillowImage.Image) -> PillowImage.Image:
    """Grey of up to 16 bits, scaled: clipping to 8 would leave white."""
    bits, photometric = 16, 1
    tags = getattr(picture, "tag_v2", None)
    if tags is not None:
        bits = min(16, max(1, tags.get(_BITS_PER_SAMPLE, (16,))[0]))
        photometric = tags.get(_PHOTOMETRIC, 1)
    values = np.asarray(picture)
    table = np.minimum(np.arange(2**16) * 255 // (2**bits - 1), 255).astype(np.uint8)
    if photometric == 0:
        table = 255 - table
    grey = PillowImage.fromarray(table[values])
    transparent = picture.info.get("transparency")
    if isinstance(transparent, int):
        mask = np.where(values == transparent, 0, 255).astype(np.uint8)
        grey.putalpha(PillowImage.fromarray(mask))
    return grey


def _stretched(picture: PillowImage.Image) -> PillowImage.Image:
    """Numbers without a fixed white (32-bit integers, floats): 0-1 where floats keep to that,
    otherwise the least becomes black and the greatest white. What is no number becomes black."""
    values = np.asarray(picture)
    blocks = [values[at : at + _ROWS] for at in range(0, len(values), _ROWS)]
    finite = [block[np.isfinite(block)] for block in blocks]
    low = min((float(block.min()) for block in finite if block.size), default=0.0)
    high = max((float(block.max()) for block in finite if block.size), default=1.0)
    if picture.mode == "F" and low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    scale = 255 / (high - low) if high > low else 0.0
    return PillowImage.fromarray(np.concatenate([_scaled(b, low, scale) for b in blocks]))


def _scaled(block: npt.NDArray[np.generic], low: float, scale: float) -> npt.NDArray[np.uint8]:
    numbers = np.nan_to_num((block.astype(np.float64) - low) * scale, posinf=255, neginf=0)
    return np.clip(np.rint(numbers), 0, 255).astype(np.uint8)
