"""Opening a picture of any format: its header read, its size checked, nothing decoded yet."""

import mmap
import re
import struct
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from PIL import (  # the plugins need only be imported
    AvifImagePlugin,  # noqa: F401
    BmpImagePlugin,  # noqa: F401
    ExifTags,
    GifImagePlugin,  # noqa: F401
    ImageFile,
    Jpeg2KImagePlugin,  # noqa: F401
    JpegImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    TiffImagePlugin,  # noqa: F401
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401
)
from PIL import Image as PillowImage

from pipeline.errors import InvalidMediaError, MediaLimitError, UnsupportedMediaError
from pipeline.media.limits import MediaLimits
from pipeline.media.messages import one_line
from pipeline.media.pictures import by_ffmpeg, raw
from pipeline.media.pictures.chunks import has_late_metadata
from pipeline.media.pictures.raw_tiff import is_raw_tiff

_INPUT = Path("input")
#: What Pillow's decoders raise on damaged files.
DAMAGE = (
    OSError,
    ValueError,
    SyntaxError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    EOFError,
    RuntimeError,
    AssertionError,
    struct.error,
)
#: What Pillow raises where a header states more than it may decode.
TOO_MANY_PIXELS = (PillowImage.DecompressionBombError, PillowImage.DecompressionBombWarning)
_BY_FFMPEG = {"HEIF", "JPEGXL"}
#: Encoders write about ten; each may cost as much as the whole picture.
_MAX_SCANS = 200
#: All markers with a segment, and the end: not those inside a scan, nor stuffed bytes.
_JPEG_MARKER = re.compile(rb"\xff[\x02-\xcf\xd9-\xfe]")
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
_NEW_SUBFILE_TYPE = 254
#: Reduced copies of another page, and masks.
_NO_PAGE = 1 | 4


@dataclass(slots=True, kw_only=True)
class OpenedPicture(AbstractContextManager["OpenedPicture"]):
    """A picture whose pixels are still to be decoded. ``orientation``: as EXIF counts, 1 where the
    decoder turns by itself; ``full_size``: width and height where ``image`` is a preview only."""

    picture_format: str
    image: PillowImage.Image
    path: Path = _INPUT
    orientation: int = 1
    full_size: tuple[int, int] | None = None
    notes: list[str] = field(default_factory=list)

    def __exit__(self, *_: object) -> None:
        self.image.close()


def open_picture(picture_format: str, limits: MediaLimits, ffmpeg: str) -> OpenedPicture:
    """The picture by the name that :func:`~pipeline.media.sniff.sniff_picture` gave its format.

    Raises:
        MediaLimitError: it states more pixels than allowed.
        InvalidMediaError: its header is damaged.
        UnsupportedMediaError: what decodes it is not there.
    """
    if picture_format == "RAW" or (picture_format == "TIFF" and is_raw_tiff(_INPUT)):
        preview = raw.write_preview()
        image = _open("JPEG", preview.path, limits)
        orientation = _orientation(image, preview.path)
        if orientation == 1 and not preview.is_upright(image.size):
            orientation = preview.orientation
        return OpenedPicture(
            picture_format="RAW",
            image=image,
            path=preview.path,
            orientation=orientation,
            full_size=preview.turned_back(orientation),
        )
    if picture_format in _BY_FFMPEG:
        return _open_by_ffmpeg(picture_format, limits, ffmpeg)
    image = _open(picture_format, _INPUT, limits)
    opened = OpenedPicture(
        picture_format=picture_format, image=image, orientation=_orientation(image, _INPUT)
    )
    if "icc_profile" in image.info and image.info["icc_profile"] is None:
        opened.notes.append("the colour profile is damaged or too large and was ignored")
    return opened


def _open_by_ffmpeg(picture_format: str, limits: MediaLimits, ffmpeg: str) -> OpenedPicture:
    try:
        decoded = by_ffmpeg.decode(picture_format, limits, ffmpeg)
    except UnsupportedMediaError:
        if picture_format != "HEIF" or find_spec("pillow_heif") is None:
            raise
        image = _open("HEIF", _INPUT, limits)
        return OpenedPicture(picture_format=picture_format, image=image)
    image = _open("PNG", decoded.path, limits)
    if decoded.icc_profile is not None:
        image.info["icc_profile"] = decoded.icc_profile
    return OpenedPicture(picture_format=picture_format, image=image, path=decoded.path)


def _open(pillow_format: str, path: Path, limits: MediaLimits) -> PillowImage.Image:
    PillowImage.MAX_IMAGE_PIXELS = limits.max_pixels
    warnings.simplefilter("error", PillowImage.DecompressionBombWarning)
    # A text or profile that unpacks to more than Pillow takes is passed over instead of spoiling
    # the picture; pixels that are missing must still be an error.
    ImageFile.LOAD_TRUNCATED_IMAGES = pillow_format == "PNG"
    try:
        if pillow_format == "HEIF":
            # Optional: for an ffmpeg that does not read HEIC.
            import_module("pillow_heif.HeifImagePlugin")
        return PillowImage.open(path, formats=[pillow_format])
    except TOO_MANY_PIXELS as error:
        raise MediaLimitError(
            f"the picture states more than {limits.max_pixels} pixels; submit a smaller one or "
            "raise max_pixels"
        ) from error
    except UnidentifiedImageError as error:
        if pillow_format == "TIFF":
            raise UnsupportedMediaError(
                "the TIFF is damaged, or arranges its samples in a way that mediaweave does not "
                "read; save it as 8- or 16-bit RGB or grey"
            ) from error
        raise InvalidMediaError(
            f"the file has the signature of {pillow_format} but is not a readable picture"
        ) from error
    except DAMAGE as error:
        raise InvalidMediaError(
            f"the {pillow_format} picture has a damaged header: {one_line(error)}"
        ) from error
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = False


def _orientation(picture: PillowImage.Image, path: Path) -> int:
    if picture.format == "TIFF":
        # Pillow turns TIFFs by itself.
        return 1
    try:
        if picture.format == "PNG" and not has_late_metadata(path):
            # PNG's own method decodes everything, to find what may follow the pixels.
            exif = PillowImage.Image.getexif(picture)
        else:
            exif = picture.getexif()
        return int(exif.get(ExifTags.Base.Orientation, 1))
    except DAMAGE:
        # A damaged EXIF block does not spoil the picture.
        return 1


def pages(opened: OpenedPicture, limits: MediaLimits) -> Iterator[int]:
    """Numbers of the pages, ``opened`` standing at each in turn; one, except in a TIFF."""
    yield 0
    if opened.picture_format != "TIFF":
        return
    number = 0
    for directory in range(1, 2 * limits.max_pages):
        try:
            opened.image.seek(directory)
            is_page = not opened.image.tag_v2.get(_NEW_SUBFILE_TYPE, 0) & _NO_PAGE  # type: ignore[attr-defined]
        except EOFError:
            return
        except TOO_MANY_PIXELS:
            number += 1
            opened.notes.append(f"page {number} states too many pixels and was left out")
            continue
        except DAMAGE as error:
            opened.notes.append(f"what follows page {number} cannot be read: {one_line(error)}")
            return
        if is_page:
            number += 1
            if number == limits.max_pages:
                break
            yield number
    opened.notes.append(f"only the first {number} pages were taken; the file has more")


def check_scans(path: Path) -> None:
    """Refuse a JPEG that is sent in so many scans that decoding takes hours.

    Raises:
        MediaLimitError: it has more than any encoder writes.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        at = scans = 0
        while found := _JPEG_MARKER.search(data, at):
            marker, at = data[found.end() - 1], found.end()
            if marker == _END_OF_IMAGE:
                return
            if marker == _START_OF_SCAN:
                scans += 1
                if scans > _MAX_SCANS:
                    raise MediaLimitError(
                        f"the JPEG has more than {_MAX_SCANS} scans; save it anew"
                    )
            at += int.from_bytes(data[at : at + 2], "big")
