from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from media_factory import make_sound, run_ffmpeg
from picture_factory import two_colours
from PIL import Image as PillowImage

from pipeline.media import SplitParams, SplitResult, load_audio, load_image

Splitter = Callable[..., SplitResult]

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


@pytest.mark.parametrize("name", ["a.wav", "a.mp3", "a.flac", "a.ogg", "a.m4a"])
def test_sound_is_one_shot(tmp_path: Path, split: Splitter, name: str) -> None:
    result = split(make_sound(tmp_path / name, seconds=1.5))

    (shot,) = result.shots
    assert (shot.shot_index, shot.start_ms, shot.start_pts, shot.end_pts) == (0, 0, None, None)
    assert shot.end_ms == pytest.approx(1500, abs=60)  # lossy codecs pad to whole frames
    assert result.keyframes == ()
    assert result.audio_path is not None
    samples = load_audio(result.audio_path)
    assert len(samples) == pytest.approx(24000, abs=1000)
    assert int(np.abs(np.fft.rfft(samples[:16000])).argmax()) == 440


def test_stereo_is_mixed(tmp_path: Path, split: Splitter) -> None:
    path = tmp_path / "stereo.wav"
    source = "aevalsrc=0.5*sin(2*PI*300*t)|0.5*sin(2*PI*1000*t):s=44100:d=1"
    run_ffmpeg("-f", "lavfi", "-i", source, path)

    result = split(path)

    assert result.audio_path is not None
    spectrum = np.abs(np.fft.rfft(load_audio(result.audio_path)))
    assert sorted(np.argsort(spectrum)[-2:].tolist()) == [300, 1000]


def test_picture_is_one_shot_without_length(tmp_path: Path, split: Splitter) -> None:
    two_colours((2000, 1000)).save(tmp_path / "large.png")

    result = split(tmp_path / "large.png", params=SplitParams(keyframe_max_side_px=500))

    (shot,) = result.shots
    (keyframe,) = result.keyframes
    assert (shot.start_ms, shot.end_ms, shot.start_pts) == (0, 0, None)
    assert (keyframe.at_ms, keyframe.pts) == (0, None)
    picture = load_image(keyframe.path)
    assert picture.shape == (keyframe.height_px, keyframe.width_px, 3) == (250, 500, 3)
    assert picture[60, 120].tolist() == pytest.approx(BLUE, abs=8)
    assert picture[190, 380].tolist() == pytest.approx(RED, abs=8)
    assert result.audio_path is None


def test_transparent_ground_becomes_white(tmp_path: Path, split: Splitter) -> None:
    picture = PillowImage.new("RGBA", (60, 60), (0, 0, 0, 0))
    picture.paste((255, 0, 0, 255), (20, 20, 40, 40))
    picture.save(tmp_path / "logo.png")

    (keyframe,) = split(tmp_path / "logo.png").keyframes

    pixels = load_image(keyframe.path)
    assert pixels[5, 5].tolist() == pytest.approx(WHITE, abs=8)
    assert pixels[30, 30].tolist() == pytest.approx(RED, abs=8)


def test_grey_of_16_bits_is_scaled(tmp_path: Path, split: Splitter) -> None:
    values = np.full((40, 40), 32768, dtype=np.uint16)
    PillowImage.fromarray(values).save(tmp_path / "deep.png")

    (keyframe,) = split(tmp_path / "deep.png").keyframes

    assert load_image(keyframe.path)[20, 20].tolist() == pytest.approx([128] * 3, abs=3)
