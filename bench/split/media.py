"""The media: made once from the demo's samples, then lengthened without encoding again.

Shots of a few seconds: photographs in slow zooms and clips, with the noise of a camera, so that the
bit rate is that of films. Real clips in ``../shared/media/video`` are taken in, where that folder
is there.
"""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.media import find_ffmpeg
from workers.demo.packages import fetch_samples

#: Raised when the media below change, so that an older folder is made anew.
_VERSION = "2"
SHARED = Path(__file__).parents[3] / "shared" / "media" / "video"
_SHARED_CLIPS = ("dog_man_bed.mp4", "bikes_cuts.mp4", "cockatoo_yuv444_mp3.mp4", "pancake_opus.mkv")
_PHOTOS = ("chelsea.png", "coffee.png", "lion.jpg", "motorcycle.png", "rocket.jpg", "cheetah.jpg")
_SHOT_SECONDS = 3.5
_CLIP_SECONDS = 6
_RATE = 30
_H264 = ("-c:v", "libx264", "-preset", "fast", "-crf", "23", "-pix_fmt", "yuv420p")
_HEVC = ("-c:v", "libx265", "-preset", "ultrafast", "-crf", "26", "-x265-params", "log-level=error")
_COLOURS = "setparams=range=tv:colorspace=bt709:color_primaries=bt709:color_trc=bt709"
#: So that an hour gives six ranges of ten minutes, whatever is rounded.
HOUR_SECONDS = 3602
SHORT_SECONDS = 120
LONG_SECONDS = 2 * 3600
FAST_SECONDS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchMedia:
    """Files, all at 30 frames per second with stereo AAC. ``hevc``: ``None`` where ffmpeg has no
    encoder for it."""

    h264_1080p: Path
    hevc_1080p: Path | None
    #: An hour; sync frames where the encoder likes them.
    hour_720p: Path
    #: The same content, two minutes and two hours of it.
    short_720p: Path
    long_720p: Path
    #: In 640 × 360.
    short_360p: Path
    long_360p: Path
    #: Five minutes of 1080p, with sync frames every 2 and every 9 seconds only.
    sync_2s: Path
    sync_9s: Path
    made_from: str


def build_media(folder: Path) -> BenchMedia:
    """Everything under ``folder / "bench"``; what is there is kept.

    Raises:
        ConfigurationError: sample media cannot be fetched, or there is no ffmpeg.
    """
    samples = fetch_samples(folder / "samples")
    clips = [SHARED / name for name in _SHARED_CLIPS if (SHARED / name).is_file()]
    made_from = "photographs and a clip of the demo"
    if clips:
        made_from += f", {len(clips)} clips of ../shared/media/video"
    target = folder / "bench"
    stamp = target / "version"
    wanted = f"{_VERSION}: {made_from}"
    if not stamp.is_file() or stamp.read_text(encoding="utf-8") != wanted:
        target.mkdir(parents=True, exist_ok=True)
        for old in target.iterdir():
            old.unlink()
        _make(target, samples, clips)
        stamp.write_text(wanted, encoding="utf-8")
    hevc = target / "hevc-1080p.mp4"
    return BenchMedia(
        h264_1080p=target / "h264-1080p.mp4",
        hevc_1080p=hevc if hevc.is_file() else None,
        hour_720p=target / "hour-720p.mp4",
        short_720p=target / "short-720p.mp4",
        long_720p=target / "long-720p.mp4",
        short_360p=target / "short-360p.mp4",
        long_360p=target / "long-360p.mp4",
        sync_2s=target / "sync-2s.mp4",
        sync_9s=target / "sync-9s.mp4",
        made_from=made_from,
    )


def _make(folder: Path, samples: dict[str, Path], clips: Sequence[Path]) -> None:
    base = folder / "base.mp4"
    _make_base(base, samples, [samples["world.mp4"], *clips])

    def encoded(name: str, options: Sequence[str], *seconds: tuple[str, int]) -> None:
        short = folder / f"base-{name}.mp4"
        _note(f"encoding {name}")
        _ffmpeg("-i", base, *options, "-c:a", "copy", short)
        _lengthen(short, folder, seconds)
        short.unlink()

    _lengthen(base, folder, [("h264-1080p", SHORT_SECONDS), ("sync-2s", FAST_SECONDS)])
    if _has_encoder("libx265"):
        encoded("hevc", _HEVC, ("hevc-1080p", SHORT_SECONDS))
    encoded(
        "720p",
        ("-vf", "scale=1280:720", *_H264),
        ("hour-720p", HOUR_SECONDS),
        ("short-720p", SHORT_SECONDS),
        ("long-720p", LONG_SECONDS),
    )
    encoded(
        "360p",
        ("-vf", "scale=640:360", *_H264),
        ("short-360p", SHORT_SECONDS),
        ("long-360p", LONG_SECONDS),
    )
    encoded("sync-9s", (*_H264, *_synced(9)), ("sync-9s", FAST_SECONDS))
    base.unlink()


def _make_base(path: Path, samples: dict[str, Path], clips: Sequence[Path]) -> None:
    _note(f"encoding {path.name}")
    inputs: list[str | Path] = []
    chains = []
    frames = round(_SHOT_SECONDS * _RATE)
    for number, name in enumerate(_PHOTOS):
        inputs += ["-i", samples[name]]
        # Larger first: zooming by whole pixels would shake.
        chains.append(
            f"[{number}:v]scale=2880:1620:force_original_aspect_ratio=increase:out_range=tv,"
            f"crop=2880:1620,format=yuv420p,"
            f"zoompan=z=1+0.0008*on:x=iw/2-iw/zoom/2:y=ih/2-ih/zoom/2:d={frames}:"
            f"s=1920x1080:fps={_RATE},setsar=1[v{number}]"
        )
    for number, clip in enumerate(clips, len(_PHOTOS)):
        inputs += ["-t", str(_CLIP_SECONDS), "-i", clip]
        chains.append(
            f"[{number}:v]fps={_RATE},scale=1920:1080:out_range=tv,setsar=1,format=yuv420p[v{number}]"
        )
    count = len(_PHOTOS) + len(clips)
    chains.append(
        "".join(f"[v{number}]" for number in range(count))
        + f"concat=n={count}:v=1:a=0,noise=alls=6:allf=t,{_COLOURS}[picture]"
    )
    inputs += ["-stream_loop", "-1", "-i", samples["two_cities.wav"]]
    chains.append(f"[{count}:a]aresample=48000,aformat=channel_layouts=stereo[sound]")
    _ffmpeg(
        *inputs, "-filter_complex", ";".join(chains), "-map", "[picture]", "-map", "[sound]",
        *_H264, *_synced(2), "-c:a", "aac", "-b:a", "128k", "-shortest", path,
    )  # fmt: skip


def _lengthen(base: Path, folder: Path, names: Sequence[tuple[str, int]]) -> None:
    for name, seconds in names:
        partial = folder / f"partial-{name}.mp4"
        _ffmpeg("-stream_loop", "-1", "-i", base, "-t", str(seconds), "-c", "copy", partial)
        partial.replace(folder / f"{name}.mp4")


def _synced(every_seconds: int) -> tuple[str, ...]:
    """Sync frames at this distance, and none at cuts."""
    return ("-g", str(every_seconds * _RATE), "-sc_threshold", "0")


def _has_encoder(name: str) -> bool:
    command = [str(find_ffmpeg()), "-hide_banner", "-encoders"]
    return name in subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _ffmpeg(*arguments: str | Path) -> None:
    command = [str(find_ffmpeg()), "-nostdin", "-v", "error", "-y", *map(str, arguments)]
    subprocess.run(command, check=True)


def _note(what: str) -> None:
    print(what, file=sys.stderr, flush=True)
