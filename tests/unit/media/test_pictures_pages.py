"""Pages of TIFFs."""

import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image as PillowImage
from PIL import ImageDraw

from pipeline.errors import InvalidMediaError
from pipeline.media import MediaLimits, SplitResult, load_image

Splitter = Callable[..., SplitResult]

RED, GREEN, BLUE = (255, 0, 0), (0, 128, 0), (0, 0, 255)


def page(colour: tuple[int, int, int], size: tuple[int, int] = (80, 60)) -> PillowImage.Image:
    """A colour with a figure whose place depends on it."""
    picture = PillowImage.new("RGB", size, "white")
    at = 5 + 20 * [RED, GREEN, BLUE].index(colour)
    ImageDraw.Draw(picture).rectangle((at, 5, at + 25, size[1] - 5), colour)
    return picture


def save(path: Path, pages: list[PillowImage.Image], **options: object) -> Path:
    pages[0].save(path, save_all=True, append_images=pages[1:], **options)
    return path


def test_each_page_is_a_keyframe_of_one_shot(tmp_path: Path, split: Splitter) -> None:
    """Pages of different sizes and modes; the last is the first one again."""
    pages = [page(RED), page(GREEN, (200, 100)), page(BLUE).convert("L"), page(RED)]

    result = split(save(tmp_path / "a.tif", pages, compression="tiff_lzw"))

    (shot,) = result.shots
    assert (shot.start_ms, shot.end_ms) == (0, 0)
    assert [k.keyframe_index for k in result.keyframes] == [0, 1, 2, 3]
    assert [(k.width_px, k.height_px) for k in result.keyframes] == [
        (80, 60), (200, 100), (80, 60), (80, 60),
    ]  # fmt: skip
    assert [k.picture_index for k in result.keyframes] == [0, 1, 2, 0]
    second = load_image(result.keyframes[1].path)
    assert second[50, 35].tolist() == pytest.approx(GREEN, abs=12)
    assert result.notes == ()


def test_pages_beyond_the_limit_are_a_note(tmp_path: Path, split: Splitter) -> None:
    path = save(tmp_path / "a.tif", [page(RED)] * 6)

    result = split(path, limits=MediaLimits(max_pages=4))

    assert [k.keyframe_index for k in result.keyframes] == [0, 1, 2, 3]
    assert result.notes == ("only the first 4 pages were taken; the file has more",)


def test_exactly_as_many_pages_as_allowed(tmp_path: Path, split: Splitter) -> None:
    result = split(save(tmp_path / "a.tif", [page(RED)] * 4), limits=MediaLimits(max_pages=4))

    assert len(result.keyframes) == 4
    assert result.notes == ()


def test_broken_later_page_is_a_note(tmp_path: Path, split: Splitter) -> None:
    path = save(tmp_path / "a.tif", [page(RED), page(GREEN), page(BLUE)], compression="tiff_lzw")
    _break_strip(path, 1)

    result = split(path)

    assert [k.keyframe_index for k in result.keyframes] == [0, 2]
    assert load_image(result.keyframes[1].path)[30, 55].tolist() == pytest.approx(BLUE, abs=12)
    assert ["page 1 cannot be read" in note for note in result.notes] == [True]


def test_broken_first_page_is_an_error(tmp_path: Path, split: Splitter) -> None:
    path = save(tmp_path / "a.tif", [page(RED), page(GREEN)], compression="tiff_lzw")
    _break_strip(path, 0)

    with pytest.raises(InvalidMediaError, match="TIFF picture is damaged"):
        split(path)


def test_page_with_too_many_pixels_is_a_note(tmp_path: Path, split: Splitter) -> None:
    path = save(tmp_path / "a.tif", [page(RED), page(GREEN, (300, 200)), page(BLUE)])

    result = split(path, limits=MediaLimits(max_pixels=10_000))

    assert [k.keyframe_index for k in result.keyframes] == [0, 2]
    assert ["page 1" in note and "pixels" in note for note in result.notes] == [True]


def test_thumbnail_of_a_page_is_no_page(tmp_path: Path, split: Splitter) -> None:
    path = tmp_path / "a.tif"
    small = page(RED, (160, 120)).resize((16, 12))
    small.encoderinfo = {"tiffinfo": {254: 1}}
    save(path, [page(RED, (160, 120)), small, page(BLUE)])

    result = split(path)

    assert [(k.keyframe_index, k.width_px) for k in result.keyframes] == [(0, 160), (1, 80)]


def test_directories_in_a_circle(tmp_path: Path, split: Splitter) -> None:
    path = save(tmp_path / "a.tif", [page(RED), page(GREEN)])
    data = bytearray(path.read_bytes())
    *_, last = _directories(data)
    struct.pack_into("<I", data, _end_of(data, last), _directories(data)[0])
    path.write_bytes(data)

    assert len(split(path).keyframes) == 2


def _end_of(data: bytes | bytearray, directory: int) -> int:
    return directory + 2 + 12 * struct.unpack_from("<H", data, directory)[0]


def _directories(data: bytes | bytearray) -> list[int]:
    found, at = [], struct.unpack_from("<I", data, 4)[0]
    while at:
        found.append(at)
        at = struct.unpack_from("<I", data, _end_of(data, at))[0]
    return found


def _break_strip(path: Path, number: int) -> None:
    """Have the strip of the given page lie behind the end of the file."""
    data = bytearray(path.read_bytes())
    directory = _directories(data)[number]
    for at in range(directory + 2, _end_of(data, directory), 12):
        if struct.unpack_from("<H", data, at)[0] == 273:
            struct.pack_into("<I", data, at + 8, 0x7FFF0000)
    path.write_bytes(data)
