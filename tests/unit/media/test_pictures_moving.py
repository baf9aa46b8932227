"""Animated pictures are short videos."""

import itertools
import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from media_factory import make_video
from PIL import Image as PillowImage
from PIL import ImageDraw

from pipeline.errors import InvalidMediaError, MediaLimitError
from pipeline.media import MediaLimits, SplitResult, load_image, probe_media
from schemas.records import MediaInfo

Splitter = Callable[..., SplitResult]

RED, GREEN, BLUE = (255, 0, 0, 255), (0, 128, 0, 255), (0, 0, 255, 255)
OPTIONS: dict[str, dict[str, Any]] = {
    "webp": {"lossless": True},
    "png": {"disposal": 1, "blend": 0},
    "avif": {"quality": 95},
    "gif": {"disposal": 2},
}


def scene(colour: tuple[int, int, int, int], at: int = 0) -> PillowImage.Image:
    """A coloured bar on nothing."""
    picture = PillowImage.new("RGBA", (96, 64), (0, 0, 0, 0))
    ImageDraw.Draw(picture).rectangle((8 + at, 8, 60 + at, 56), colour)
    return picture


def three_scenes(count: int) -> list[PillowImage.Image]:
    """Three shots of ``count`` frames each, the frames slightly different."""
    return [scene(c, (n % 2) * 2) for c in (RED, GREEN, BLUE) for n in range(count)]


def save(
    path: Path, frames: Sequence[PillowImage.Image], milliseconds: int | list[int], **more: Any
) -> Path:
    options = OPTIONS[path.suffix[1:]] | more
    frames[0].save(
        path, save_all=True, append_images=frames[1:], duration=milliseconds, loop=3, **options
    )
    return path


def probe(path: Path, limits: MediaLimits) -> MediaInfo:
    return probe_media(path, work_dir=path.parent, limits=limits).info


@pytest.mark.parametrize("suffix", ["webp", "png", "avif", "gif"])
def test_animation_is_a_video(
    tmp_path: Path, split: Splitter, limits: MediaLimits, suffix: str
) -> None:
    path = save(tmp_path / f"a.{suffix}", three_scenes(5), 200)

    info = probe(path, limits)
    result = split(path)

    assert (info.kind, info.duration_ms, info.width_px, info.height_px) == ("video", 3000, 96, 64)
    assert info.frame_rate == pytest.approx(5)
    assert [(s.start_ms, s.end_ms) for s in result.shots] == [(0, 1000), (1000, 2000), (2000, 3000)]
    assert result.notes == ()
    for shot_index, colour in enumerate((RED, GREEN, BLUE)):
        (keyframe,) = [k for k in result.keyframes if k.shot_index == shot_index][:1]
        pixels = load_image(keyframe.path)
        assert pixels[32, 32].tolist() == pytest.approx(colour[:3], abs=14)
        assert pixels[2, 2].tolist() == pytest.approx([255] * 3, abs=6)


@pytest.mark.parametrize("suffix", ["webp", "png", "gif"])
def test_times_are_exact(tmp_path: Path, split: Splitter, limits: MediaLimits, suffix: str) -> None:
    """Shots of unequal frames; the last one is held for long."""
    durations = [110, 333, 270, 50, 407, 1234, 90, 60, 4321]
    if suffix == "gif":
        # Hundredths of a second.
        durations = [round(d, -1) for d in durations]
    path = save(tmp_path / f"a.{suffix}", three_scenes(3), durations)

    info = probe(path, limits)
    result = split(path)

    edges = [0, sum(durations[:3]), sum(durations[:6]), sum(durations)]
    assert info.duration_ms == edges[-1]
    assert [(s.start_ms, s.end_ms) for s in result.shots] == list(itertools.pairwise(edges))
    for shot, edge in zip(result.shots, edges[:-1], strict=True):
        assert shot.start_pts is not None
        assert shot.time_base_num is not None
        assert shot.time_base_den is not None
        base = Fraction(shot.time_base_num, shot.time_base_den)
        assert shot.start_pts * base == Fraction(edge, 1000)
    assert result.notes == ()


@pytest.mark.parametrize("suffix", ["webp", "png", "gif"])
@pytest.mark.parametrize("milliseconds", [0, 10])
def test_no_delay_is_a_tenth_of_a_second(
    tmp_path: Path, limits: MediaLimits, split: Splitter, suffix: str, milliseconds: int
) -> None:
    path = save(tmp_path / f"a.{suffix}", three_scenes(4), milliseconds)

    assert probe(path, limits).duration_ms == 1200
    assert split(path).shots[-1].end_ms == 1200


@pytest.mark.parametrize("suffix", ["webp", "png", "avif", "gif"])
def test_one_frame_is_a_picture(
    tmp_path: Path, split: Splitter, limits: MediaLimits, suffix: str
) -> None:
    path = save(tmp_path / f"a.{suffix}", [scene(RED)], 200)

    assert probe(path, limits).kind == "image"
    (keyframe,) = split(path).keyframes
    assert load_image(keyframe.path)[32, 32].tolist() == pytest.approx(RED[:3], abs=14)


def test_picture_before_an_apng_is_not_shown(
    tmp_path: Path, split: Splitter, limits: MediaLimits
) -> None:
    frames = [scene(RED), *([scene(BLUE), scene(BLUE, 2)] * 5)]
    path = save(tmp_path / "a.png", frames, 100, default_image=True)

    result = split(path)

    assert probe(path, limits).duration_ms == 1000
    assert len(result.shots) == 1
    pixels = load_image(result.keyframes[0].path)
    assert pixels[32, 32].tolist() == pytest.approx(BLUE[:3], abs=14)


def test_orientation_of_an_animation(tmp_path: Path, split: Splitter, limits: MediaLimits) -> None:
    exif = PillowImage.Exif()
    exif[0x0112] = 6
    frames = [scene(RED), scene(RED, 2)]
    path = save(tmp_path / "a.webp", frames, 500, exif=exif.tobytes())

    info = probe(path, limits)
    (keyframe, *_) = split(path).keyframes

    assert (info.width_px, info.height_px) == (64, 96) == (keyframe.width_px, keyframe.height_px)


def test_too_many_frames(tmp_path: Path) -> None:
    path = save(tmp_path / "a.webp", three_scenes(3), 100)

    with pytest.raises(MediaLimitError, match="9 frames, more than the limit of 8"):
        probe(path, MediaLimits(max_animation_frames=8))


def test_too_many_pixels_over_all_frames(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", three_scenes(3), 100)

    with pytest.raises(MediaLimitError, match="55296 pixels in all its frames"):
        probe(path, MediaLimits(max_animation_pixels=50_000))


@pytest.mark.parametrize("side", [11_000, 60_000])
def test_a_frame_much_larger_than_those_before(tmp_path: Path, split: Splitter, side: int) -> None:
    path = save(tmp_path / "a.gif", three_scenes(1), 100)
    larger = b"," + struct.pack("<HHHHB", 0, 0, side, side, 0) + b"\x02\x02\x44\x01\0;"
    path.write_bytes(path.read_bytes()[:-1] + larger)

    with pytest.raises(MediaLimitError, match="frame 3 of the animation states more than"):
        split(path)


@pytest.mark.parametrize("suffix", ["webp", "png", "gif"])
def test_cut_off_animation(tmp_path: Path, split: Splitter, suffix: str) -> None:
    frames = [PillowImage.effect_noise((96, 64), 60 + n).convert("RGBA") for n in range(10)]
    path = save(tmp_path / f"a.{suffix}", frames, 100)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    with pytest.raises(InvalidMediaError, match=r"truncated|damaged"):
        split(path)


def test_heif_sequence(tmp_path: Path, split: Splitter, limits: MediaLimits) -> None:
    """HEVC in a track, as cameras store bursts; the brand alone tells it from a film."""
    codec = ("-c:v", "libx265", "-x265-params", "log-level=error", "-preset", "ultrafast")
    path = make_video(tmp_path / "a.mp4", frames_per_shot=(12, 13), sound=False, codec=codec)
    data = bytearray(path.read_bytes())
    data[8:12] = b"hevc"
    path.write_bytes(data)

    info = probe(path, limits)
    result = split(path)

    assert (info.kind, info.container, info.duration_ms) == ("video", "heif", 1000)
    assert (info.width_px, info.height_px, info.frame_rate) == (320, 180, 25)
    assert [(s.start_ms, s.end_ms) for s in result.shots] == [(0, 480), (480, 1000)]
