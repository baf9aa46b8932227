"""What keyframes show: upright, in the right colours, of the right content."""

import io
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from conformance.outcomes import Case
from PIL import Image as PillowImage
from PIL import ImageCms, ImageOps, UnidentifiedImageError

from pipeline.media import KeyframeFile, SplitParams, SplitResult

_Pixels = npt.NDArray[np.float64]
#: Compared at this size at most: noise and JPEG's loss average out.
_COMPARED_SIDE_PX = 128
#: Mean absolute difference (0-255) to a reference, itself made a JPEG like the keyframe: another
#: resampling gives less than 2, another rendering intent up to 3; a wrong orientation far more.
_SAME_PICTURE = 3.0
_RENDERINGS = (
    (ImageCms.Intent.PERCEPTUAL, ImageCms.Flags.NONE),
    (ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Flags.BLACKPOINTCOMPENSATION),
    (ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Flags.NONE),
)
#: Rounding the sides of small pictures.
_SAME_SHAPE = 0.03
#: The mean colour of the same scene out of another codec, another frame of it at that.
_SAME_SCENE = 20.0
#: A photograph that was decoded varies by more than this.
_NOT_FLAT = 15.0
#: Code values of HDR shown as if they were SDR put white at about 184 of 255, with half of the
#: saturation (12 of 255 in a scene with blue sky, where tone mapping gives 23 to 34).
_HDR_WHITE = 200.0
_HDR_SATURATION = 18.0
#: Neither crushed nor burnt out.
_HDR_MEDIAN = (50.0, 190.0)


def check_pictures(case: Case) -> Iterator[str]:
    """Still pictures against a reference, videos by statistics and by what they share."""
    result, info, entry = case.outcome.result, case.outcome.info, case.entry
    if result is None or info is None or entry.expect != "decode" or entry.is_sidecar:
        return
    if info.kind == "image":
        yield from _check_still(case, result.keyframes[0])
    elif result.keyframes:
        yield from _check_hdr(case, result)
        yield from _check_scene(case, result)
        yield from _check_turned(case, result)
        yield from _check_content(case, result)
        if entry.truth.get("content") == "black" and _rgb(result.keyframes[0]).mean() > 8:
            yield "is black, but its keyframe is not"


def _rgb(keyframe: KeyframeFile) -> _Pixels:
    with PillowImage.open(keyframe.path) as picture:
        return np.asarray(picture.convert("RGB"), dtype=np.float64)


def _check_still(case: Case, keyframe: KeyframeFile) -> Iterator[str]:
    with PillowImage.open(keyframe.path) as shown:
        found = shown.convert("RGB")
    reference = case.entry.truth.get("upright_reference", case.entry.file)
    try:
        with PillowImage.open(case.room.path_of(reference)) as picture:
            wanted = _references(picture)
    except UnidentifiedImageError:
        # HEIC: nothing else here reads it.
        if np.asarray(found).std() < _NOT_FLAT:
            yield f"the picture is flat: its deviation is {np.asarray(found).std():.1f}"
        return
    width, height = wanted[0].size
    if abs(width / height / (found.width / found.height) - 1) > _SAME_SHAPE:
        yield f"has the shape {found.size}, the reference {width}x{height}"
    elif (difference := min(_difference(found, each) for each in wanted)) > _SAME_PICTURE:
        yield f"differs from {reference} by {difference:.1f}: its form, colours or orientation"


def _difference(one: PillowImage.Image, other: PillowImage.Image) -> float:
    """``one`` is a keyframe, ``other`` what it should show, of any size."""
    file = io.BytesIO()
    same_size = other.resize(one.size, PillowImage.Resampling.LANCZOS, reducing_gap=3.0)
    same_size.save(file, "JPEG", quality=SplitParams().jpeg_quality)
    shrink = min(1.0, _COMPARED_SIDE_PX / max(one.size))
    size = (max(1, round(one.width * shrink)), max(1, round(one.height * shrink)))
    small = [
        np.asarray(picture.resize(size, PillowImage.Resampling.BOX), dtype=np.float64)
        for picture in (one, PillowImage.open(file))
    ]
    return float(np.abs(small[0] - small[1]).mean())


def _references(picture: PillowImage.Image) -> list[PillowImage.Image]:
    """Upright, on white, 8-bit sRGB by the embedded profile, in every usual rendering intent."""
    upright = ImageOps.exif_transpose(picture)
    profile = picture.info.get("icc_profile")
    if upright.mode.startswith("I"):
        upright = upright.point(lambda value: value * (1 / 256)).convert("L")
    if upright.has_transparency_data:
        coloured = upright.convert("RGBA")
        ground = PillowImage.new("RGBA", coloured.size, "white")
        return [PillowImage.alpha_composite(ground, coloured).convert("RGB")]
    if profile is None or upright.mode not in {"RGB", "CMYK"}:
        return [upright.convert("RGB")]
    embedded = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    standard = ImageCms.createProfile("sRGB")
    return [
        ImageCms.profileToProfile(
            upright, embedded, standard, renderingIntent=intent, outputMode="RGB", flags=flags
        )
        for intent, flags in _RENDERINGS
    ]


def _check_hdr(case: Case, result: SplitResult) -> Iterator[str]:
    if case.entry.truth.get("color_transfer") not in {"smpte2084", "arib-std-b67"}:
        return
    pixels = _rgb(result.keyframes[0])
    luma = pixels.mean(axis=2)
    highest = pixels.max(axis=2)
    saturation = float((255 * (highest - pixels.min(axis=2)) / np.maximum(highest, 1)).mean())
    white, median = float(np.percentile(luma, 99)), float(np.median(luma))
    if white < _HDR_WHITE or saturation < _HDR_SATURATION:
        yield f"HDR is washed out: white at {white:.0f}, saturation {saturation:.0f} of 255"
    if not _HDR_MEDIAN[0] <= median <= _HDR_MEDIAN[1]:
        yield f"HDR is too dark or too bright: the median is {median:.0f}"


def _check_scene(case: Case, result: SplitResult) -> Iterator[str]:
    """The same scene in another container and codec looks alike."""
    other_file = case.entry.truth.get("same_content_as")
    other = case.outcomes.of(other_file).result if other_file else None
    if other is None:
        return
    colours = [_rgb(each.keyframes[0]).mean(axis=(0, 1)) for each in (result, other)]
    difference = float(np.abs(colours[0] - colours[1]).max())
    if difference > _SAME_SCENE:
        yield f"its mean colour differs from that of {other_file} by {difference:.0f}"


def _check_turned(case: Case, result: SplitResult) -> Iterator[str]:
    """Turned content, against the same frame of the file that it was turned from."""
    original = case.entry.truth.get("turned_from", case.entry.file.replace("_rot270", ""))
    if original not in case.room.entries or original == case.entry.file:
        return
    upright = case.outcomes.of(original).result
    if upright is None or upright.keyframes[0].pts != result.keyframes[0].pts:
        yield f"its keyframe is another than that of {original}"
        return
    # Tag 90: to be shown turned a quarter to the left.
    quarters = case.entry.truth["rotation_tag"] // 90
    wanted = np.rot90(_rgb(upright.keyframes[0]), quarters)
    found = _rgb(result.keyframes[0])
    if found.shape != wanted.shape or float(np.abs(found - wanted).mean()) > _SAME_PICTURE:
        yield f"is not {original} turned by {case.entry.truth['rotation_tag']} degrees"


def _check_content(case: Case, result: SplitResult) -> Iterator[str]:
    """Each shot of a film shows its photograph, zoomed into, rather than another one's."""
    contents = case.entry.truth.get("shots", {}).get("content_by_shot", ())
    photos = [each["photo"] for each in contents if isinstance(each, dict)]
    if not photos or len(result.shots) != len(photos):
        return
    palettes = []
    for photo in photos:
        with PillowImage.open(case.room.path_of(photo)) as picture:
            palettes.append(_palette(picture))
    for keyframe in result.keyframes:
        with PillowImage.open(keyframe.path) as picture:
            palette = _palette(picture)
        shared = [float(np.minimum(palette, other).sum()) for other in palettes]
        best = int(np.argmax(shared))
        if best != keyframe.shot_index:
            yield f"shot {keyframe.shot_index} shows {photos[best]} rather than its own photograph"


def _palette(picture: PillowImage.Image) -> _Pixels:
    """Shares of 6x6x6 colours."""
    small = picture.convert("RGB").resize((128, 128), PillowImage.Resampling.BOX)
    levels = np.asarray(small, dtype=np.int64).reshape(-1, 3) * 6 // 256
    counts = np.bincount(levels @ np.array([36, 6, 1]), minlength=216)
    return counts / counts.sum()
