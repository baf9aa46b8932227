"""Colours, shapes and interlacing of keyframes, against what the video was made from."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from media_factory import PATCHES, make_patches, make_video, run_ffmpeg
from PIL import Image

from pipeline.media import SplitResult, load_image

Splitter = Callable[..., SplitResult]
#: Rounding of YUV, lossy coding and the JPEG.
_TOLERANCE = 5
_X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-crf", "10")
_X265 = ("-c:v", "libx265", "-preset", "ultrafast", "-crf", "8", "-x265-params", "log-level=none")
_SVT = ("-c:v", "libsvtav1", "-preset", "10", "-crf", "10")


def picture_of(result: SplitResult) -> npt.NDArray[np.int64]:
    return load_image(result.keyframes[0].path).astype(np.int64)


def measured(result: SplitResult) -> list[list[float]]:
    """The colour in the middle of each bar."""
    picture = picture_of(result)
    height, width, _ = picture.shape
    row = picture[height // 2 - 3 : height // 2 + 3]
    centres = [int((n + 0.5) * width / len(PATCHES)) for n in range(len(PATCHES))]
    return [row[:, at - 3 : at + 3].mean((0, 1)).tolist() for at in centres]


def yuv(matrix: str, pixel_format: str, levels: str = "tv") -> str:
    return f"scale=out_color_matrix={matrix}:out_range={levels},format={pixel_format}"


@pytest.mark.parametrize(
    ("name", "picture_filter", "codec"),
    [
        ("601.mp4", yuv("bt601", "yuv420p"), (*_X264, "-colorspace", "smpte170m")),
        ("709.mp4", yuv("bt709", "yuv420p"), (*_X264, "-colorspace", "bt709")),
        ("2020.mp4", yuv("bt2020", "yuv420p"), (*_X264, "-colorspace", "bt2020nc")),
        ("240m.mp4", yuv("smpte240m", "yuv420p"), (*_X264, "-colorspace", "smpte240m")),
        ("untold_sd.mp4", yuv("bt601", "yuv420p"), _X264),
        ("untold_hd.mp4", "scale=1280:720," + yuv("bt709", "yuv420p"), _X264),
        (
            "full_range.mp4",
            yuv("bt709", "yuvj420p", "pc"),
            (*_X264, "-colorspace", "bt709", "-color_range", "pc"),
        ),
        ("mjpeg.avi", yuv("bt601", "yuvj422p", "pc"), ("-c:v", "mjpeg", "-q:v", "2")),
        ("444.mkv", yuv("bt709", "yuv444p"), (*_X264, "-colorspace", "bt709")),
        ("422_10.mov", yuv("bt709", "yuv422p10"), ("-c:v", "prores_ks", "-colorspace", "bt709")),
        ("420_10.mp4", yuv("bt709", "yuv420p10"), (*_X265, "-colorspace", "bt709")),
        ("444_12.mkv", yuv("bt2020", "yuv444p12"), ("-c:v", "ffv1", "-colorspace", "bt2020nc")),
        ("rgb.mkv", "format=gbrp", ("-c:v", "ffv1")),
        ("rgb.mov", "format=rgb24", ("-c:v", "qtrle")),
        ("bgr.avi", "format=bgr24", ("-c:v", "rawvideo")),
        ("mpeg2.mpg", yuv("bt601", "yuv420p"), ("-c:v", "mpeg2video", "-q:v", "2")),
    ],
)
def test_colours(
    tmp_path: Path, split: Splitter, name: str, picture_filter: str, codec: Sequence[str]
) -> None:
    result = split(make_patches(tmp_path / name, picture_filter, *codec))

    for found, colour in zip(measured(result), PATCHES, strict=True):
        assert found == pytest.approx(colour, abs=_TOLERANCE)


@pytest.mark.parametrize("transfer", ["smpte2084", "arib-std-b67"])
@pytest.mark.parametrize("codec", [_X265, _SVT], ids=["hevc", "av1"])
def test_hdr_is_shown_as_sdr(
    tmp_path: Path, split: Splitter, transfer: str, codec: Sequence[str]
) -> None:
    # White of SDR at 203 cd/m².
    to_hdr = (
        "format=gbrp,zscale=tin=iec61966-2-1:pin=709:min=gbr:rin=full:"
        f"t={transfer}:p=2020:m=2020_ncl:r=limited:npl=203,format=yuv420p10"
    )
    result = split(make_patches(tmp_path / "hdr.mkv", to_hdr, *codec))

    white, *others = measured(result)
    for found, colour in zip(others, PATCHES[1:], strict=True):
        assert found == pytest.approx(colour, abs=_TOLERANCE)
    # Room is left for what is brighter than white.
    assert white == pytest.approx([240] * 3, abs=_TOLERANCE)


@pytest.mark.parametrize("pixel_format", ["gray", "gray10"])
def test_grey(tmp_path: Path, split: Splitter, pixel_format: str) -> None:
    path = make_patches(tmp_path / "grey.mkv", f"format={pixel_format}", "-c:v", "ffv1")

    for found, (red, green, blue) in zip(measured(split(path)), PATCHES, strict=True):
        grey = 0.299 * red + 0.587 * green + 0.114 * blue
        assert found == pytest.approx([grey] * 3, abs=_TOLERANCE)


def test_odd_sizes(tmp_path: Path, split: Splitter) -> None:
    path = make_patches(
        tmp_path / "odd.mkv", yuv("bt601", "yuv444p"), "-c:v", "ffv1", size="321x181"
    )
    result = split(path)

    (keyframe,) = result.keyframes
    assert abs(keyframe.width_px - 321) == abs(keyframe.height_px - 181) == 1
    for found, colour in zip(measured(result), PATCHES, strict=True):
        assert found == pytest.approx(colour, abs=_TOLERANCE)


def test_anamorphic_pictures_are_widened(tmp_path: Path, split: Splitter) -> None:
    path = make_patches(tmp_path / "wide.mp4", "setsar=16/11", *_X264, size="352x288")

    (keyframe,) = split(path).keyframes

    assert (keyframe.width_px, keyframe.height_px) == (512, 288)


@pytest.mark.parametrize(
    ("name", "pixel_format", "codec"),
    [
        ("a.mov", "argb", ("-c:v", "qtrle")),
        ("a.mkv", "yuva420p", ("-c:v", "ffv1")),
        ("4444.mov", "yuva444p10", ("-c:v", "prores_ks", "-profile:v", "4444")),
        ("vp9.webm", "yuva420p", ("-c:v", "libvpx-vp9", "-auto-alt-ref", "0", "-crf", "10")),
        ("vp8.webm", "yuva420p", ("-c:v", "libvpx", "-auto-alt-ref", "0", "-crf", "10")),
    ],
)
def test_transparency_is_on_white(
    tmp_path: Path, split: Splitter, name: str, pixel_format: str, codec: Sequence[str]
) -> None:
    path = tmp_path / name
    drawing = Image.new("RGBA", (160, 90), (0, 0, 0, 0))
    drawing.paste((255, 0, 0, 255), (40, 20, 120, 70))
    drawing.paste((0, 0, 255, 128), (120, 0, 160, 90))
    drawing.save(tmp_path / "drawing.png")
    source = ("-loop", "1", "-i", tmp_path / "drawing.png", "-frames:v", "3")
    run_ffmpeg(*source, "-vf", f"format={pixel_format}", *codec, path)

    picture = picture_of(split(path))

    assert picture[10, 10].tolist() == pytest.approx((255, 255, 255), abs=_TOLERANCE)
    assert picture[45, 80].tolist() == pytest.approx((255, 0, 0), abs=_TOLERANCE)
    assert picture[10, 140].tolist() == pytest.approx((128, 128, 255), abs=_TOLERANCE)


def combing(picture: npt.NDArray[np.int64]) -> float:
    """How much lines differ from the mean of their neighbours."""
    grey = picture.mean(2)
    return float(np.abs(2 * grey[1:-1] - grey[:-2] - grey[2:]).mean())


@pytest.mark.parametrize(
    ("name", "first", "codec"),
    [
        ("tff.mpg", "tff", ("-c:v", "mpeg2video", "-flags", "+ildct+ilme", "-q:v", "2")),
        ("bff.mp4", "bff", (*_X264, "-x264-params", "bff=1")),
    ],
)
def test_interlaced_pictures_have_no_combs(
    tmp_path: Path, split: Splitter, name: str, first: str, codec: Sequence[str]
) -> None:
    moving = "testsrc2=size=320x240:rate=50:d=1.2,scroll=h=0.02,format=yuv420p"
    woven, plain = tmp_path / name, tmp_path / "plain.mp4"
    source = ("-f", "lavfi", "-i", moving)
    run_ffmpeg(*source, "-vf", f"interlace=scan={first}:lowpass=off", *codec, woven)
    run_ffmpeg(*source, "-vf", "framestep=2", *_X264, plain)

    # Woven fields have 25.
    assert combing(picture_of(split(woven))) < 1.2 * combing(picture_of(split(plain)))


@pytest.mark.parametrize("second_format", ["yuv420p", "yuv444p"])
def test_size_and_format_change_on_the_way(
    tmp_path: Path, split: Splitter, second_format: str
) -> None:
    kinds = (("testsrc2", "320x180", "yuv420p"), ("smptehdbars", "160x90", second_format))
    parts = [
        make_video(
            tmp_path / f"{n}.h264", frames_per_shot=(25,), patterns=(pattern,), size=size,
            sound=False, codec=(*_X264, "-pix_fmt", pixel_format),
        )
        for n, (pattern, size, pixel_format) in enumerate(kinds)
    ]  # fmt: skip
    path = tmp_path / "joined.h264"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))

    result = split(path)

    assert [(s.start_ms, s.end_ms) for s in result.shots] == [(0, 1000), (1000, 2000)]
    assert [(k.width_px, k.height_px) for k in result.keyframes] == [(320, 180)] * 2
    # The light grey bar of the second picture, over the whole frame.
    bars = load_image(result.keyframes[1].path)
    assert bars[60, 60].tolist() == pytest.approx([180] * 3, abs=15)


def test_damage_in_the_middle_is_survived(tmp_path: Path, split: Splitter) -> None:
    path = make_video(tmp_path / "damaged.mp4", frames_per_shot=(50, 50), sound=False)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    for at in range(middle - 2000, middle + 2000, 31):
        data[at] ^= 0x55
    path.write_bytes(data)

    result = split(path)

    assert [(s.start_ms, s.end_ms) for s in result.shots] == [(0, 2000), (2000, 4000)]
    assert len(result.keyframes) == 2
    assert any("errors" in note for note in result.notes)
