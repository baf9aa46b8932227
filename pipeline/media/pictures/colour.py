"""Colours as the picture's ICC profile means them, brought to sRGB."""

import io
from functools import lru_cache

from PIL import Image as PillowImage
from PIL import ImageChops, ImageCms

from pipeline.errors import ContractError
from pipeline.media.messages import one_line

#: Profiles of printing presses hold tables of 0.5 to 3 MB.
MAX_PROFILE_BYTES = 4 * 1024**2
_HEADER_BYTES = 132
_MAX_TAGS = 100
_MAX_DESCRIPTION_BYTES = 400
#: Colour space in a profile's header → modes of pictures it may describe.
_MODES = {b"RGB ": {"RGB", "RGBA"}, b"GRAY": {"L"}, b"CMYK": {"CMYK"}}


def to_srgb(
    picture: PillowImage.Image, profile: bytes | None, notes: list[str]
) -> PillowImage.Image:
    """``RGB``, or ``RGBA`` where there is transparency, from ``L``, ``LA``, ``RGB``, ``RGBA``,
    ``CMYK`` or ``LAB``.

    Without a profile, grey and RGB count as sRGB already, and CMYK is reckoned without inks. A
    profile that is broken, too large or for other colours leaves a note and is passed over.
    """
    plain_mode = "RGBA" if picture.mode in {"LA", "RGBA"} else "RGB"
    if not profile or picture.mode == "LAB" or _is_srgb(profile):
        return picture.convert(plain_mode)
    if len(profile) > MAX_PROFILE_BYTES:
        notes.append(f"the colour profile of {len(profile)} bytes is too large and was ignored")
        return picture.convert(plain_mode)
    space = profile[16:20]
    alpha = picture.getchannel("A") if picture.mode in {"LA", "RGBA"} else None
    colours = _colours(picture, space)
    if colours.mode not in _MODES.get(space, ()):
        notes.append(f"the colour profile is not for pictures of kind {picture.mode}; ignored")
        return picture.convert(plain_mode)
    try:
        converted = ImageCms.applyTransform(colours, _transform(profile, colours.mode))
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        notes.append(f"the colour profile is broken and was ignored: {one_line(error)}")
        return picture.convert(plain_mode)
    if converted is None:
        raise ContractError("LittleCMS returned no picture")
    if alpha is not None:
        converted.putalpha(alpha)
    return converted


def _colours(picture: PillowImage.Image, space: bytes) -> PillowImage.Image:
    """Without transparency, and in the mode that the profile speaks of where that says the same."""
    if picture.mode == "CMYK":
        return picture
    if space == b"GRAY" and (picture.mode in {"L", "LA"} or _is_grey(picture)):
        return picture.convert("L")
    return picture.convert("RGB")


def _is_grey(picture: PillowImage.Image) -> bool:
    """Pillow opens grey PNGs of 16 bits with transparency as RGBA."""
    red, green, blue = (picture.getchannel(name) for name in "RGB")
    return not any(
        ImageChops.difference(red, other).getbbox() is not None for other in (green, blue)
    )


@lru_cache(maxsize=4)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(
        ImageCms.getOpenProfile(io.BytesIO(profile)),
        ImageCms.createProfile("sRGB"),
        mode,
        "RGB",
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )


def _is_srgb(profile: bytes) -> bool:
    """Whether the profile calls itself sRGB: most do, and need no conversion."""
    count = int.from_bytes(profile[128:_HEADER_BYTES], "big")
    for index in range(min(count, _MAX_TAGS)):
        tag = profile[_HEADER_BYTES + 12 * index : _HEADER_BYTES + 12 * index + 12]
        if tag[:4] == b"desc":
            offset = int.from_bytes(tag[4:8], "big")
            size = min(int.from_bytes(tag[8:12], "big"), _MAX_DESCRIPTION_BYTES)
            # ASCII in version 2, UTF-16 in version 4.
            return b"sRGB" in profile[offset : offset + size].replace(b"\0", b"")
    return False
