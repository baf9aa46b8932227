"""Formats and their peculiarities: orientation, HEIC, RAW, JPEG XL, hostile JPEGs."""

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from media_factory import run_ffmpeg
from picture_factory import (
    add_scans,
    flat,
    make_dng,
    make_heic,
    rgb_profile,
    two_colours,
)
from PIL import Image as PillowImage
from PIL import ImageCms
from stand_in_children import BeChild

from pipeline.errors import MediaLimitError, UnsupportedMediaError
from pipeline.media import MediaLimits, SplitParams, SplitResult, load_image, probe_media
from pipeline.media.sniff import sniff_picture
from schemas.records import Image

Splitter = Callable[..., SplitResult]

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)
#: JPEG at quality 95 keeps flat colours this exactly.
CLOSE = 4
SHARP = SplitParams(jpeg_quality=95)
MEDIA = Path(__file__).resolve().parents[4] / "shared" / "media"


def only_keyframe(result: SplitResult) -> Image:
    (keyframe,) = result.keyframes
    pixels = load_image(keyframe.path)
    assert pixels.shape == (keyframe.height_px, keyframe.width_px, 3)
    return pixels


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "avif", "tif"])
def test_orientation_is_applied_once(
    tmp_path: Path, split: Splitter, limits: MediaLimits, suffix: str, orientation: int
) -> None:
    undo = {
        2: PillowImage.Transpose.FLIP_LEFT_RIGHT,
        3: PillowImage.Transpose.ROTATE_180,
        4: PillowImage.Transpose.FLIP_TOP_BOTTOM,
        5: PillowImage.Transpose.TRANSPOSE,
        6: PillowImage.Transpose.ROTATE_90,
        7: PillowImage.Transpose.TRANSVERSE,
        8: PillowImage.Transpose.ROTATE_270,
    }
    stored = two_colours()
    if orientation in undo:
        stored = stored.transpose(undo[orientation])
    exif = PillowImage.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    stored.save(path, quality=95, exif=exif)

    info = probe_media(path, work_dir=tmp_path, limits=limits).info
    pixels = only_keyframe(split(path))

    assert (info.width_px, info.height_px) == (80, 40)
    assert pixels.shape == (40, 80, 3)
    assert pixels[5, 5].tolist() == pytest.approx(BLUE, abs=12)
    for row, column in ((5, 75), (35, 5), (35, 75)):
        assert pixels[row, column].tolist() == pytest.approx(RED, abs=12)


def test_png_orientation_behind_the_pixels(tmp_path: Path, split: Splitter) -> None:
    exif = PillowImage.Exif()
    exif[0x0112] = 6
    path = tmp_path / "a.png"
    two_colours().transpose(PillowImage.Transpose.ROTATE_90).save(path, exif=exif)
    data = path.read_bytes()
    start = data.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(data[start : start + 4], "big")
    path.write_bytes(data[:start] + data[end:-12] + data[start:end] + data[-12:])

    assert only_keyframe(split(path))[5, 5].tolist() == pytest.approx(BLUE, abs=12)


@pytest.mark.parametrize("quarter_turns", range(4))
def test_heic_is_turned_once(
    tmp_path: Path, split: Splitter, limits: MediaLimits, quarter_turns: int
) -> None:
    stored = two_colours().resize((160, 80), PillowImage.Resampling.NEAREST)
    upright = np.rot90(np.asarray(stored), quarter_turns)
    path = make_heic(tmp_path / "a.heic", stored, quarter_turns=quarter_turns)

    info = probe_media(path, work_dir=tmp_path, limits=limits).info
    pixels = only_keyframe(split(path))

    assert (info.kind, info.container) == ("image", "heif")
    assert (info.height_px, info.width_px) == upright.shape[:2] == pixels.shape[:2]
    for row, column in ((5, 5), (-5, 5), (5, -5), (-5, -5)):
        assert pixels[row, column].tolist() == pytest.approx(upright[row, column].tolist(), abs=12)


def test_heic_has_the_colours_of_its_profile(tmp_path: Path, split: Splitter) -> None:
    profile = rgb_profile(2.2, (b"bXYZ", b"gXYZ", b"rXYZ"))
    path = make_heic(tmp_path / "a.heic", flat((250, 5, 5)), icc_profile=profile)

    assert only_keyframe(split(path))[20, 20].tolist() == pytest.approx([5, 5, 250], abs=10)


def test_heic_that_states_a_huge_size(tmp_path: Path, limits: MediaLimits) -> None:
    path = make_heic(tmp_path / "a.heic", two_colours(), stated_size=(60000, 60000))

    with pytest.raises(MediaLimitError, match="states 3600000000 pixels"):
        probe_media(path, work_dir=tmp_path, limits=limits)


@pytest.mark.parametrize("has_package", [True, False])
def test_heic_where_ffmpeg_does_not_read_it(
    tmp_path: Path,
    split: Splitter,
    monkeypatch: pytest.MonkeyPatch,
    be_child: BeChild,
    has_package: bool,
) -> None:
    path = make_heic(tmp_path / "a.heic", two_colours(), quarter_turns=2)
    monkeypatch.setattr("pipeline.media.api.find_ffmpeg", lambda: Path("/bin/false"))
    if has_package:
        pytest.importorskip("pillow_heif")
        assert only_keyframe(split(path))[-5, -5].tolist() == pytest.approx(BLUE, abs=12)
    else:
        _hide("pillow_heif", be_child)
        with pytest.raises(UnsupportedMediaError, match="or the package pillow-heif"):
            split(path)


def _hide(package: str, be_child: BeChild) -> None:
    """Have the child find no such package."""
    bootstrap = (
        f"import sys; sys.modules[{package!r}] = None; import importlib.util as u; f = u.find_spec;"
        f"u.find_spec = lambda n, p=None: None if n == {package!r} else f(n, p);"
        "from pipeline.media.child import main; main()"
    )
    be_child([sys.executable, "-P", "-s", "-c", bootstrap])


@pytest.mark.parametrize(
    ("orientation", "blue_at"), [(1, (5, 5)), (3, (-5, -5)), (6, (5, -5)), (8, (-5, 5))]
)
def test_raw_preview(
    tmp_path: Path,
    split: Splitter,
    limits: MediaLimits,
    orientation: int,
    blue_at: tuple[int, int],
) -> None:
    """The preview, not the thumbnail that comes first, turned as the RAW says."""
    pytest.importorskip("rawpy")
    preview = two_colours().resize((160, 80), PillowImage.Resampling.NEAREST)
    path = make_dng(tmp_path / "a.dng", preview, orientation=orientation)

    info = probe_media(path, work_dir=tmp_path, limits=limits).info
    pixels = only_keyframe(split(path))

    size = (80, 160) if orientation in {6, 8} else (160, 80)
    assert (info.kind, info.container) == ("image", "raw")
    assert (info.width_px, info.height_px) == size == pixels.shape[1::-1]
    assert pixels[blue_at].tolist() == pytest.approx(BLUE, abs=12)
    opposite = -blue_at[0], -blue_at[1]
    assert pixels[opposite].tolist() == pytest.approx(RED, abs=12)


def test_raw_without_the_package(tmp_path: Path, limits: MediaLimits, be_child: BeChild) -> None:
    path = make_dng(tmp_path / "a.dng", two_colours())
    _hide("rawpy", be_child)

    with pytest.raises(UnsupportedMediaError, match=r"camera RAW.*mediaweave\[raw\].*rawpy"):
        probe_media(path, work_dir=tmp_path, limits=limits)


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b"\xff\x0a\x00", "JPEGXL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEGXL"),
        (b"FUJIFILMCCD-RAW 0201", "RAW"),
        (b"IIRO\x08\0\0\0", "RAW"),
        (b"IIU\0\x18\0\0\0", "RAW"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1", "RAW"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIF"),
        (b"\0\0\0\x18ftypisom\0\0\0\0", None),
    ],
)
def test_formats_are_known_by_content(start: bytes, name: str | None) -> None:
    assert sniff_picture(start + bytes(40)) == name


def test_jpeg_with_too_many_scans(tmp_path: Path, split: Splitter) -> None:
    flat(RED).save(tmp_path / "a.jpg", progressive=True)
    add_scans(tmp_path / "a.jpg", 1000)

    with pytest.raises(MediaLimitError, match="more than 200 scans"):
        split(tmp_path / "a.jpg")


def test_progressive_jpeg_with_a_video_behind_it(tmp_path: Path, split: Splitter) -> None:
    """What follows the end of the picture is not searched for scans."""
    flat(RED).save(tmp_path / "a.jpg", progressive=True, quality=95)
    with (tmp_path / "a.jpg").open("ab") as file:
        file.write(b"\xff\xda\x00\x08" * 1000)

    assert only_keyframe(split(tmp_path / "a.jpg"))[20, 20].tolist() == pytest.approx(RED, abs=6)


def test_gain_map_picture_uses_its_base(tmp_path: Path, split: Splitter) -> None:
    """Two pictures in one JPEG (MPF), as phones store HDR: the first one counts."""
    base, gains = flat((200, 30, 60)), flat((10, 10, 10))
    base.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[gains], quality=95)

    pixels = only_keyframe(split(tmp_path / "a.jpg", params=SHARP))

    assert pixels[20, 20].tolist() == pytest.approx([200, 30, 60], abs=CLOSE)


@pytest.mark.skipif(
    not MEDIA.is_dir(), reason="needs the folder shared/media beside the repository"
)
@pytest.mark.parametrize(
    "name", [f"image/exif/Landscape_{n}.jpg" for n in (0, 3, 6, 7)] + ["image/formats/cmyk.jpg"]
)
def test_real_pictures(split: Splitter, name: str) -> None:
    pixels = only_keyframe(split(MEDIA / name)).astype(int)

    if "cmyk" in name:
        with PillowImage.open(MEDIA / name) as stored:
            wanted = ImageCms.profileToProfile(
                stored,
                io.BytesIO(stored.info["icc_profile"]),
                ImageCms.createProfile("sRGB"),
                renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
                outputMode="RGB",
                flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
            )
        assert wanted is not None
        assert np.abs(pixels - np.asarray(wanted)).mean() < 6
    else:
        upright = only_keyframe(split(MEDIA / "image/exif/Landscape_1.jpg")).astype(int)
        assert np.abs(pixels - upright).mean() < 6  # each was compressed for itself


def test_jpeg_xl(tmp_path: Path, split: Splitter, limits: MediaLimits) -> None:
    flat((200, 30, 60)).save(tmp_path / "a.png")
    try:
        run_ffmpeg("-i", tmp_path / "a.png", "-c:v", "libjxl", "-distance", "0", tmp_path / "a.jxl")
    except subprocess.CalledProcessError:
        pytest.skip("this ffmpeg writes no JPEG XL")

    info = probe_media(tmp_path / "a.jxl", work_dir=tmp_path, limits=limits).info
    pixels = only_keyframe(split(tmp_path / "a.jxl", params=SHARP))

    assert (info.kind, info.container, info.width_px, info.height_px) == ("image", "jpegxl", 64, 48)
    assert pixels[20, 20].tolist() == pytest.approx([200, 30, 60], abs=CLOSE)


def test_jpeg_xl_where_ffmpeg_does_not_read_it(
    tmp_path: Path, limits: MediaLimits, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.jxl").write_bytes(b"\xff\x0a" + bytes(60))
    monkeypatch.setattr("pipeline.media.api.find_ffmpeg", lambda: Path("/bin/false"))

    with pytest.raises(UnsupportedMediaError, match=r"JPEGXL.*built without libjxl"):
        probe_media(tmp_path / "a.jxl", work_dir=tmp_path, limits=limits)
