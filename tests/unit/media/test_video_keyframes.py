"""Which frames stand for the shots of whole videos."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from media_factory import make_slides, make_video, run_ffmpeg

from pipeline.media import MediaLimits, SplitParams, SplitResult, load_image

Splitter = Callable[..., SplitResult]
#: A picture that stands still, and differs from test patterns.
STILL = "mandelbrot=start_scale=2:end_scale=2:maxiter=60"
_X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")


def sharpness(path: Path) -> float:
    return float(cv2.Laplacian(np.asarray(load_image(path)), cv2.CV_64F).var())


def filmed(path: Path, source: str, *options: str) -> Path:
    run_ffmpeg("-f", "lavfi", "-i", source, *_X264, *options, path)
    return path


def test_a_black_frame_only_where_there_is_no_other(tmp_path: Path, split: Splitter) -> None:
    path = filmed(tmp_path / "a.mp4", "testsrc2=size=160x90:rate=25:d=4,fade=in:0:60")

    (keyframe,) = split(path).keyframes

    assert keyframe.at_ms >= 1600
    assert load_image(keyframe.path).std() > 40


def test_the_sharp_frame_among_blurred_ones(tmp_path: Path, split: Splitter) -> None:
    blur = "gblur=sigma=5:enable='not(between(n,60,69))'"
    path = filmed(tmp_path / "a.mp4", f"{STILL}:size=320x180:rate=25,trim=end_frame=100,{blur}")

    (keyframe,) = split(path).keyframes

    assert 2400 <= keyframe.at_ms < 2800


def test_not_in_the_middle_of_a_dissolve(tmp_path: Path, split: Splitter) -> None:
    clips = [
        f"{pattern}=size=320x180:rate=25,trim=end_frame=60,format=yuv420p,setsar=1"
        for pattern in ("smptehdbars", "testsrc2")
    ]
    path = tmp_path / "a.mp4"
    graph = f"{clips[0]}[a];{clips[1]}[b];[a][b]xfade=duration=1:offset=1[v]"
    run_ffmpeg("-filter_complex", graph, "-map", "[v]", *_X264, path)

    result = split(path)

    assert len(result.shots) == 2
    first, second = (keyframe.at_ms for keyframe in result.keyframes)
    assert first < 1000
    assert second >= 2000


def test_dialogues_share_pictures(tmp_path: Path, split: Splitter) -> None:
    path = make_video(
        tmp_path / "a.mp4", frames_per_shot=(30,) * 5, patterns=("smptehdbars", STILL),
        sound=False,
    )  # fmt: skip

    assert [k.picture_index for k in split(path).keyframes] == [0, 1, 0, 1, 0]


def test_slides_that_differ_in_a_word_do_not(tmp_path: Path, split: Splitter) -> None:
    words = [
        f"drawbox=x={40 + 60 * n}:y=80:w=50:h=12:color=black:t=fill:enable='gte(t,{2 * n})'"
        for n in range(3)
    ]
    page = "color=white:size=320x180:rate=10:d=6,drawbox=x=20:y=20:w=200:h=20:color=navy:t=fill"
    path = filmed(tmp_path / "a.mp4", ",".join([page, *words]))

    result = split(path, params=SplitParams(keyframe_every_ms=2000))

    assert len({k.picture_index for k in result.keyframes}) == 3


def test_further_keyframes_where_the_picture_changes(tmp_path: Path, split: Splitter) -> None:
    moving = filmed(tmp_path / "a.mp4", "mandelbrot=size=160x90:rate=4,trim=end_frame=160")

    few = split(moving, params=SplitParams(keyframe_every_ms=20_000)).keyframes
    many = split(moving, params=SplitParams(keyframe_every_ms=10_000)).keyframes

    assert {k.shot_index for k in many} == {0}
    assert [k.keyframe_index for k in many] == list(range(len(many)))
    assert 2 <= len(few) < len(many)


def test_one_for_an_hour_of_still_picture(tmp_path: Path, split: Splitter) -> None:
    result = split(filmed(tmp_path / "a.mp4", "smptehdbars=size=64x36:rate=1:d=3600"))

    assert [(s.start_ms, s.end_ms) for s in result.shots] == [(0, 3_600_000)]
    assert len(result.keyframes) == 1


@pytest.mark.parametrize("frames", [1, 2])
def test_tiny_clips(tmp_path: Path, split: Splitter, frames: int) -> None:
    result = split(make_video(tmp_path / "a.mp4", frames_per_shot=(frames,), sound=False))

    assert [(s.start_ms, s.end_ms) for s in result.shots] == [(0, 40 * frames)]
    assert len(result.keyframes) == 1


def test_the_smallest_picture(tmp_path: Path, split: Splitter) -> None:
    result = split(
        make_video(tmp_path / "a.mp4", frames_per_shot=(3,), size="2x2", patterns=("color=red",),
                   sound=False)
    )  # fmt: skip

    assert [(k.width_px, k.height_px) for k in result.keyframes] == [(2, 2)]


def test_frames_that_stand_for_seconds(tmp_path: Path, split: Splitter) -> None:
    path = make_slides(tmp_path / "a.mkv", (0, 4000, 5000, 9000), *_X264)

    result = split(path)

    assert {k.shot_index for k in result.keyframes} == set(range(len(result.shots)))
    for keyframe in result.keyframes:
        shot = result.shots[keyframe.shot_index]
        assert shot.start_ms <= keyframe.at_ms < shot.end_ms
        assert keyframe.at_ms in {0, 4000, 5000, 9000}
        assert np.asarray(load_image(keyframe.path)).std() > 20


@pytest.mark.parametrize(
    "starts_ms", [(0, 1000, 3000, 4000), (0, 20_000, 45_000, 47_000), (0, 700, 30_000, 60_000)]
)
def test_slides_that_follow_each_other_slowly(
    tmp_path: Path, split: Splitter, starts_ms: tuple[int, ...]
) -> None:
    result = split(make_slides(tmp_path / "a.mp4", starts_ms, *_X264))

    assert [shot.start_ms for shot in result.shots] == list(starts_ms)
    assert [keyframe.at_ms for keyframe in result.keyframes] == list(starts_ms)
    # Each stands still by itself: a stretch does not go on beyond a change.
    ends = [*starts_ms[1:], result.shots[-1].end_ms]
    spans = [
        (start, end) for start, end in zip(starts_ms, ends, strict=True) if end - start >= 1000
    ]
    assert [(s.start_ms, s.end_ms) for s in result.stretches if s.kind == "frozen"] == spans


def test_a_keyframe_shows_its_own_shot_where_times_are_coarse(
    tmp_path: Path, split: Splitter
) -> None:
    # The time base is that of the frames: the last frame before the cut, which is sharper, is
    # shown at 1.2 s, and the cut is the nearest whole frame to that.
    path = make_video(
        tmp_path / "a.avi", frames_per_shot=(29, 40), patterns=("testsrc2", "gradients=seed=1"),
        rate="24", sound=False, codec=("-c:v", "ffv1"),
    )  # fmt: skip

    first, second = split(path).keyframes

    assert load_image(first.path).std() > 80
    assert second.pts is not None
    assert second.pts >= 29
    assert sharpness(second.path) < sharpness(first.path) / 10


def test_a_picture_that_stands_for_long_is_judged_once(
    tmp_path: Path, split: Splitter, limits: MediaLimits
) -> None:
    codec = ("-c:v", "ffv1", "-pix_fmt", "yuv420p10le")
    path = make_slides(tmp_path / "a.mkv", (0, 3_600_000), *codec)

    # Kept for each fifth of a second, it would take 400 MB more.
    result = split(path, limits=replace(limits, memory_bytes=800 * 1024**2))

    assert [keyframe.at_ms for keyframe in result.keyframes] == [0, 3_600_000]


def test_a_slow_fade_over_a_line_of_the_grid(tmp_path: Path, split: Splitter) -> None:
    # All candidates of the first piece of the shot are dark; the next piece shows the same.
    picture = "mandelbrot=size=160x90:rate=25:start_scale=2:end_scale=2:maxiter=60"
    graph = (
        "color=black:size=160x90:rate=25:d=8[a];"
        f"{picture},trim=end_frame=200,fade=in:0:60[b];[a][b]concat,format=yuv420p[v]"
    )
    path = tmp_path / "a.mp4"
    run_ffmpeg("-filter_complex", graph, "-map", "[v]", *_X264, path)

    dark, bright = split(path).keyframes

    assert (dark.shot_index, bright.shot_index) == (0, 1)
    assert bright.at_ms >= 10_400


def test_black_parts_of_a_shot_have_no_keyframe(tmp_path: Path, split: Splitter) -> None:
    graph = (
        "testsrc2=size=160x90:rate=25:d=8[a];color=black:size=160x90:rate=25:d=24[b];"
        "[a][b]concat,format=yuv420p[v]"
    )
    path = tmp_path / "a.mp4"
    run_ffmpeg("-filter_complex", graph, "-map", "[v]", *_X264, path)

    result = split(path)

    assert [shot.start_ms for shot in result.shots] == [0]
    assert all(keyframe.at_ms < 8000 for keyframe in result.keyframes)
    assert any(stretch.kind == "black" for stretch in result.stretches)


def test_not_in_a_fade_before_long_black(tmp_path: Path, split: Splitter) -> None:
    # The only sharp frames are in the fade, more than a second before the middle of it all.
    graph = (
        f"{STILL}:size=320x180:rate=25,trim=end_frame=118,"
        "gblur=sigma=3:enable='not(between(n,103,110))',fade=out:100:18[a];"
        "color=black:size=320x180:rate=25,trim=end_frame=45[b];"
        "smptehdbars=size=320x180:rate=25,trim=end_frame=50[c];"
        "[a][b][c]concat=n=3,format=yuv420p[v]"
    )
    path = tmp_path / "a.mp4"
    run_ffmpeg("-filter_complex", graph, "-map", "[v]", *_X264, path)

    first, second = split(path).keyframes

    assert first.at_ms <= 4000
    assert second.at_ms >= 6520


def test_quick_cuts_of_hdr_have_keyframes(tmp_path: Path, split: Splitter) -> None:
    hdr = "setparams=color_trc=smpte2084:colorspace=bt2020nc:color_primaries=bt2020"
    path = make_video(
        tmp_path / "a.mkv", frames_per_shot=(7,) * 6, rate="20", size="1280x720", sound=False,
        picture_filter=hdr, codec=("-c:v", "ffv1", "-pix_fmt", "yuv420p10le"),
    )  # fmt: skip

    result = split(path)

    assert len(result.shots) == 6
    assert [keyframe.shot_index for keyframe in result.keyframes] == list(range(6))


def test_not_every_sync_frame_is_a_candidate(tmp_path: Path, split: Splitter) -> None:
    # Every frame of the codec is a sync frame; the sharp ones are none of those on the grid.
    blur = "gblur=sigma=5:enable='not(between(n,62,67))'"
    path = tmp_path / "a.mkv"
    source = f"{STILL}:size=320x180:rate=50,trim=end_frame=120,{blur}"
    run_ffmpeg("-f", "lavfi", "-i", source, "-c:v", "mjpeg", "-q:v", "3", path)

    (keyframe,) = split(path, params=SplitParams(decode="sync")).keyframes

    assert keyframe.at_ms % 200 == 0


def test_many_slides_that_follow_each_other_slowly(tmp_path: Path, split: Splitter) -> None:
    few = make_slides(tmp_path / "few.mp4", [20_000 * n for n in range(5)], *_X264)
    path = tmp_path / "many.mp4"
    run_ffmpeg("-stream_loop", "39", "-i", few, "-c", "copy", path)

    result = split(path)

    assert [keyframe.shot_index for keyframe in result.keyframes] == list(range(200))
    assert {keyframe.picture_index for keyframe in result.keyframes} == set(range(5))
