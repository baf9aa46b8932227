"""Media for tests, made with ffmpeg: everything in it is known."""

import struct
import subprocess
import zlib
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from pipeline.media import find_ffmpeg

#: Pictures that differ strongly from each other and are not empty.
PATTERNS = ("testsrc2", "smptehdbars", "mandelbrot", "yuvtestsrc", "rgbtestsrc")


def run_ffmpeg(*arguments: str | Path) -> None:
    """Run ffmpeg; overwrites; fails loudly."""
    command = [str(find_ffmpeg()), "-nostdin", "-v", "error", "-y", *map(str, arguments)]
    subprocess.run(command, check=True, capture_output=True)


def make_video(
    path: Path,
    *,
    frames_per_shot: Sequence[int] = (50, 50),
    patterns: Sequence[str] = PATTERNS,
    rate: str = "25",
    size: str = "320x180",
    sound: bool = True,
    codec: Sequence[str] = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p"),
    picture_filter: str = "null",
    extra: Sequence[str | Path] = (),
) -> Path:
    """A video whose shots are different test patterns, cut after the given numbers of frames.

    The sound, if any, is a 440 Hz sine of the same length. ``picture_filter`` is applied last.
    """
    chains, labels = [], ""
    for index, count in enumerate(frames_per_shot):
        source = patterns[index % len(patterns)]
        separator = ":" if "=" in source else "="
        chains.append(
            f"{source}{separator}size={size}:rate={rate},trim=end_frame={count},"
            f"setpts=PTS-STARTPTS,format=yuv420p,setsar=1[shot{index}]"
        )
        labels += f"[shot{index}]"
    chains.append(f"{labels}concat=n={len(frames_per_shot)}:v=1:a=0,{picture_filter}[video]")
    arguments: list[str | Path] = []
    if sound:
        numerator, _, denominator = rate.partition("/")
        seconds = sum(frames_per_shot) * int(denominator or 1) / int(numerator)
        chains.append(f"sine=frequency=440:sample_rate=44100:duration={seconds}[sound]")
    arguments += ["-filter_complex", ";".join(chains), "-map", "[video]"]
    if sound:
        arguments += ["-map", "[sound]", "-c:a", "aac"]
    run_ffmpeg(*arguments, *codec, "-fps_mode", "passthrough", *extra, path)
    return path


def make_sound(path: Path, *, seconds: float = 2.0, frequency_hz: int = 440) -> Path:
    """A sine tone in the format that the file name says."""
    source = f"sine=frequency={frequency_hz}:sample_rate=44100:duration={seconds}"
    run_ffmpeg("-f", "lavfi", "-i", source, path)
    return path


def make_srt(path: Path, cues: Sequence[tuple[str, str, str]], encoding: str = "utf-8") -> Path:
    """A SubRip file of (start, end, text)."""
    blocks = [f"{n}\n{start} --> {end}\n{text}\n" for n, (start, end, text) in enumerate(cues, 1)]
    path.write_bytes("\n".join(blocks).encode(encoding))
    return path


def add_subtitles(
    video: Path, tracks: Sequence[tuple[Path, str]], path: Path, *, codec: str = "srt"
) -> Path:
    """The video with subtitle streams of (file, language)."""
    inputs: list[str | Path] = ["-i", video]
    maps: list[str] = ["-map", "0"]
    for index, (track, language) in enumerate(tracks):
        inputs += ["-i", track]
        maps += ["-map", str(index + 1), f"-metadata:s:s:{index}", f"language={language}"]
    run_ffmpeg(*inputs, *maps, "-c", "copy", "-c:s", codec, path)
    return path


def turn_mp4(path: Path, matrix: tuple[int, int, int, int]) -> None:
    """Write the first track's rotation (a, b, c, d of its matrix: -1, 0 or 1) in place."""
    data = bytearray(path.read_bytes())
    a, b, c, d = (value * 0x10000 for value in matrix)
    at = data.index(b"tkhd") + 44
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 0x40000000)
    path.write_bytes(data)


def make_picture(path: Path, *, colour: int) -> Path:
    """A tiny picture; another colour (0-255) is another content."""
    Image.new("RGB", (16, 16), (colour % 256, 60, 200)).save(path)
    return path


def make_png_claiming(path: Path, *, width: int, height: int) -> Path:
    """A few bytes of PNG whose header states any size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(1000)))
        + chunk(b"IEND", b"")
    )
    return path
