from collections.abc import Callable
from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from media_factory import make_video, run_ffmpeg

from pipeline.media import (
    MediaLimits,
    SplitParams,
    SplitResult,
    probe_media,
    scan_media,
    split_media,
)
from pipeline.media.ranges import CELLS, MAX_RANGES, count_ranges, range_edges_ms

Splitter = Callable[..., SplitResult]
PARAMS = SplitParams(range_ms=4000, keyframe_every_ms=1500, min_stretch_ms=400)
MP4 = "mov,mp4,m4a,3gp,3g2,mj2"


def contents(result: SplitResult) -> dict[str, Any]:
    """Everything that splitting gives, files by their bytes."""
    return {
        "shots": result.shots,
        "keyframes": [
            (replace(keyframe, path=Path()), keyframe.path.read_bytes())
            for keyframe in result.keyframes
        ],
        "stretches": result.stretches,
        "sound": result.sound,
        "audio": result.audio_path and result.audio_path.read_bytes(),
        "cues": result.cues,
        "notes": result.notes,
    }


def split_in_ranges(path: Path, work_dir: Path, limits: MediaLimits) -> SplitResult:
    info = probe_media(path, work_dir=work_dir, limits=limits).info
    count = count_ranges(
        kind=info.kind, container=info.container, duration_ms=info.duration_ms,
        params=asdict(PARAMS),
    )  # fmt: skip
    assert count >= 3
    scans = []
    for index in range(count):
        folder = work_dir / str(index)
        folder.mkdir()
        common: dict[str, Any] = {"info": info, "params": PARAMS, "limits": limits}
        scan = scan_media(path, index=index, count=count, work_dir=folder, **common)
        assert list(folder.iterdir()) == [scan.path]
        scans.append(scan.path)
    result = split_media(path, sidecars=(), work_dir=work_dir, scans=scans, **common)
    assert result.usage.cpu_seconds > 0
    return result


def make_film(path: Path, *, rate: str = "25", extra: tuple[str, ...] = ()) -> Path:
    """Cuts, a flash, a fade through black, a still stretch, a pan, and shots across every edge."""
    counts = (35, 70, 8, 110, 25, 60, 90, 6, 40)
    patterns = (
        "testsrc2", "mandelbrot", "smptehdbars", "gradients=x0=0:y0=0:x1=300:y1=170:seed=4",
        "yuvtestsrc", "testsrc2", "mandelbrot=start_scale=2", "rgbtestsrc", "testsrc2",
    )  # fmt: skip
    return make_video(
        path, frames_per_shot=counts, patterns=patterns, rate=rate,
        picture_filter="noise=alls=4:allf=t:all_seed=7,fade=out:250:12:enable='lt(n,270)',"
        "fade=in:270:12:enable='gte(n,270)'",
        extra=["-g", "60", "-bf", "2", *extra],
    )  # fmt: skip


@pytest.mark.parametrize("name", ["film.mp4", "film.mkv", "late.mp4", "ntsc.mp4", "sparse.mp4"])
def test_ranges_give_what_the_whole_gives(
    tmp_path: Path, split: Splitter, limits: MediaLimits, name: str, work_dir: Path
) -> None:
    film = make_film(tmp_path / name, rate="30000/1001" if name.startswith("ntsc") else "25")
    if name.startswith("late"):
        plain = film.rename(tmp_path / "plain.mp4")
        run_ffmpeg("-itsoffset", "2.5", "-i", plain, "-c", "copy", "-copyts", film)
    if name.startswith("sparse"):
        # Sync frames are further apart than a range sees beyond its edges.
        plain = film.rename(tmp_path / "plain.mp4")
        codec = ("-c:v", "libx264", "-preset", "ultrafast", "-g", "250", "-sc_threshold", "0")
        run_ffmpeg("-stream_loop", "1", "-i", plain, *codec, film)

    whole = contents(split(film, params=PARAMS))
    joined = contents(split_in_ranges(film, work_dir, limits))

    assert len(whole["shots"]) >= 5
    assert len(whole["keyframes"]) > len(whole["shots"])
    assert joined == whole


@pytest.mark.parametrize("name", ["stills.mkv", "short_picture.mp4", "open_gop.mkv"])
def test_ranges_of_uneven_videos_fit(
    tmp_path: Path, split: Splitter, limits: MediaLimits, name: str, work_dir: Path
) -> None:
    film = tmp_path / name
    source = "testsrc2=size=160x90:rate=25:d=20"
    codec: tuple[str | Path, ...] = ("-c:v", "libx264", "-preset", "ultrafast", "-y")
    if name.startswith("stills"):
        # Frames that are shown beyond an edge, and beyond all that is seen of the next range.
        source = source.replace("d=20", "d=60") + ",select='not(between(t,10,30)+between(t,45,59))'"
        codec = (*codec, "-fps_mode", "passthrough")
    if name.startswith("short"):
        codec = ("-f", "lavfi", "-i", "sine=d=60", *codec)
    if name.startswith("open"):
        # What comes before a sync frame, in order of time, needs pictures before that.
        source = "mandelbrot=size=160x90:rate=25,trim=end_frame=700"
        options = "open-gop=1:keyint=100:min-keyint=100:scenecut=0:b-pyramid=normal:ref=4"
        codec = ("-c:v", "libx264", "-bf", "3", "-x264-params", options)
    run_ffmpeg("-f", "lavfi", "-i", source, *codec, "-pix_fmt", "yuv420p", film)

    whole = split(film, params=PARAMS)
    joined = split_in_ranges(film, work_dir, limits)

    assert joined.notes == ()
    assert contents(joined) == contents(whole)


def test_ranges_that_do_not_fit_are_not_joined(
    tmp_path: Path, split: Splitter, limits: MediaLimits, work_dir: Path
) -> None:
    film, other = make_film(tmp_path / "film.mp4"), make_film(tmp_path / "other.mkv", rate="24")
    info = probe_media(film, work_dir=tmp_path, limits=limits).info
    common: dict[str, Any] = {"info": info, "params": PARAMS, "limits": limits}
    scans = []
    for index in range(4):
        folder = work_dir / str(index)
        folder.mkdir()
        media = other if index == 2 else film
        scans.append(scan_media(media, index=index, count=4, work_dir=folder, **common).path)

    joined = split_media(film, sidecars=(), work_dir=work_dir, scans=scans, **common)

    assert joined.shots == split(film, params=PARAMS).shots
    assert joined.notes == ("its ranges do not fit to each other: it was split in one piece",)


def test_how_many_ranges() -> None:
    def count(duration_ms: int | None, kind: str = "video", container: str = MP4, **p: Any) -> int:
        return count_ranges(kind=kind, container=container, duration_ms=duration_ms, params=p)

    assert count(1_199_999) == 0
    assert count(1_200_000) == 2
    assert count(3_600_000) == 6
    assert count(40_000_000) == MAX_RANGES
    assert count(3_600_000, range_ms=0) == 0
    assert count(3_600_000, range_ms=1_800_000) == 2
    # Coarse grids of keyframes make ranges longer.
    assert count(3_600_000, keyframe_every_ms=900_000) == 2
    assert count(None) == 0
    assert count(3_600_000, kind="audio") == 0
    assert count(3_600_000, container="mpegts") == 0
    assert count(3_600_000, decode="sync") == 0


@pytest.mark.parametrize("duration_ms", [1_200_000, 1_234_567, 7_200_001])
@pytest.mark.parametrize("every_ms", [30_000, 20_000, 1000])
def test_edges_lie_on_the_grid_and_leave_nothing_out(duration_ms: int, every_ms: int) -> None:
    params = SplitParams(keyframe_every_ms=every_ms)
    count = count_ranges(
        kind="video", container=MP4, duration_ms=duration_ms, params=asdict(params)
    )
    edges = [
        range_edges_ms(index, count, duration_ms=duration_ms, params=params)
        for index in range(count)
    ]
    assert edges[0][0] is None
    assert edges[-1][1] is None
    inner = [edge for _, edge in edges[:-1]]
    assert [edge for edge, _ in edges[1:]] == inner
    assert all(edge is not None and edge % (every_ms // CELLS * CELLS) == 0 for edge in inner)
    assert inner == sorted(set(inner), key=lambda edge: Fraction(edge or 0))
