"""Single pictures, opened with Pillow (HEIC through ffmpeg). Runs in the child only."""

import io
import resource
import struct
import subprocess
import time
import warnings
from importlib import import_module
from typing import Any

from PIL import ExifTags, UnidentifiedImageError
from PIL import Image as PillowImage

from pipeline.errors import InvalidMediaError, MediaLimitError, UnsupportedMediaError
from pipeline.media.confine import die_with_parent
from pipeline.media.limits import MediaLimits
from pipeline.media.messages import one_line, useful_line
from pipeline.media.params import SplitParams
from pipeline.media.sniff import ALLOWED_PROTOCOLS

_INPUT = "input"
#: What Pillow's decoders raise on damaged files.
_DAMAGE = (
    OSError,
    ValueError,
    SyntaxError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    EOFError,
    RuntimeError,
    struct.error,
)
_PLUGINS = {
    "JPEG": "JpegImagePlugin",
    "PNG": "PngImagePlugin",
    "WEBP": "WebPImagePlugin",
    "GIF": "GifImagePlugin",
    "TIFF": "TiffImagePlugin",
    "BMP": "BmpImagePlugin",
    "JPEG2000": "Jpeg2KImagePlugin",
    "AVIF": "AvifImagePlugin",
}
_SIDEWAYS = {5, 6, 7, 8}
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


def probe(picture_format: str, *, limits: MediaLimits, ffmpeg: str) -> dict[str, Any] | None:
    """The fields of a :class:`~schemas.records.MediaInfo`; ``None``: an animation, so a video.

    Reads the header only. Width and height are as displayed, after the EXIF orientation.
    """
    with _open(picture_format, limits, ffmpeg) as picture:
        if picture_format == "GIF" and _is_animated(picture):
            return None
        width, height = picture.size
        if _orientation(picture) in _SIDEWAYS:
            width, height = height, width
    codec = picture_format.lower()
    return {
        "kind": "image",
        "container": codec,
        "duration_ms": None,
        "width_px": width,
        "height_px": height,
        "frame_rate": None,
        "streams": [
            {
                "stream_index": 0,
                "kind": "video",
                "codec": codec,
                "is_default": True,
                "width_px": width,
                "height_px": height,
            }
        ],
    }


def split(
    picture_format: str,
    *,
    params: SplitParams,
    limits: MediaLimits,
    ffmpeg: str,
    startup_cpu_seconds: float,
) -> dict[str, Any]:
    """One shot without length, its keyframe the picture itself: upright, RGB, on white."""
    before = time.process_time() + _children_cpu_seconds()
    with _open(picture_format, limits, ffmpeg) as picture:
        try:
            keyframe = _render(picture, params.keyframe_max_side_px)
        except _DAMAGE as error:
            raise InvalidMediaError(
                f"the {picture_format} picture is damaged or cut off: {one_line(error)}"
            ) from error
    decoder_cpu_seconds = time.process_time() + _children_cpu_seconds() - before
    name = "keyframe-00000-0.jpg"
    keyframe.save(name, "JPEG", quality=params.jpeg_quality)
    return {
        "shots": [{"shot_index": 0, "start_ms": 0, "end_ms": 0}],
        "keyframes": [
            {
                "shot_index": 0,
                "keyframe_index": 0,
                "at_ms": 0,
                "pts": None,
                "width_px": keyframe.width,
                "height_px": keyframe.height,
                "name": name,
            }
        ],
        "audio": None,
        "cues": [],
        "notes": [],
        "decoder_cpu_seconds": decoder_cpu_seconds,
        "startup_cpu_seconds": startup_cpu_seconds,
    }


def _open(picture_format: str, limits: MediaLimits, ffmpeg: str) -> PillowImage.Image:
    """The picture with its header read and its size checked."""
    PillowImage.MAX_IMAGE_PIXELS = limits.max_pixels
    warnings.simplefilter("error", PillowImage.DecompressionBombWarning)
    try:
        if picture_format == "HEIF":
            return PillowImage.open(io.BytesIO(_heif_as_ppm(limits, ffmpeg)), formats=["PPM"])
        import_module(f"PIL.{_PLUGINS[picture_format]}")
        return PillowImage.open(_INPUT, formats=[picture_format])
    except (PillowImage.DecompressionBombError, PillowImage.DecompressionBombWarning) as error:
        raise MediaLimitError(
            f"the picture states more than {limits.max_pixels} pixels; submit a smaller one or "
            "raise max_pixels"
        ) from error
    except UnidentifiedImageError as error:
        raise InvalidMediaError(
            f"the file has the signature of {picture_format} but is not a readable picture"
        ) from error
    except _DAMAGE as error:
        raise InvalidMediaError(
            f"the {picture_format} picture has a damaged header: {one_line(error)}"
        ) from error


def _heif_as_ppm(limits: MediaLimits, ffmpeg: str) -> bytes:
    """Pillow has no HEIC decoder; ffmpeg joins the tiles from version 8 on."""
    command = [ffmpeg, "-nostdin", "-v", "error", "-threads", "1", "-format_whitelist", "mov"]
    command += ["-protocol_whitelist", ALLOWED_PROTOCOLS, "-max_pixels", str(limits.max_pixels)]
    command += ["-i", f"file:{_INPUT}", "-frames:v", "1", "-f", "image2pipe", "-c:v", "ppm"]
    done = subprocess.run(
        [*command, "pipe:1"], capture_output=True, check=False, preexec_fn=die_with_parent
    )
    if not done.stdout:
        reason = useful_line(done.stderr.decode("utf-8", "replace").splitlines())
        raise UnsupportedMediaError(
            f"the HEIC picture cannot be read ({reason or 'no reason given'}): it is damaged, or "
            "this ffmpeg is older than version 8; submit a JPEG, or install a newer one"
        )
    return done.stdout


def _is_animated(picture: PillowImage.Image) -> bool:
    try:
        return bool(getattr(picture, "is_animated", False))
    except _DAMAGE:
        # The first frame stands; what follows it is damaged.
        return False


def _orientation(picture: PillowImage.Image) -> int:
    if picture.format == "TIFF":
        # Pillow turns TIFFs by itself.
        return 1
    try:
        return int(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except _DAMAGE:
        # A damaged EXIF block does not spoil the picture.
        return 1


def _render(picture: PillowImage.Image, max_side_px: int) -> PillowImage.Image:
    """Decode, shrink, turn upright, and bring to 8-bit RGB, in the order that costs least."""
    turn = _TURNS.get(_orientation(picture))
    side = (max_side_px, max_side_px)
    picture.draft("RGB", side)
    picture.load()
    picture = _to_8_bit(picture)
    picture.thumbnail(side, PillowImage.Resampling.LANCZOS, reducing_gap=2.0)
    if picture.mode == "RGBA":
        # White, so that dark text on a transparent ground stays readable.
        ground = PillowImage.new("RGB", picture.size, "white")
        ground.paste(picture, mask=picture.getchannel("A"))
        picture = ground
    return picture if turn is None else picture.transpose(turn)


def _to_8_bit(picture: PillowImage.Image) -> PillowImage.Image:
    """``RGB``, or ``RGBA`` where the picture has transparency."""
    if picture.mode.startswith("I"):
        # 16-bit grey; "L" alone would clip instead of scaling.
        picture = picture.point(lambda value: value * (1 / 256)).convert("L")
    return picture.convert("RGBA" if picture.has_transparency_data else "RGB")


def _children_cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
