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


def make_clock(path: Path) -> Path:
    """A source for other files: at 1.2 of 2.4 s the picture cuts and a tone begins.

    Matroska with H.264 (25 frames a second, B-frames, a sync frame every 0.48 s) and PCM.
    """
    shots = [
        f"{name}=size=160x90:rate=25,trim=end_frame=30,format=yuv420p,setsar=1,setpts=PTS-STARTPTS"
        for name in ("testsrc2", "smptehdbars")
    ]
    tone = "aevalsrc='if(gte(t,1.2),0.5*sin(2*PI*1000*t),0)':s=48000:d=2.4[sound]"
    graph = f"{shots[0]}[a];{shots[1]}[b];[a][b]concat[video];{tone}"
    run_ffmpeg(
        "-filter_complex", graph, "-map", "[video]", "-map", "[sound]", "-c:v", "libx264",
        "-preset", "veryfast", "-bf", "2", "-g", "12", "-c:a", "pcm_s16le", path,
    )  # fmt: skip
    return path


def make_slides(path: Path, starts_ms: Sequence[int], *codec: str) -> Path:
    """Test patterns that begin at these times, one frame each; how long the last one lasts is for
    the muxer to say."""
    names = [f"{p}=size=160x90:rate=1,trim=end_frame=1,format=yuv420p,setsar=1" for p in PATTERNS]
    labels = "".join(f"[slide{n}]" for n in range(len(starts_ms)))
    chains = [f"{names[n % len(names)]}[slide{n}]" for n in range(len(starts_ms))]
    times = "+".join(f"eq(N,{n})*{at}" for n, at in enumerate(starts_ms))
    chains.append(f"{labels}concat=n={len(starts_ms)},settb=1/1000,setpts='{times}'[video]")
    run_ffmpeg(
        "-filter_complex", ";".join(chains), "-map", "[video]", "-fps_mode", "passthrough",
        "-enc_time_base", "1/1000", *codec, path,
    )  # fmt: skip
    return path


#: sRGB of vertical bars that colours are measured on.
PATCHES = (
    (255, 255, 255), (191, 191, 0), (0, 191, 191), (0, 191, 0), (191, 0, 191),
    (191, 0, 0), (0, 0, 191), (128, 128, 128), (200, 120, 80), (40, 80, 160),
)  # fmt: skip


def make_patches(path: Path, picture_filter: str, *codec: str, size: str = "320x180") -> Path:
    """Some frames of :data:`PATCHES`; the filter gets RGB. ``codec``: all that follows it."""
    width, height = map(int, size.split("x"))
    bars = Image.new("RGB", (width, height))
    for n, colour in enumerate(PATCHES):
        edges = n * width // len(PATCHES), (n + 1) * width // len(PATCHES)
        bars.paste(colour, (edges[0], 0, edges[1], height))
    png = path.with_suffix(".png")
    bars.save(png)
    loop = ("-loop", "1", "-framerate", "25")
    run_ffmpeg(*loop, "-i", png, "-vf", picture_filter, "-frames:v", "3", *codec, path)
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
