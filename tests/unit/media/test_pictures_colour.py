"""What pixels become: colours by profile, depth, transparency."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from picture_factory import (
    flat,
    grey_profile,
    rgb_profile,
)
from PIL import Image as PillowImage

from pipeline.media import SplitParams, SplitResult, load_image
from schemas.records import Image

Splitter = Callable[..., SplitResult]

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)
#: JPEG at quality 95 keeps flat colours this exactly.
CLOSE = 4
SHARP = SplitParams(jpeg_quality=95)


def only_keyframe(result: SplitResult) -> Image:
    (keyframe,) = result.keyframes
    pixels = load_image(keyframe.path)
    assert pixels.shape == (keyframe.height_px, keyframe.width_px, 3)
    return pixels


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "avif"])
def test_colours_are_what_the_profile_means(tmp_path: Path, split: Splitter, suffix: str) -> None:
    """A profile that swaps red and blue."""
    profile = rgb_profile(2.2, (b"bXYZ", b"gXYZ", b"rXYZ"))
    flat((250, 5, 5)).save(tmp_path / f"a.{suffix}", icc_profile=profile, quality=95)

    result = split(tmp_path / f"a.{suffix}", params=SHARP)

    assert only_keyframe(result)[20, 20].tolist() == pytest.approx([5, 5, 250], abs=8)
    assert result.notes == ()


def test_gamma_of_a_profile(tmp_path: Path, split: Splitter) -> None:
    flat((128, 128, 128)).save(tmp_path / "a.png", icc_profile=rgb_profile(1.0))

    pixels = only_keyframe(split(tmp_path / "a.png", params=SHARP))

    # Half of the light is 188 in sRGB.
    assert pixels[20, 20].tolist() == pytest.approx([188] * 3, abs=CLOSE)


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_grey_profile(tmp_path: Path, split: Splitter, mode: str) -> None:
    colour = 128 if mode == "L" else (128, 255)
    flat(colour, mode).save(tmp_path / "a.png", icc_profile=grey_profile(1.0))

    result = split(tmp_path / "a.png", params=SHARP)

    assert only_keyframe(result)[20, 20].tolist() == pytest.approx([188] * 3, abs=CLOSE)
    assert result.notes == ()


@pytest.mark.parametrize(
    ("profile", "note"),
    [
        (b"no profile at all", "profile"),
        (rgb_profile(2.2)[:200], "broken"),
        (grey_profile(2.2), "not for pictures of kind RGB"),
        (rgb_profile(2.2) + bytes(5 * 1024**2), "too large"),
    ],
    ids=["nonsense", "cut off", "grey", "huge"],
)
def test_bad_profile_is_a_note(tmp_path: Path, split: Splitter, profile: bytes, note: str) -> None:
    flat((200, 30, 60)).save(tmp_path / "a.webp", icc_profile=profile, lossless=True)

    result = split(tmp_path / "a.webp", params=SHARP)

    assert only_keyframe(result)[20, 20].tolist() == pytest.approx([200, 30, 60], abs=CLOSE)
    assert [note in text for text in result.notes] == [True]


def _png_with(path: Path, *chunks: tuple[bytes, bytes]) -> Path:
    """A flat PNG with more chunks in front of its pixels."""
    buffer = io.BytesIO()
    flat((200, 30, 60)).save(buffer, "PNG")
    data = buffer.getvalue()
    added = b"".join(
        struct.pack(">I", len(content)) + kind + content
        + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )  # fmt: skip
    path.write_bytes(data[:33] + added + data[33:])
    return path


def test_profile_bomb_in_a_png_is_a_note(tmp_path: Path, split: Splitter) -> None:
    bomb = b"icc\0\0" + zlib.compress(bytes(50 * 1024**2))

    result = split(_png_with(tmp_path / "a.png", (b"iCCP", bomb)), params=SHARP)

    assert only_keyframe(result)[20, 20].tolist() == pytest.approx([200, 30, 60], abs=CLOSE)
    assert ["too large" in text for text in result.notes] == [True]


def test_text_bombs_in_a_png_are_passed_over(tmp_path: Path, split: Splitter) -> None:
    bomb = zlib.compress(bytes(50 * 1024**2))
    path = _png_with(
        tmp_path / "a.png",
        (b"zTXt", b"Comment\0\0" + bomb),
        (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + bomb),
    )

    pixels = only_keyframe(split(path, params=SHARP))

    assert pixels[20, 20].tolist() == pytest.approx([200, 30, 60], abs=CLOSE)


def test_cmyk_jpeg_without_a_profile(tmp_path: Path, split: Splitter) -> None:
    """Cyan alone, and ink that Adobe writes inverted."""
    flat((255, 0, 0, 0), "CMYK").save(tmp_path / "cyan.jpg", quality=95)
    flat((0, 0, 0, 0), "CMYK").save(tmp_path / "paper.jpg", quality=95)

    cyan = only_keyframe(split(tmp_path / "cyan.jpg", params=SHARP))
    paper = only_keyframe(split(tmp_path / "paper.jpg", params=SHARP))

    assert cyan[20, 20].tolist() == pytest.approx([0, 255, 255], abs=CLOSE)
    assert paper[20, 20].tolist() == pytest.approx(WHITE, abs=CLOSE)


def test_rgb_profile_on_a_cmyk_picture_is_a_note(tmp_path: Path, split: Splitter) -> None:
    flat((255, 0, 0, 0), "CMYK").save(tmp_path / "a.jpg", quality=95, icc_profile=rgb_profile(1.0))

    result = split(tmp_path / "a.jpg", params=SHARP)

    assert only_keyframe(result)[20, 20].tolist() == pytest.approx([0, 255, 255], abs=CLOSE)
    assert ["not for pictures of kind CMYK" in text for text in result.notes] == [True]


def test_lab_tiff(tmp_path: Path, split: Splitter) -> None:
    flat((200, 30, 60)).convert("LAB").save(tmp_path / "a.tif")

    pixels = only_keyframe(split(tmp_path / "a.tif", params=SHARP))

    assert pixels[20, 20].tolist() == pytest.approx([200, 30, 60], abs=6)


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("value", [0, 257 * 40, 32768, 65535])
def test_16_bit_grey_is_scaled(tmp_path: Path, split: Splitter, suffix: str, value: int) -> None:
    values = np.full((40, 40), value, np.uint16)
    PillowImage.fromarray(values).save(tmp_path / f"a.{suffix}")

    pixels = only_keyframe(split(tmp_path / f"a.{suffix}", params=SHARP))

    assert pixels[20, 20].tolist() == pytest.approx([value / 257] * 3, abs=2)


def test_16_bit_rgb_png(tmp_path: Path, split: Splitter) -> None:
    row = b"\0" + struct.pack(">HHH", 65535, 32768, 257 * 20) * 32
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", 32, 32, 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(row * 32)),
        (b"IEND", b""),
    ]
    data = b"".join(
        struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks
    )
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + data)

    pixels = only_keyframe(split(tmp_path / "a.png", params=SHARP))

    assert pixels[16, 16].tolist() == pytest.approx([255, 128, 20], abs=CLOSE)


@pytest.mark.parametrize(
    ("low", "high", "middle"),
    [(0.0, 1.0, 64), (-1000.0, 3000.0, 127)],
    ids=["between 0 and 1", "of any range: stretched"],
)
def test_float_tiff(tmp_path: Path, split: Splitter, low: float, high: float, middle: int) -> None:
    values = np.full((48, 48), low, np.float32)
    values[:16] = high
    values[16:32] = 0.25 if high == 1 else 1000
    values[32:, :24] = np.nan
    PillowImage.fromarray(values).save(tmp_path / "a.tif")

    pixels = only_keyframe(split(tmp_path / "a.tif", params=SHARP))

    assert pixels[8, 24].tolist() == pytest.approx([255] * 3, abs=CLOSE)
    assert pixels[24, 24].tolist() == pytest.approx([middle] * 3, abs=CLOSE)
    assert pixels[44, 10].tolist() == pytest.approx([0] * 3, abs=CLOSE)
    assert pixels[44, 40].tolist() == pytest.approx([0] * 3, abs=CLOSE)


def test_1_bit_is_shrunk_to_grey(tmp_path: Path, split: Splitter) -> None:
    checks = np.indices((800, 800)).sum(0) % 2 == 0
    PillowImage.fromarray(checks).save(tmp_path / "a.tif", compression="group4")

    pixels = only_keyframe(split(tmp_path / "a.tif", params=SplitParams(keyframe_max_side_px=100)))

    assert pixels[50, 50].tolist() == pytest.approx([127] * 3, abs=6)


@pytest.mark.parametrize("kind", ["palette", "grey with alpha", "transparent colour", "16-bit key"])
def test_transparency_is_on_white(tmp_path: Path, split: Splitter, kind: str) -> None:
    """The left half transparent, the right half dark."""
    path = tmp_path / "a.png"
    if kind == "palette":
        picture = PillowImage.new("P", (80, 40), 0)
        picture.putpalette([0, 0, 0, 30, 30, 30])
        picture.paste(1, (40, 0, 80, 40))
        picture.save(path, transparency=0)
    elif kind == "grey with alpha":
        picture = PillowImage.new("LA", (80, 40), (0, 0))
        picture.paste((30, 255), (40, 0, 80, 40))
        picture.save(path)
    elif kind == "transparent colour":
        picture = PillowImage.new("RGB", (80, 40), (0, 0, 1))
        picture.paste((30, 30, 30), (40, 0, 80, 40))
        picture.save(path, transparency=(0, 0, 1))
    else:
        values = np.zeros((40, 80), np.uint16)
        values[:, 40:] = 30 * 257
        PillowImage.fromarray(values).save(path, transparency=0)

    pixels = only_keyframe(split(path, params=SHARP))

    assert pixels[20, 10].tolist() == pytest.approx(WHITE, abs=CLOSE)
    assert pixels[20, 70].tolist() == pytest.approx([30] * 3, abs=CLOSE)


def test_no_dark_fringes_around_transparency(tmp_path: Path, split: Splitter) -> None:
    """Stripes of opaque white in transparent black, shrunk: all of it is white."""
    values = np.zeros((400, 400, 4), np.uint8)
    values[:, ::5] = 255
    PillowImage.fromarray(values).save(tmp_path / "a.png")

    pixels = only_keyframe(split(tmp_path / "a.png", params=SplitParams(keyframe_max_side_px=60)))

    assert pixels.min() >= 252
