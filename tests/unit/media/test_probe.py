from pathlib import Path

import pytest
from media_factory import add_subtitles, make_sound, make_srt, make_video, run_ffmpeg, turn_mp4
from PIL import Image as PillowImage

from pipeline.media import MediaLimits, probe_media


def test_video_with_sound_and_subtitles(tmp_path: Path, limits: MediaLimits) -> None:
    video = make_video(tmp_path / "plain.mkv", frames_per_shot=(24,), rate="24000/1001")
    cues = make_srt(tmp_path / "cues.srt", [("00:00:00,100", "00:00:00,900", "Hello")])
    path = add_subtitles(video, [(cues, "fre")], tmp_path / "full.mkv")

    info = probe_media(path, work_dir=tmp_path, limits=limits).info

    assert info.kind == "video"
    assert info.container == "matroska,webm"
    assert (info.width_px, info.height_px) == (320, 180)
    assert info.frame_rate == pytest.approx(24000 / 1001, abs=0.01)
    assert info.duration_ms == pytest.approx(1001, abs=50)  # sound is padded to whole frames
    assert info.has_audio
    assert [(s.kind, s.codec) for s in info.streams] == [
        ("video", "h264"),
        ("audio", "aac"),
        ("subtitle", "subrip"),
    ]
    assert info.streams[2].language == "fre"
    assert info.streams[1].sample_rate_hz == 44100
    assert info.streams[1].channels == 1
    assert (info.streams[0].time_base_num, info.streams[0].time_base_den) == (1, 1000)


def test_rotated_video_is_measured_as_displayed(tmp_path: Path, limits: MediaLimits) -> None:
    path = make_video(tmp_path / "turned.mp4", frames_per_shot=(5,), sound=False)
    turn_mp4(path, (0, 1, -1, 0))

    info = probe_media(path, work_dir=tmp_path, limits=limits).info

    assert (info.width_px, info.height_px) == (180, 320)


def test_wide_pixels_are_measured_as_displayed(tmp_path: Path, limits: MediaLimits) -> None:
    path = make_video(
        tmp_path / "wide.mp4", frames_per_shot=(5,), sound=False, picture_filter="setsar=2"
    )

    info = probe_media(path, work_dir=tmp_path, limits=limits).info

    assert (info.width_px, info.height_px) == (640, 180)


def test_cover_art_does_not_make_a_video(tmp_path: Path, limits: MediaLimits) -> None:
    sound = make_sound(tmp_path / "sound.mp3")
    cover = tmp_path / "cover.png"
    PillowImage.new("RGB", (64, 64), "red").save(cover)
    path = tmp_path / "song.mp3"
    run_ffmpeg("-i", sound, "-i", cover, "-map", "0", "-map", "1", "-c", "copy", path)

    info = probe_media(path, work_dir=tmp_path, limits=limits).info

    assert info.kind == "audio"
    assert (info.width_px, info.height_px, info.frame_rate) == (None, None, None)
    assert [s.kind for s in info.streams] == ["audio", "other"]
    assert info.duration_ms == pytest.approx(2000, abs=60)  # MP3 comes in frames of 26 ms


@pytest.mark.parametrize(
    ("name", "container"),
    [
        ("a.jpg", "jpeg"),
        ("a.png", "png"),
        ("a.webp", "webp"),
        ("a.bmp", "bmp"),
        ("a.tiff", "tiff"),
        ("a.avif", "avif"),
        ("a.gif", "gif"),
    ],
)
def test_pictures(tmp_path: Path, limits: MediaLimits, name: str, container: str) -> None:
    PillowImage.new("RGB", (48, 32), "teal").save(tmp_path / name)
    disguised = (tmp_path / name).rename(tmp_path / "disguised.mp4")

    info = probe_media(disguised, work_dir=tmp_path, limits=limits).info

    assert (info.kind, info.container) == ("image", container)
    assert (info.width_px, info.height_px, info.duration_ms) == (48, 32, None)


def test_animated_gif_is_a_video(tmp_path: Path, limits: MediaLimits) -> None:
    path = make_video(
        tmp_path / "moving.gif", frames_per_shot=(10,), rate="10", sound=False, codec=()
    )

    info = probe_media(path, work_dir=tmp_path, limits=limits).info

    assert (info.kind, info.duration_ms) == ("video", 1000)


def test_exif_orientation_swaps_the_sides(tmp_path: Path, limits: MediaLimits) -> None:
    exif = PillowImage.Exif()
    exif[0x0112] = 6
    PillowImage.new("RGB", (48, 32)).save(tmp_path / "turned.jpg", exif=exif)

    info = probe_media(tmp_path / "turned.jpg", work_dir=tmp_path, limits=limits).info

    assert (info.width_px, info.height_px) == (32, 48)
