"""Picture and sound on one clock, and where things begin and end."""

import random
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from media_factory import make_clock, make_slides, make_video, run_ffmpeg

from pipeline.media import MediaLimits, SplitParams, SplitResult, load_audio, probe_media

Splitter = Callable[..., SplitResult]
#: What a person does not notice; containers round, codecs delay.
_IN_STEP_MS = 20
_COPY = ("-c:v", "copy")
_X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")


def spans(result: SplitResult) -> list[tuple[int, int]]:
    return [(shot.start_ms, shot.end_ms) for shot in result.shots]


def onset_ms(result: SplitResult) -> float:
    """Where the sound becomes loud."""
    assert result.audio_path is not None
    return float(np.argmax(np.abs(load_audio(result.audio_path)) > 0.1)) / 16


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clock(tmp_path_factory.mktemp("clock") / "clock.mkv")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("edit_list.mp4", (*_COPY, "-c:a", "aac")),
        ("opus.mp4", (*_COPY, "-c:a", "libopus")),
        ("opus.mkv", (*_COPY, "-c:a", "libopus")),
        ("late_start.mkv", (*_COPY, "-c:a", "flac", "-output_ts_offset", "7.77")),
        ("aac.ts", (*_COPY, "-c:a", "aac")),
        # The clock of 33 bits overflows in the middle.
        ("overflow.ts", (*_COPY, "-c:a", "aac", "-output_ts_offset", "95442")),
        ("mp2.mpg", ("-c:v", "mpeg2video", "-bf", "2", "-c:a", "mp2")),
        ("no_timestamps.avi", ("-c:v", "mpeg4", "-bf", "2", "-c:a", "libmp3lame")),
        ("aac.flv", (*_COPY, "-c:a", "aac")),
        ("vorbis.ogv", ("-c:v", "libtheora", "-q:v", "8", "-c:a", "libvorbis")),
        ("sound_late.mp4", (*_COPY, "-af", "atrim=start=0.7", "-c:a", "aac")),
        ("sound_late.mkv", (*_COPY, "-af", "atrim=start=0.7", "-c:a", "libopus")),
        ("sound_short.mkv", (*_COPY, "-af", "atrim=end=1.6", "-c:a", "flac")),
        ("picture_late.mp4", ("-vf", "trim=start=0.6", *_X264, "-c:a", "aac")),
        ("picture_late.mkv", ("-vf", "trim=start=0.6", *_X264, "-c:a", "aac")),
    ],
)
def test_picture_and_sound_are_in_step(
    tmp_path: Path, split: Splitter, clock: Path, name: str, options: Sequence[str]
) -> None:
    path = tmp_path / name
    run_ffmpeg("-i", clock, "-fps_mode", "passthrough", *options, path)

    result = split(path)

    (cut,) = [shot.start_ms for shot in result.shots[1:]]
    # Streams that begin with a codec's delay begin so much before the picture.
    assert cut == pytest.approx(1200, abs=45)
    assert onset_ms(result) == pytest.approx(cut, abs=_IN_STEP_MS)
    assert result.shots[-1].end_ms == pytest.approx(2400, abs=90)
    assert result.notes == ()


def test_edit_list_that_skips_the_beginning(tmp_path: Path, split: Splitter, clock: Path) -> None:
    whole, path = tmp_path / "whole.mp4", tmp_path / "skipped.mp4"
    run_ffmpeg("-i", clock, *_COPY, "-c:a", "aac", whole)
    # Begins on a frame that is no sync frame: those before it are there, but not shown.
    run_ffmpeg("-ss", "0.6", "-i", whole, "-c", "copy", path)

    result = split(path)

    assert result.shots[1].start_ms == pytest.approx(600, abs=1)
    assert onset_ms(result) == pytest.approx(600, abs=_IN_STEP_MS)
    assert result.shots[-1].end_ms == pytest.approx(1800, abs=10)


@pytest.mark.parametrize(
    ("rate", "frames", "edges"),
    [
        ("24000/1001", 48, (1001, 2002)),
        ("30000/1001", 60, (1001, 2002)),
        ("50", 100, (1000, 2000)),
        ("120", 240, (1000, 2000)),
    ],
)
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_frame_rates(
    tmp_path: Path, split: Splitter, rate: str, frames: int, edges: Sequence[int], suffix: str
) -> None:
    path = make_video(
        tmp_path / f"rate.{suffix}", frames_per_shot=(frames // 2,) * 2, rate=rate,
        size="160x90", sound=False,
    )  # fmt: skip

    assert spans(split(path)) == [(0, edges[0]), (edges[0], pytest.approx(edges[1], abs=1))]


@pytest.mark.parametrize("name", ["bare.h264", "bare.m2v", "bare.ivf"])
def test_streams_without_a_container(tmp_path: Path, split: Splitter, name: str) -> None:
    codec = {"ivf": ("-c:v", "libvpx", "-deadline", "realtime"), "m2v": ("-c:v", "mpeg2video")}
    path = make_video(
        tmp_path / name, size="160x90", frames_per_shot=(30, 30), sound=False,
        codec=codec.get(name[5:], (*_X264, "-bf", "2")),
    )  # fmt: skip

    assert spans(split(path)) == [(0, 1200), (1200, 2400)]


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("slides.mp4", (*_X264, "-video_track_timescale", "1000")),
        ("slides.mkv", _X264),
        ("slides.webm", ("-c:v", "libvpx", "-deadline", "realtime")),
    ],
)
def test_last_frame_lasts_as_the_file_says(
    tmp_path: Path, split: Splitter, name: str, codec: Sequence[str]
) -> None:
    # The muxer gives the last one a second, not the two of the one before it.
    path = make_slides(tmp_path / name, (0, 1000, 3000), *codec)

    assert split(path).shots[-1].end_ms == 4000


def test_last_frame_does_not_outlast_the_file(tmp_path: Path, split: Splitter) -> None:
    """Its header and its last packet disagree."""
    path = make_slides(tmp_path / "slides.mkv", (0, 1000, 3000), *_X264)
    data = path.read_bytes()
    assert data.count(struct.pack(">d", 4000)) == 1
    path.write_bytes(data.replace(struct.pack(">d", 4000), struct.pack(">d", 3500)))

    assert split(path).shots[-1].end_ms == 3500


def test_last_frame_may_last_longer_than_all_others(tmp_path: Path, split: Splitter) -> None:
    path = make_slides(tmp_path / "s.mp4", (0, 1000, 3000), *_X264, "-video_track_timescale", "1k")
    data = bytearray(path.read_bytes())
    # The last frame's second becomes five: in the table of steps and in all headers.
    entry = struct.pack(">II", 1, 1000)
    at = data.rindex(entry, 0, data.index(b"stss"))
    data[at : at + 8] = struct.pack(">II", 1, 5000)
    data = data.replace((4000).to_bytes(4, "big"), (8000).to_bytes(4, "big"))
    path.write_bytes(data)

    result = split(path)

    assert (result.shots[-1].end_pts, result.shots[-1].end_ms) == (8000, 8000)


def test_header_that_states_too_much_makes_no_long_frame(tmp_path: Path, split: Splitter) -> None:
    video = make_video(tmp_path / "v.mp4", frames_per_shot=(25,), size="160x90", sound=False)
    data = video.read_bytes().replace((1000).to_bytes(4, "big"), (1000_000).to_bytes(4, "big"))
    video.write_bytes(data)

    result = split(video)

    assert result.shots[-1].end_ms == 1000


def test_absurd_frame_rate_is_measured(tmp_path: Path, limits: MediaLimits) -> None:
    path = make_video(
        tmp_path / "rate.mkv", frames_per_shot=(45,), rate="30000/1001", size="160x90", sound=False
    )
    data = path.read_bytes()
    # Matroska's DefaultDuration, in ns: a millisecond.
    at = data.index(b"\x23\xe3\x83\x84") + 4
    path.write_bytes(data[:at] + (1_000_000).to_bytes(4, "big") + data[at + 4 :])

    found = probe_media(path, work_dir=tmp_path, limits=limits).info.frame_rate

    assert found == pytest.approx(29.97, rel=0.01)


def test_damaged_clock_does_not_leap(tmp_path: Path, split: Splitter) -> None:
    path = make_video(tmp_path / "leap.ts", frames_per_shot=(50, 50), sound=False)
    data = bytearray(path.read_bytes())
    chance = random.Random(1)
    middle = len(data) // 2
    for at in range(middle - 20_000, middle + 20_000, 97):
        data[at] = chance.randrange(256)
    path.write_bytes(data)

    result = split(path)

    assert len(result.shots) == 2
    assert result.shots[-1].end_ms == pytest.approx(4000, abs=100)
    assert len(result.notes) == 1


@pytest.mark.parametrize("second_begins_at", ["0", "2"])
def test_channels_change_on_the_way(tmp_path: Path, split: Splitter, second_begins_at: str) -> None:
    parts = []
    for n, (channels, pitch, offset) in enumerate(((1, 500, "0"), (2, 1000, second_begins_at))):
        parts.append(tmp_path / f"{n}.ts")
        run_ffmpeg(
            "-f", "lavfi", "-i", f"{('testsrc2', 'smptehdbars')[n]}=size=160x90:rate=25:d=2",
            "-f", "lavfi", "-i", f"sine={pitch}:d=2:sample_rate=48000", "-c:a", "ac3",
            "-ac", str(channels), "-output_ts_offset", offset, parts[-1],
        )  # fmt: skip
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))

    result = split(path)

    # Where the second part overlaps the first one a little, it does so in picture and sound.
    assert [s.start_ms for s in result.shots] == [0, pytest.approx(2000, abs=40)]
    assert len(result.keyframes) == 2
    assert result.audio_path is not None
    samples = load_audio(result.audio_path)
    assert len(samples) / 16 == pytest.approx(4000, abs=100)
    for start, pitch in ((0.5, 500), (1.5, 500), (2.3, 1000), (3.5, 1000)):
        part = samples[int(start * 16_000) :][:1600]
        assert int(np.abs(np.fft.rfft(part)).argmax()) * 10 == pitch
    assert result.sound is not None
    assert result.sound.loudness_lufs == pytest.approx(-21.4, abs=0.5)


def test_sync_frames_only(tmp_path: Path, split: Splitter, clock: Path) -> None:
    result = split(clock, params=SplitParams(decode="sync"))

    # A sync frame every 0.48 s; the first one after the cut is at 1.44.
    assert spans(result) == [(0, 1440), (1440, 2400)]
    assert [k.at_ms % 480 for k in result.keyframes] == [0, 0]
    assert not any(shot.is_exact for shot in result.shots)
    assert any("sync frames" in note for note in result.notes)
    assert onset_ms(result) == pytest.approx(1200, abs=1)


def test_times_that_slip_are_right_again_after(tmp_path: Path, split: Splitter) -> None:
    plain, path = tmp_path / "plain.mkv", tmp_path / "slips.mkv"
    graph = (
        "testsrc2=size=160x90:rate=25,trim=end_frame=250,format=yuv420p,setpts=PTS-STARTPTS[a];"
        "smptehdbars=size=160x90:rate=25,trim=end_frame=100,format=yuv420p[b];[a][b]concat[v];"
        "aevalsrc='if(gte(t,10),0.5*sin(2*PI*1000*t),0)':s=48000:d=14[s]"
    )
    run_ffmpeg("-filter_complex", graph, "-map", "[v]", "-map", "[s]", *_X264, "-c:a", "aac", plain)
    # Every fifth frame and packet has the time of the one before it.
    slip = "setts=time_base=1/1000:ts=if(eq(mod(N\\,5)\\,4)\\,PTS-{step}\\,PTS)"
    options = ("-bsf:v", slip.format(step=40), "-bsf:a", slip.format(step=22))
    run_ffmpeg("-i", plain, "-c", "copy", *options, path)

    result = split(path)

    assert [shot.start_ms for shot in result.shots] == [0, 10_000]
    assert onset_ms(result) == pytest.approx(10_000, abs=_IN_STEP_MS)
    assert result.shots[-1].end_ms == pytest.approx(14_000, abs=45)


def test_a_header_that_states_a_little_too_much(tmp_path: Path, split: Splitter) -> None:
    path = tmp_path / "a.mkv"
    run_ffmpeg("-f", "lavfi", "-i", "testsrc2=size=64x36:rate=5:d=60", *_X264, path)
    data, stated = path.read_bytes(), b"\x44\x89\x88" + struct.pack(">d", 60_000.0)
    assert data.count(stated) == 1
    path.write_bytes(data.replace(stated, b"\x44\x89\x88" + struct.pack(">d", 62_500.0)))

    result = split(path)

    assert result.shots[-1].end_ms == 60_000
    assert result.notes == ("the media ends at 60.0 s, its header states 62.5 s",)
