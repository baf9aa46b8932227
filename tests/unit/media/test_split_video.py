from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from media_factory import make_video, run_ffmpeg, turn_mp4

from pipeline.media import SplitParams, SplitResult, load_audio, load_image

Splitter = Callable[..., SplitResult]


def spans(result: SplitResult) -> list[tuple[int, int]]:
    return [(shot.start_ms, shot.end_ms) for shot in result.shots]


def test_cuts_are_where_they_were_put(tmp_path: Path, split: Splitter) -> None:
    path = make_video(tmp_path / "cuts.mp4", frames_per_shot=(30, 45, 25, 50))

    result = split(path)

    assert spans(result) == [(0, 1200), (1200, 3000), (3000, 4000), (4000, 6000)]
    assert [shot.shot_index for shot in result.shots] == [0, 1, 2, 3]
    for shot in result.shots:
        time_base = Fraction(shot.time_base_num or 0, shot.time_base_den or 1)
        assert (shot.start_pts or 0) * time_base * 1000 == shot.start_ms
        assert (shot.end_pts or 0) * time_base * 1000 == shot.end_ms
    assert result.notes == ()


def test_film_rate_has_exact_pts(tmp_path: Path, split: Splitter) -> None:
    path = make_video(tmp_path / "film.mp4", frames_per_shot=(48, 72), rate="24000/1001")

    result = split(path)

    first, second = result.shots
    time_base = Fraction(first.time_base_num or 0, first.time_base_den or 1)
    assert (first.end_pts or 0) * time_base == Fraction(48 * 1001, 24000)
    assert second.start_pts == first.end_pts
    assert (second.end_pts or 0) * time_base == Fraction(120 * 1001, 24000)
    assert (first.start_ms, first.end_ms) == (0, 2002)


def test_variable_frame_rate(tmp_path: Path, split: Splitter) -> None:
    # Of the second shot every fourth frame remains, at its own time.
    path = make_video(
        tmp_path / "vfr.mkv",
        frames_per_shot=(50, 60, 40),
        sound=False,
        picture_filter="select='not(between(n,50,109))+not(mod(n-50,4))'",
    )

    result = split(path)

    assert spans(result) == [(0, 2000), (2000, 4400), (4400, 6000)]


def test_start_time_other_than_zero(tmp_path: Path, split: Splitter) -> None:
    path = make_video(tmp_path / "late.ts", extra=["-output_ts_offset", "100"])

    result = split(path)

    first, second = result.shots
    assert first.start_pts == pytest.approx(101.4 * 90000, abs=9000)  # the muxer adds its delay
    assert (second.start_pts or 0) - (first.start_pts or 0) == 2 * 90000
    assert first.start_ms == 0
    # The sound's first packet, not the first picture, starts the presentation.
    assert second.start_ms == pytest.approx(2000, abs=40)


def test_sound_that_comes_late_begins_with_silence(tmp_path: Path, split: Splitter) -> None:
    video = make_video(tmp_path / "both.mkv", frames_per_shot=(50,))
    path = tmp_path / "late.mkv"
    run_ffmpeg(
        "-i",
        video,
        "-itsoffset",
        "1",
        "-i",
        video,
        "-map",
        "0:v",
        "-map",
        "1:a",
        "-c",
        "copy",
        path,
    )

    result = split(path)

    assert result.audio_path is not None
    samples = load_audio(result.audio_path)
    assert np.abs(samples[: 16000 - 400]).max() == 0
    assert np.abs(samples[16000 + 400 : 32000]).max() > 0.05
    assert len(samples) == pytest.approx(48000, abs=800)


def test_sound_is_16_khz_mono_and_in_tune(tmp_path: Path, split: Splitter) -> None:
    result = split(make_video(tmp_path / "tone.mp4", frames_per_shot=(50,)))

    assert result.audio_path is not None
    samples = load_audio(result.audio_path)
    assert samples.dtype == np.float32
    assert len(samples) == pytest.approx(32000, abs=800)
    spectrum = np.abs(np.fft.rfft(samples[8000:24000]))
    assert int(spectrum.argmax()) == 440  # one second, so bins are 1 Hz


def test_video_without_sound(tmp_path: Path, split: Splitter) -> None:
    result = split(make_video(tmp_path / "silent.mp4", sound=False))

    assert result.audio_path is None
    assert spans(result) == [(0, 2000), (2000, 4000)]


def test_default_audio_stream_is_taken(tmp_path: Path, split: Splitter) -> None:
    video = make_video(tmp_path / "video.mkv", frames_per_shot=(50,), sound=False)
    path = tmp_path / "two.mkv"
    run_ffmpeg(
        "-i", video, "-f", "lavfi", "-i", "sine=300:duration=2", "-f", "lavfi", "-i",
        "sine=1000:duration=2", "-map", "0", "-map", "1", "-map", "2", "-c:v", "copy",
        "-disposition:a:0", "0", "-disposition:a:1", "default", path,
    )  # fmt: skip

    result = split(path)

    assert result.audio_path is not None
    spectrum = np.abs(np.fft.rfft(load_audio(result.audio_path)[8000:24000]))
    assert int(spectrum.argmax()) == 1000


def test_keyframe_lies_in_its_shot_and_shows_it(tmp_path: Path, split: Splitter) -> None:
    path = make_video(tmp_path / "cuts.mp4", patterns=("smptehdbars", "testsrc2"))

    result = split(path)

    assert [(k.shot_index, k.keyframe_index) for k in result.keyframes] == [(0, 0), (1, 0)]
    for keyframe, shot in zip(result.keyframes, result.shots, strict=True):
        assert shot.start_ms <= keyframe.at_ms < shot.end_ms
        assert keyframe.pts is not None
        assert keyframe.pts * (shot.time_base_num or 0) * 1000 == keyframe.at_ms * (
            shot.time_base_den or 0
        )
        picture = load_image(keyframe.path)
        assert picture.shape == (keyframe.height_px, keyframe.width_px, 3) == (180, 320, 3)
    # The second bar of the HD bars is light grey: (191, 191, 191) or so in full range.
    bars = load_image(result.keyframes[0].path)
    assert bars[60, 60].tolist() == pytest.approx([180, 180, 180], abs=15)


def test_keyframe_is_not_black_when_something_else_is_there(
    tmp_path: Path, split: Splitter
) -> None:
    # One shot whose middle is black, and all that follows: it fades out, so there is no cut.
    path = make_video(
        tmp_path / "fades.mp4",
        frames_per_shot=(150,),
        patterns=("smptehdbars",),
        sound=False,
        picture_filter="fade=out:20:30",
    )

    result = split(path)

    assert len(result.shots) == 1
    assert load_image(result.keyframes[0].path).mean() > 20


def test_keyframes_of_rotated_video_are_upright(tmp_path: Path, split: Splitter) -> None:
    plain = make_video(
        tmp_path / "turned.mp4", frames_per_shot=(10,), patterns=("color=red",), sound=False,
        picture_filter="drawbox=0:0:60:40:color=blue:t=fill,noise=alls=20",
    )  # fmt: skip
    turn_mp4(plain, (0, 1, -1, 0))  # a quarter turn clockwise: top left goes to top right

    (keyframe,) = split(plain).keyframes

    assert (keyframe.width_px, keyframe.height_px) == (180, 320)
    picture = load_image(keyframe.path).astype(int)
    assert picture[20, 160, 2] > picture[20, 160, 0]
    assert picture[20, 20, 0] > picture[20, 20, 2]


def test_large_frames_are_scaled_down(tmp_path: Path, split: Splitter) -> None:
    path = make_video(tmp_path / "large.mp4", frames_per_shot=(5,), size="640x360", sound=False)

    (keyframe,) = split(path, params=SplitParams(keyframe_max_side_px=200)).keyframes

    assert (keyframe.width_px, keyframe.height_px) == (200, 112)


def test_jpeg_quality_decides_the_size(tmp_path: Path, split: Splitter) -> None:
    path = make_video(tmp_path / "one.mp4", frames_per_shot=(5,), sound=False)

    sizes = [
        split(path, params=SplitParams(jpeg_quality=quality)).keyframes[0].path.stat().st_size
        for quality in (30, 95)
    ]

    assert sizes[0] * 2 < sizes[1]


def test_sound_that_appears_late_in_a_file_without_a_list_of_streams(
    tmp_path: Path, split: Splitter
) -> None:
    """Beyond what is read to find the streams."""
    path = tmp_path / "late.flv"
    run_ffmpeg(
        "-f", "lavfi", "-i", "testsrc2=s=640x360:r=25:d=14", "-itsoffset", "11", "-f", "lavfi",
        "-i", "sine=d=3", "-c:v", "flv1", "-b:v", "8M", "-c:a", "mp3", path,
    )  # fmt: skip

    result = split(path)

    assert spans(result) == [(0, 14_000)]
    assert result.notes == ()


def test_texts_in_the_header_that_are_none(tmp_path: Path, split: Splitter) -> None:
    path = make_video(tmp_path / "v.mp4", frames_per_shot=(25,), sound=False)
    data = path.read_bytes()
    assert data.count(b"isomiso2") == 1
    path.write_bytes(data.replace(b"isomiso2", b"isom\xff\xfe\xff\xff"))

    assert spans(split(path)) == [(0, 1000)]


def test_flash_is_not_a_cut(tmp_path: Path, split: Splitter) -> None:
    path = make_video(
        tmp_path / "flash.mp4", frames_per_shot=(75,), sound=False,
        picture_filter="drawbox=0:0:iw:ih:color=white:t=fill:enable='between(n,40,42)'",
    )  # fmt: skip

    assert spans(split(path)) == [(0, 3000)]


def test_shots_shorter_than_allowed_are_joined(tmp_path: Path, split: Splitter) -> None:
    path = make_video(tmp_path / "quick.mp4", frames_per_shot=(40, 10, 40), sound=False)

    assert len(split(path).shots) == 3
    assert len(split(path, params=SplitParams(min_shot_ms=600)).shots) == 2


def test_threshold_and_ratio_decide_what_is_a_cut(tmp_path: Path, split: Splitter) -> None:
    path = make_video(
        tmp_path / "cuts.mp4", frames_per_shot=(25, 25), sound=False,
        picture_filter="lutyuv=y=96+val/4:u=96+val/4:v=96+val/4",
    )  # fmt: skip

    assert len(split(path, params=SplitParams(cut_threshold=250)).shots) == 1
    assert len(split(path, params=SplitParams(cut_ratio=1, cut_threshold=1)).shots) >= 2


def test_every_short_shot_gets_a_keyframe(tmp_path: Path, split: Splitter) -> None:
    # No sync frames on the cuts.
    path = make_video(
        tmp_path / "rapid.mp4", frames_per_shot=(8, 7, 9, 6, 8, 7), sound=False,
        extra=["-g", "1000", "-sc_threshold", "0"],
    )  # fmt: skip

    result = split(path)

    assert [s.start_ms for s in result.shots] == [0, 320, 600, 960, 1200, 1520]
    assert [k.shot_index for k in result.keyframes] == [0, 1, 2, 3, 4, 5]
    for keyframe, shot in zip(result.keyframes, result.shots, strict=True):
        assert shot.start_ms <= keyframe.at_ms < shot.end_ms


def test_joined_broadcast_goes_on(tmp_path: Path, split: Splitter) -> None:
    # Times start again in the middle, as where recordings were appended to each other.
    parts = [
        make_video(tmp_path / f"{n}.ts", frames_per_shot=(50,), patterns=(pattern,), sound=False)
        for n, pattern in enumerate(("testsrc2", "smptehdbars"))
    ]
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))

    assert spans(split(path)) == [(0, 2000), (2000, 4000)]


def test_one_frame(tmp_path: Path, split: Splitter) -> None:
    result = split(make_video(tmp_path / "one.mp4", frames_per_shot=(1,), sound=False))

    assert spans(result) == [(0, 40)]
    assert len(result.keyframes) == 1


def test_usage_is_accounted(tmp_path: Path, split: Splitter) -> None:
    usage = split(make_video(tmp_path / "cuts.mp4")).usage

    assert 0 < usage.decoder_cpu_seconds < usage.cpu_seconds
    assert 0 < usage.startup_cpu_seconds < usage.cpu_seconds


def test_same_file_gives_the_same_bytes(tmp_path: Path, split: Splitter) -> None:
    path = make_video(tmp_path / "cuts.mp4")

    def contents() -> list[bytes]:
        result = split(path)
        assert result.audio_path is not None
        return [k.path.read_bytes() for k in result.keyframes] + [result.audio_path.read_bytes()]

    assert contents() == contents()
