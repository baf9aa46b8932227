"""Which sound is taken, and what is measured of it."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from media_factory import make_picture, make_sound, make_video, run_ffmpeg

from pipeline.errors import ConfigurationError, UnsupportedMediaError
from pipeline.media import MediaLimits, SplitParams, SplitResult, load_audio, probe_media

Splitter = Callable[..., SplitResult]
#: Sines of the streams of :func:`make_streams`, in Hz.
ENGLISH, FRENCH, SURROUND, UNKNOWN = 400, 600, 800, 1000


def make_wave(path: Path, expression: str, seconds: float = 3) -> Path:
    run_ffmpeg("-f", "lavfi", "-i", f"aevalsrc={expression}:s=48000:d={seconds}", path)
    return path


def pitch_hz(result: SplitResult) -> int:
    assert result.audio_path is not None
    return int(np.abs(np.fft.rfft(load_audio(result.audio_path)[:16_000])).argmax())


@pytest.fixture(scope="module")
def streams(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stream 0: English; 1: French, with a title, the default one; 2: six channels, German; 3:
    without a language."""
    path = tmp_path_factory.mktemp("sound") / "streams.mkv"
    inputs: list[str] = []
    for pitch in (ENGLISH, FRENCH, SURROUND, UNKNOWN):
        inputs += ["-f", "lavfi", "-i", f"sine={pitch}:d=1.2:sample_rate=48000"]
    maps = [part for n in range(4) for part in ("-map", str(n))]
    run_ffmpeg(
        *inputs, *maps, "-c:a", "flac", "-ac:a:2", "6",
        "-metadata:s:a:0", "language=eng", "-metadata:s:a:1", "language=fre",
        "-metadata:s:a:1", "title=Voix off", "-metadata:s:a:2", "language=ger",
        "-disposition:a:0", "0", "-disposition:a:1", "default", path,
    )  # fmt: skip
    return path


def test_every_stream_is_listed(streams: Path, tmp_path: Path, limits: MediaLimits) -> None:
    listed = probe_media(streams, work_dir=tmp_path, limits=limits).info.streams

    assert [(s.stream_index, s.kind, s.channels, s.is_default) for s in listed] == [
        (0, "audio", 1, False),
        (1, "audio", 1, True),
        (2, "audio", 6, False),
        (3, "audio", 1, False),
    ]
    assert [s.language for s in listed] == ["eng", "fre", "ger", None]
    assert [s.title for s in listed] == [None, "Voix off", None, None]


@pytest.mark.parametrize(
    ("params", "index", "pitch"),
    [
        (SplitParams(), 1, FRENCH),
        (SplitParams(audio_languages=("de", "en")), 2, SURROUND),
        (SplitParams(audio_languages=("ja", "eng")), 0, ENGLISH),
        (SplitParams(audio_languages=("zh",)), 1, FRENCH),
        (SplitParams(audio_stream=3, audio_languages=("en",)), 3, UNKNOWN),
    ],
)
def test_which_stream_is_taken(
    streams: Path, split: Splitter, params: SplitParams, index: int, pitch: int
) -> None:
    result = split(streams, params=params)

    assert result.sound is not None
    assert result.sound.stream_index == index
    assert pitch_hz(result) == pitch
    assert result.notes == ()


def test_a_language_is_found_in_any_country(streams: Path, split: Splitter, tmp_path: Path) -> None:
    path = tmp_path / "canada.mkv"
    options = ("-disposition:a", "0", "-metadata:s:a:1", "language=fr-CA")
    run_ffmpeg("-i", streams, "-map", "0", "-c", "copy", *options, path)

    assert pitch_hz(split(path, params=SplitParams(audio_languages=("fr",)))) == FRENCH
    assert pitch_hz(split(path, params=SplitParams(audio_languages=("fr-FR",)))) == SURROUND


def test_what_is_no_language_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"audio_languages holds '\?'"):
        SplitParams(audio_languages=("en", "?"))


def test_where_no_sound_is_sent_it_is_silent(split: Splitter, tmp_path: Path) -> None:
    path = tmp_path / "gaps.mkv"
    tone = "sine=300:d=6:sample_rate=48000,aselect='not(between(t,2,4))'"
    run_ffmpeg(
        "-f", "lavfi", "-i", "testsrc2=size=64x36:rate=25:d=8", "-itsoffset", "2",
        "-f", "lavfi", "-i", tone, "-c:v", "mpeg4", "-c:a", "flac", path,
    )  # fmt: skip

    spans = [(s.start_ms, s.end_ms) for s in split(path).stretches if s.kind == "silent"]

    assert spans == [
        (0, pytest.approx(2000, abs=120)),
        (pytest.approx(4000, abs=120), pytest.approx(6000, abs=120)),
    ]


def test_language_and_title_are_told(streams: Path, split: Splitter) -> None:
    sound = split(streams).sound

    assert sound is not None
    assert (sound.language, sound.title) == ("fr", "Voix off")


def test_most_channels_where_none_is_the_default(
    streams: Path, split: Splitter, tmp_path: Path
) -> None:
    path = tmp_path / "none.mkv"
    run_ffmpeg("-i", streams, "-map", "0", "-c", "copy", "-disposition:a", "0", path)

    assert pitch_hz(split(path)) == SURROUND


def test_a_stream_that_is_not_there_is_a_note(streams: Path, split: Splitter) -> None:
    result = split(streams, params=SplitParams(audio_stream=7))

    assert pitch_hz(result) == FRENCH
    (note,) = result.notes
    assert "no audio stream 7" in note


def test_loudness_and_peak(tmp_path: Path, split: Splitter) -> None:
    # EBU Tech 3341: a stereo sine of 1 kHz at -23 dBFS is -23 LUFS.
    sine = "0.0707946*sin(2*PI*1000*t)"
    sound = split(make_wave(tmp_path / "a.wav", f"{sine}|{sine}")).sound

    assert sound is not None
    assert sound.loudness_lufs == pytest.approx(-23, abs=0.1)
    assert sound.peak_dbfs == pytest.approx(-23, abs=0.1)


def test_silence_has_no_loudness(tmp_path: Path, split: Splitter) -> None:
    result = split(make_wave(tmp_path / "a.wav", "0"))

    assert result.sound is not None
    assert (result.sound.loudness_lufs, result.sound.peak_dbfs) == (None, None)
    assert [(s.kind, s.start_ms, s.end_ms) for s in result.stretches] == [("silent", 0, 3000)]


def test_silent_stretches(tmp_path: Path, split: Splitter) -> None:
    gate = "'if(between(t,1,2.5)+gte(t,4),0.001,0.3)*sin(2*PI*500*t)'"
    path = make_wave(tmp_path / "a.wav", gate, seconds=5.2)

    def stretches(**params: float) -> list[tuple[int, int]]:
        found = split(path, params=SplitParams(**params)).stretches  # type: ignore[arg-type]
        return [(stretch.start_ms, stretch.end_ms) for stretch in found]

    assert stretches() == [
        (pytest.approx(1000, abs=10), pytest.approx(2500, abs=10)),
        (pytest.approx(4000, abs=10), 5200),
    ]
    assert stretches(min_stretch_ms=1300) == [
        (pytest.approx(1000, abs=10), pytest.approx(2500, abs=10))
    ]
    assert stretches(silence_dbfs=-70) == []


def test_damaged_sound_is_not_louder_than_full_scale(tmp_path: Path, split: Splitter) -> None:
    path = make_video(tmp_path / "damaged.mp4", frames_per_shot=(50, 50))
    data = bytearray(path.read_bytes())
    for at in range(len(data) // 2 - 20_000, len(data) // 2 + 20_000, 31):
        data[at] ^= 0x5A
    path.write_bytes(data)

    sound = split(path).sound

    assert sound is not None
    assert sound.peak_dbfs is not None
    assert sound.peak_dbfs <= 0


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mp3", ("-c:a", "libmp3lame")),
        ("a.m4a", ("-c:a", "aac", "-c:v", "png")),
        ("a.flac", ("-c:a", "flac")),
    ],
)
def test_cover_art_is_no_video(
    tmp_path: Path, split: Splitter, limits: MediaLimits, name: str, codec: Sequence[str]
) -> None:
    tone, cover = make_sound(tmp_path / "tone.wav"), make_picture(tmp_path / "c.png", colour=9)
    path = tmp_path / name
    run_ffmpeg(
        "-i", tone, "-i", cover, "-map", "0", "-map", "1", "-disposition:v", "attached_pic",
        *codec, path,
    )  # fmt: skip

    info = probe_media(path, work_dir=tmp_path, limits=limits).info
    result = split(path)

    assert (info.kind, info.width_px) == ("audio", None)
    assert [(s.start_ms, s.end_ms) for s in result.shots] == [(0, pytest.approx(2000, abs=60))]
    assert result.keyframes == ()
    assert pitch_hz(result) == 440


def test_sound_without_a_codec_is_a_note(tmp_path: Path, split: Splitter) -> None:
    path = make_video(tmp_path / "v.mp4", frames_per_shot=(25,))
    data = path.read_bytes()
    # The second description of samples is that of the sound.
    at = data.rindex(b"stsd")
    path.write_bytes(data[:at] + b"free" + data[at + 4 :])

    result = split(path)

    assert result.audio_path is None
    assert len(result.keyframes) == 1
    (note,) = result.notes
    assert "sound cannot be decoded" in note


def test_encrypted_media_is_refused_as_such(tmp_path: Path, limits: MediaLimits) -> None:
    path = tmp_path / "e.mp4"
    run_ffmpeg(
        "-i", make_video(tmp_path / "v.mp4", frames_per_shot=(5,)), "-c", "copy",
        "-encryption_scheme", "cenc-aes-ctr", "-encryption_key", "76a6c65c5ea762046bd749a2e632ccbb",
        "-encryption_kid", "a7e61c373e219033c21091fa607bf3b8", path,
    )  # fmt: skip

    with pytest.raises(UnsupportedMediaError, match="encrypted"):
        probe_media(path, work_dir=tmp_path, limits=limits)
