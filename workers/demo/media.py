"""The demo's bucket, as a folder: photographs, a reading, a clip, and films of known content."""

import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from workers.demo.film import FilmShot, Subtitle, SubtitleTrack, make_film, to_srt
from workers.demo.packages import fetch_samples

#: Raised when the media below change, so that an older folder is made anew.
_VERSION = "2"

#: The film, under ``films/film.mp4``: what must be found in it.
FILM_SHOTS = (
    ("chelsea.png", "cat", 4000, None),
    ("coffee.png", "espresso", 4000, "CAFE MEDIAWEAVE 1859"),
    ("rocket.jpg", "missile", 4000, None),
    ("motorcycle.png", "motorcycle", 4000, None),
    ("cheetah.jpg", "cheetah", 4000, None),
)
#: The reading ends after "the season of darkness".
FILM_SPEECH_MS = 16_900
FILM_SPEECH = "best of times", "worst of times", "age of wisdom", "season of light"
FILM_SUBTITLES = SubtitleTrack(
    language="eng",
    lines=(
        Subtitle(start_ms=800, end_ms=4600, text="It was the best of times,\nit was the worst"),
        Subtitle(start_ms=4800, end_ms=8600, text="It was the age of wisdom"),
        Subtitle(start_ms=12800, end_ms=16500, text="It was the season of Light"),
    ),
)
#: A silent film in Matroska with two subtitle tracks, and a sidecar in a third language.
SILENT_SHOTS = (
    ("lion.jpg", "lion", 2000, None),
    ("motorcycle.png", "motorcycle", 3000, "NO ENTRY"),
)
SILENT_TRACKS = (
    SubtitleTrack(
        language="eng", lines=(Subtitle(start_ms=200, end_ms=1800, text="A lion at rest"),)
    ),
    SubtitleTrack(
        language="fre", lines=(Subtitle(start_ms=200, end_ms=1800, text="Un lion au repos"),)
    ),
)
SILENT_SIDECAR = (Subtitle(start_ms=2100, end_ms=4900, text="Ein Motorrad, geparkt"),)
SILENT_NAME = "Café trailer + extras"
#: The settings' profiles: the film is listened to though it has subtitles, to show both.
PROFILES: dict[str, Any] = {
    name: {"extends": name, "parameters": {"speech": {"when": "always"}}}
    for name in ("offline", "hub")
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoMedia:
    """``bucket`` is the folder whose files go into the bucket, ``samples`` by their names."""

    bucket: Path
    samples: dict[str, Path]


def build_demo_media(folder: Path) -> DemoMedia:
    """Fetch and make everything under ``folder``; what is there is kept.

    Raises:
        ConfigurationError: sample media cannot be fetched, or there is no ffmpeg.
    """
    samples = fetch_samples(folder / "samples")
    bucket = folder / "bucket"
    stamp = folder / "bucket.version"
    if not stamp.is_file() or stamp.read_text(encoding="utf-8") != _VERSION:
        _build(folder, bucket, samples)
        stamp.write_text(_VERSION, encoding="utf-8")
    return DemoMedia(bucket=bucket, samples=samples)


def _build(folder: Path, bucket: Path, samples: dict[str, Path]) -> None:
    shutil.rmtree(bucket, ignore_errors=True)
    for name in ("photos", "films", "sound", "clips"):
        (bucket / name).mkdir(parents=True)
    for name in ("chelsea.png", "coffee.png", "rocket.jpg", "page.png", "lion.jpg"):
        shutil.copyfile(samples[name], bucket / "photos" / name)
    # The same bytes at a second place: one asset, two locations.
    shutil.copyfile(samples["chelsea.png"], bucket / "photos" / "the same cat again.png")
    shutil.copyfile(samples["beckett.wav"], bucket / "sound" / "beckett.wav")
    shutil.copyfile(samples["world.mp4"], bucket / "clips" / "world.mp4")
    with tempfile.TemporaryDirectory(dir=folder) as work:
        make_film(
            bucket / "films" / "film.mp4",
            _film_shots(FILM_SHOTS, samples),
            speech=(samples["two_cities.wav"], FILM_SPEECH_MS),
            tracks=[FILM_SUBTITLES],
            work_dir=Path(work),
        )
        make_film(
            bucket / "films" / f"{SILENT_NAME}.mkv",
            _film_shots(SILENT_SHOTS, samples),
            speech=None,
            tracks=SILENT_TRACKS,
            work_dir=Path(work),
        )
    sidecar = bucket / "films" / f"{SILENT_NAME}.de.srt"
    sidecar.write_text(to_srt(SILENT_SIDECAR), encoding="utf-8")


def _film_shots(
    shots: tuple[tuple[str, str, int, str | None], ...], samples: dict[str, Path]
) -> list[FilmShot]:
    return [
        FilmShot(photo=samples[photo], label=label, duration_ms=duration_ms, text=text)
        for photo, label, duration_ms, text in shots
    ]


def main() -> None:
    """``python -m workers.demo.media FOLDER``"""
    try:
        media = build_demo_media(Path(sys.argv[1]))
    except PipelineError as error:
        sys.exit(f"mediaweave demo: {error}")
    print(f"sample media in {media.bucket}")


if __name__ == "__main__":
    main()
