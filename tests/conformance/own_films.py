"""Videos and sound of known content: cuts, transitions, rates, turns, tracks, containers."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from conformance.room import CARRIER, Entry
from media_factory import add_subtitles, make_srt, make_video, run_ffmpeg, turn_mp4

PathOf = Callable[[str], Path]
Recipe = tuple[Entry, Callable[[Path, PathOf], None]]

_EXACT = "exact by construction"
_CUTS = (50, 88, 150)
_MPEG4 = ("-c:v", "mpeg4", "-q:v", "3")
_VP9 = ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-b:v", "1M")
#: What is spoken in the film, and read in its tracks.
_SPEECH = (
    {"start": 0.6, "end": 2.1, "text": "A sweep goes up.", "clip": "audio/up.wav"},
    {"start": 2.6, "end": 3.6, "text": "Une autre redescend, à côté.", "clip": "audio/down.wav"},
)
#: Sweeps: unlike a steady tone they resemble themselves at one place only.
_SWEEPS = {"up": (1.5, "300+600*t"), "down": (1.0, "1500-500*t")}


def recipes() -> Iterator[Recipe]:
    yield from _cuts()
    yield from _transitions()
    yield from _turned()
    yield from _sounds()
    yield _film()


def _video(
    frames: int, *, codec: str = "h264", size: tuple[int, int] = (320, 180), rate: float = 25
) -> dict[str, Any]:
    width, height = size
    return {
        "type": "video", "codec": codec, "frames": frames, "w": width, "h": height,
        "avg_rate": str(rate), "first": 0.0, "last": (frames - 1) / rate,
    }  # fmt: skip


def _audio(seconds: float, *, codec: str = "aac", rate: int = 44_100) -> dict[str, Any]:
    return {
        "type": "audio", "codec": codec, "frames": max(2, round(seconds * 40)), "rate": rate,
        "channels": 1, "first": 0.0, "last": seconds - 0.025,
    }  # fmt: skip


def _shots(cuts: Sequence[int], rate: float = 25, **more: Any) -> dict[str, Any]:
    stated = [{"frame": cut, "time": cut / rate} for cut in cuts]
    return {"annotation": _EXACT, "shot_cuts": stated, "shots": len(cuts) + 1, **more}


def _cuts() -> Iterator[Recipe]:
    """Three cuts in several codecs, containers and rates."""
    per_shot = (50, 38, 62, 40)
    truth = {"frames": 190, "fps": "25", "shots": _shots(_CUTS)}

    def make(path: Path, path_of: PathOf) -> None:
        make_video(path, frames_per_shot=per_shot)

    observed = {"streams": [_video(190), _audio(7.6)], "duration": 7.6}
    yield Entry(file="cuts/h264.mp4", expect="decode", truth=truth, observed=observed), make

    def make_like(codec: Sequence[str]) -> Callable[[Path, PathOf], None]:
        def transcode(path: Path, path_of: PathOf) -> None:
            run_ffmpeg("-i", path_of("cuts/h264.mp4"), *codec, path)

        return transcode

    for name, codec, arguments in (
        ("mpeg4.avi", "mpeg4", (*_MPEG4, "-c:a", "libmp3lame")),
        ("h264.ts", "h264", ("-c", "copy")),
        ("vp9.webm", "vp9", (*_VP9, "-c:a", "libopus")),
        ("mpeg2.mpg", "mpeg2video", ("-c:v", "mpeg2video", "-q:v", "3", "-c:a", "mp2")),
    ):
        sound = {"webm": "opus", "avi": "mp3", "mpg": "mp2"}.get(name[-4:].strip("."), "aac")
        rate = 48_000 if sound == "opus" else 44_100
        streams = [_video(190, codec=codec), _audio(7.6, codec=sound, rate=rate)]
        like = {"same_content_as": "cuts/h264.mp4"}
        seen = {"streams": streams, "duration": 7.6}
        entry = Entry(file=f"cuts/{name}", expect="decode", truth=like, observed=seen)
        yield entry, make_like(arguments)
    yield from _rates()


def _rates() -> Iterator[Recipe]:
    def ntsc(path: Path, path_of: PathOf) -> None:
        make_video(path, frames_per_shot=(20, 31), rate="30000/1001", sound=False, codec=_MPEG4)

    rate = 30_000 / 1001
    truth = {"frames": 51, "fps": "30000/1001", "has_audio": False, "shots": _shots([20], rate)}
    seen = {"streams": [_video(51, codec="mpeg4", rate=rate)], "duration": 51 / rate}
    yield Entry(file="cuts/ntsc.mkv", expect="decode", truth=truth, observed=seen), ntsc

    def variable(path: Path, path_of: PathOf) -> None:
        drop = r"select=not(eq(mod(n\,4)\,3))"
        make_video(path, frames_per_shot=(50, 50), sound=False, picture_filter=drop)

    # Of the first 50 frames 12 are dropped.
    truth = {"vfr": True, "frames": 75, "shots": _shots([38], 19)}
    seen = {"streams": [_video(75, rate=18.75)], "duration": 4.0}
    yield Entry(file="cuts/vfr.mkv", expect="decode", truth=truth, observed=seen), variable

    def odd(path: Path, path_of: PathOf) -> None:
        make_video(path, frames_per_shot=(60,), size="66x50", rate="60", sound=False)

    truth = {"frames": 60, "fps": "60", "size": [66, 50], "shots": _shots([])}
    seen = {"streams": [_video(60, size=(66, 50), rate=60)], "duration": 1.0}
    yield Entry(file="cuts/odd_60fps.mov", expect="decode", truth=truth, observed=seen), odd


def _transitions() -> Iterator[Recipe]:
    def dissolve(path: Path, path_of: PathOf) -> None:
        sources = [f"{name}=size=320x180:rate=25" for name in ("smptehdbars", "mandelbrot")]
        inputs = [part for each in sources for part in ("-f", "lavfi", "-t", "2.4", "-i", each)]
        blend = "[0]format=yuv420p[a];[1]format=yuv420p[b];[a][b]xfade=duration=0.8:offset=1.2"
        run_ffmpeg(*inputs, "-filter_complex", blend, "-pix_fmt", "yuv420p", path)

    gradual = {"type": "dissolve", "frame_start": 30, "frame_end": 51}
    shots = {**_shots([]), "gradual": [gradual], "shots": 2}
    seen = {"streams": [_video(90)], "duration": 3.6}
    yield (
        Entry(file="cuts/dissolve.mp4", expect="decode", truth={"shots": shots}, observed=seen),
        dissolve,
    )

    def flashes(path: Path, path_of: PathOf) -> None:
        white = r"drawbox=color=white:t=fill:enable='between(mod(n\,40)\,20\,21)'"
        make_video(path, frames_per_shot=(120,), sound=False, picture_filter=white)

    seen = {"streams": [_video(120)], "duration": 4.8}
    truth = {"shots": _shots([])}
    yield Entry(file="cuts/flashes.mp4", expect="decode", truth=truth, observed=seen), flashes


def _turned() -> Iterator[Recipe]:
    def plain(path: Path, path_of: PathOf) -> None:
        make_video(path, frames_per_shot=(25,), sound=False, extra=("-movflags", "+faststart"))

    truth: dict[str, Any] = {"has_audio": False, "frames": 25, "fps": "25", "shots": _shots([])}
    seen = {"streams": [_video(25)], "duration": 1.0}
    yield Entry(file=CARRIER, expect="decode", truth=truth, observed=seen), plain
    for tag, matrix in ((-90, (0, 1, -1, 0)), (180, (-1, 0, 0, -1)), (90, (0, -1, 1, 0))):

        def turn(path: Path, path_of: PathOf, matrix: tuple[int, int, int, int] = matrix) -> None:
            shutil.copyfile(path_of(CARRIER), path)
            turn_mp4(path, matrix)

        display = [320, 180] if tag == 180 else [180, 320]
        more = truth | {"rotation_tag": tag, "display_size": display, "turned_from": CARRIER}
        yield Entry(file=f"video/turned{tag}.mp4", expect="decode", truth=more, observed=seen), turn


def _sounds() -> Iterator[Recipe]:
    for name, (seconds, pitch) in _SWEEPS.items():

        def sweep(
            path: Path, path_of: PathOf, seconds: float = seconds, pitch: str = pitch
        ) -> None:
            source = f"aevalsrc=0.4*sin(2*PI*t*({pitch})):s=44100:d={seconds}"
            run_ffmpeg("-f", "lavfi", "-i", source, path)

        streams = [_audio(seconds, codec="pcm_s16le")]
        seen = {"streams": streams, "duration": seconds}
        truth = {"label": "sweep", "has_audio": True}
        yield Entry(file=f"audio/{name}.wav", expect="decode", truth=truth, observed=seen), sweep
    for suffix, codec in (("mp3", "mp3"), ("flac", "flac"), ("ogg", "vorbis"), ("m4a", "aac")):

        def like(path: Path, path_of: PathOf) -> None:
            run_ffmpeg("-i", path_of("audio/up.wav"), path)

        seen = {"streams": [_audio(1.5, codec=codec)], "duration": 1.5}
        speech = [{"start": 0.0, "end": 1.5, "text": "", "clip": "audio/up.wav"}]
        truth = {"label": "sweep", "speech": speech}
        yield Entry(file=f"audio/up.{suffix}", expect="decode", truth=truth, observed=seen), like


def _film() -> Recipe:
    """Two sound streams, the second the default one; two tracks of the same text."""
    streams = [
        _video(100),
        _audio(4.0, codec="flac"),
        _audio(4.0, codec="flac"),
        {"type": "subtitle", "codec": "srt", "frames": 2},
        {"type": "subtitle", "codec": "ssa", "frames": 2},
    ]
    truth = {
        "n_video": 1, "n_audio": 2, "n_subtitle": 2, "frames": 100, "fps": "25",
        "speech": _SPEECH, "shots": _shots([50]),
        "subtitle_tracks": [{"codec": "subrip", "lang": "eng"}, {"codec": "ass", "lang": "fra"}],
    }  # fmt: skip
    seen = {"streams": streams, "duration": 4.0}
    return Entry(file="film/film.mkv", expect="decode", truth=truth, observed=seen), _make_film


def _make_film(path: Path, path_of: PathOf) -> None:
    folder = path.parent
    picture = make_video(folder / "picture.mkv", sound=False)
    place = (
        "[1]aformat=channel_layouts=mono,adelay=600[up];"
        "[2]aformat=channel_layouts=mono,adelay=2600[down];"
        "[up][down]amix=normalize=0:duration=longest,apad=whole_dur=4,atrim=end=4[speech];"
        "sine=frequency=880:duration=4[other]"
    )
    sound = folder / "sound.mkv"
    run_ffmpeg(
        "-i", picture, "-i", path_of("audio/up.wav"), "-i", path_of("audio/down.wav"),
        "-filter_complex", place, "-map", "0", "-map", "[other]", "-map", "[speech]",
        "-c:v", "copy", "-c:a", "flac", "-disposition:a:0", "0", "-disposition:a:1", "default",
        sound,
    )  # fmt: skip
    cues = [(_srt_time(s["start"]), _srt_time(s["end"]), s["text"]) for s in _SPEECH]
    text = make_srt(folder / "text.srt", cues)
    as_ass = folder / "text.ass"
    run_ffmpeg("-i", text, as_ass)
    add_subtitles(sound, [(text, "eng"), (as_ass, "fra")], path, codec="copy")


def _srt_time(seconds: Any) -> str:
    milliseconds = round(seconds * 1000)
    return f"00:00:{milliseconds // 1000:02},{milliseconds % 1000:03}"
