"""Films of known content: what was asked for is in the file, and always as the same bytes."""

import wave
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pysubs2
import pytest
from PIL import Image

from pipeline.errors import ConfigurationError
from workers.demo.film import FilmShot, Subtitle, SubtitleTrack, make_film, to_srt

MakeShots = Callable[..., list[FilmShot]]

COLOURS = {"red": (200, 30, 30), "green": (30, 160, 30), "blue": (30, 30, 200)}
#: How far apart two colours are still the same after H.264 (of 255).
COLOUR_TOLERANCE = 12

ENGLISH = SubtitleTrack(
    language="eng", lines=(Subtitle(start_ms=200, end_ms=900, text="First line,\nsecond line"),)
)
FRENCH = SubtitleTrack(language="fre", lines=(Subtitle(start_ms=250, end_ms=950, text="Déjà vu"),))


@pytest.fixture
def shots(tmp_path: Path) -> MakeShots:
    def make(*, text: str | None = None) -> list[FilmShot]:
        made = []
        for name, colour in COLOURS.items():
            photo = tmp_path / f"{name}.png"
            Image.new("RGB", (300, 300), colour).save(photo)
            made.append(FilmShot(photo=photo, label=name, duration_ms=1000, text=text))
        return made

    return make


@pytest.fixture
def tone(tmp_path: Path) -> Path:
    samples = (8000 * np.sin(np.arange(16_000 * 3) * 2 * np.pi * 440 / 16_000)).astype("<i2")
    path = tmp_path / "tone.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(samples.tobytes())
    return path


def _frames(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_every_shot_is_shown_for_its_time(tmp_path: Path, shots: MakeShots) -> None:
    film = tmp_path / "film.mp4"
    make_film(film, shots(), speech=None, work_dir=tmp_path)

    frames = _frames(film)

    assert len(frames) == 75
    assert frames[0].shape == (360, 640, 3)
    for number, colour in enumerate(COLOURS.values()):
        for frame in frames[number * 25 : (number + 1) * 25]:
            assert np.abs(frame.mean(axis=(0, 1)) - colour).max() < COLOUR_TOLERANCE


def test_words_are_white_on_a_dark_bar(tmp_path: Path, shots: MakeShots) -> None:
    film = tmp_path / "film.mp4"
    make_film(film, shots(text="NO ENTRY")[:1], speech=None, work_dir=tmp_path)

    frame = _frames(film)[10]

    picture, bar = frame[:280], frame[-60:]
    assert np.abs(picture.mean(axis=(0, 1)) - COLOURS["red"]).max() < COLOUR_TOLERANCE
    assert 0.01 < (bar.min(axis=2) > 200).mean() < 0.3
    assert (bar.max(axis=2) < 60).mean() > 0.6


@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "mov_text"), (".mkv", "subrip")])
def test_sound_and_subtitle_tracks(
    tmp_path: Path, shots: MakeShots, tone: Path, suffix: str, codec: str
) -> None:
    film = tmp_path / f"film{suffix}"
    make_film(film, shots(), speech=(tone, 3000), tracks=[ENGLISH, FRENCH], work_dir=tmp_path)

    with av.open(str(film)) as container:
        tracks = container.streams.subtitles
        assert [track.language for track in tracks] == ["eng", "fre"]
        assert {track.codec.canonical_name for track in tracks} == {codec}
        for track, wanted in zip(tracks, (ENGLISH, FRENCH), strict=True):
            container.seek(0)
            # An MP4 track fills the time between lines with samples of two zero bytes.
            (packet,) = [packet for packet in container.demux(track) if packet.size > 2]
            (line,) = wanted.lines
            assert line.text.encode() in bytes(packet)
            assert round(packet.pts * packet.time_base * 1000) == line.start_ms
        container.seek(0)
        sound = [frame.to_ndarray() for frame in container.decode(audio=0)]
        assert container.duration == pytest.approx(3_000_000, abs=50_000)
    assert np.abs(np.concatenate(sound, axis=1)).max() > 0.1


def test_the_same_bytes_again(tmp_path: Path, shots: MakeShots, tone: Path) -> None:
    for suffix in (".mp4", ".mkv"):
        first, second = tmp_path / f"first{suffix}", tmp_path / f"second{suffix}"
        for film in (first, second):
            make_film(film, shots(), speech=(tone, 3000), tracks=[ENGLISH], work_dir=tmp_path)
        assert first.read_bytes() == second.read_bytes()


def test_a_failing_ffmpeg_leaves_no_film(tmp_path: Path, shots: MakeShots) -> None:
    film = tmp_path / "film.mp4"
    with pytest.raises(ConfigurationError, match=r"could not make film\.mp4"):
        make_film(film, shots(), speech=(tmp_path / "missing.wav", 3000), work_dir=tmp_path)
    assert not film.exists()


def test_subrip_text_reads_back() -> None:
    lines = (
        Subtitle(start_ms=0, end_ms=1, text="a"),
        Subtitle(start_ms=3_723_004, end_ms=3_724_000, text="two\nlines"),
    )
    events = pysubs2.SSAFile.from_string(to_srt(lines), format_="srt")
    assert [(event.start, event.end, event.plaintext) for event in events] == [
        (line.start_ms, line.end_ms, line.text) for line in lines
    ]
