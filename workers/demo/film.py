"""Makes films whose content is known: photographs, burned-in words, a reading, subtitles."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import ffmpeg
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pipeline.errors import ConfigurationError
from pipeline.media import find_ffmpeg

WIDTH_PX, HEIGHT_PX, FRAME_RATE = 640, 360, 25


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmShot:
    """A photograph shown for a while, with words burned into it if any. ``label``: what it is."""

    photo: Path
    label: str
    duration_ms: int
    text: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Subtitle:
    """One line of a subtitle track."""

    start_ms: int
    end_ms: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SubtitleTrack:
    """``language``: ISO 639-2, as containers write it."""

    language: str
    lines: tuple[Subtitle, ...]


def make_film(
    path: Path,
    shots: Sequence[FilmShot],
    *,
    speech: tuple[Path, int] | None,
    tracks: Sequence[SubtitleTrack] = (),
    work_dir: Path,
) -> None:
    """Write the film: H.264 and AAC in ``path``'s container, the same bytes on every run.

    ``speech``: a recording, and how much of it is heard, in ms.

    Raises:
        ConfigurationError: there is no ffmpeg, or it failed.
    """
    inputs = []
    for number, shot in enumerate(shots):
        slide = work_dir / f"{path.stem}-{number}.png"
        _slide(shot).save(slide)
        seconds = shot.duration_ms / 1000
        inputs.append(ffmpeg.input(str(slide), loop=1, framerate=FRAME_RATE, t=seconds))
    picture = ffmpeg.concat(*inputs, v=1, a=0).filter("format", "yuv420p")
    streams = [picture]
    options: dict[str, object] = {
        "c:v": "libx264", "preset": "veryfast", "crf": 20, "threads": 1, "g": 2 * FRAME_RATE,
        "fflags": "+bitexact", "flags:v": "+bitexact", "flags:a": "+bitexact",
        "map_metadata": -1, "t": sum(shot.duration_ms for shot in shots) / 1000,
    }  # fmt: skip
    if speech is not None:
        file, duration_ms = speech
        streams.append(ffmpeg.input(str(file), t=duration_ms / 1000).audio)
        options |= {"c:a": "aac", "b:a": "96k", "ar": 44100}
    for number, track in enumerate(tracks):
        lines = work_dir / f"{path.stem}-{number}.srt"
        lines.write_text(to_srt(track.lines), encoding="utf-8")
        streams.append(ffmpeg.input(str(lines))["s"])
        options["c:s"] = "mov_text" if path.suffix == ".mp4" else "srt"
        options[f"metadata:s:s:{number}"] = f"language={track.language}"
    partial = path.with_name(f".part-{path.name}")
    command = ffmpeg.output(*streams, str(partial), **options).global_args("-nostdin")
    try:
        command.run(cmd=str(find_ffmpeg()), quiet=True, overwrite_output=True)
    except ffmpeg.Error as error:
        last = error.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise ConfigurationError(f"ffmpeg could not make {path.name}: {' '.join(last)}") from error
    partial.replace(path)


def to_srt(lines: Sequence[Subtitle]) -> str:
    """The lines as SubRip text."""
    return "\n".join(
        f"{number}\n{_stamp(line.start_ms)} --> {_stamp(line.end_ms)}\n{line.text}\n"
        for number, line in enumerate(lines, start=1)
    )


def _stamp(milliseconds: int) -> str:
    seconds, fraction = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02},{fraction:03}"


def _slide(shot: FilmShot) -> Image.Image:
    """The photograph filling the frame, its words in white on a dark bar at the bottom."""
    photo = Image.open(shot.photo).convert("RGB")
    scale = max(WIDTH_PX / photo.width, HEIGHT_PX / photo.height)
    size = (round(photo.width * scale), round(photo.height * scale))
    pixels = cv2.resize(np.asarray(photo), size, interpolation=cv2.INTER_AREA)
    left, top = (size[0] - WIDTH_PX) // 2, (size[1] - HEIGHT_PX) // 2
    slide = Image.fromarray(pixels[top : top + HEIGHT_PX, left : left + WIDTH_PX])
    if shot.text:
        draw = ImageDraw.Draw(slide)
        draw.rectangle((0, HEIGHT_PX - 64, WIDTH_PX, HEIGHT_PX), fill=(16, 16, 16))
        font = ImageFont.load_default(size=36)
        middle = (WIDTH_PX / 2, HEIGHT_PX - 32)
        draw.text(middle, shot.text, fill=(255, 255, 255), font=font, anchor="mm")
    return slide
