"""The files that are damaged: one of every container, picture and subtitle form, made here, and
whatever real media are at hand."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from media_factory import add_subtitles, make_sound, make_srt, make_video, run_ffmpeg
from PIL import Image as PillowImage

_REPOSITORY = Path(__file__).parents[2]
_MAX_SOURCE_BYTES = 600_000
_SIDECARS = {".srt", ".vtt", ".ass"}
#: Not media, and not for damaging.
_SKIPPED = {".json", ".md", ".npz", ".version"}
_PICTURES = ("png", "jpg", "webp", "gif", "tif", "bmp", "jp2", "avif")
_SOUNDS = ("wav", "mp3", "flac", "ogg", "opus", "m4a", "aac", "ac3", "aiff", "wma")
_VIDEOS = (
    ("h264.mp4", ("-c:v", "libx264", "-preset", "ultrafast", "-movflags", "+faststart")),
    ("fragmented.mp4", ("-c:v", "libx264", "-preset", "ultrafast", "-movflags",
                        "+frag_keyframe+empty_moov")),
    ("hevc.mov", ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none")),
    ("mpeg4.avi", ("-c:v", "mpeg4", "-c:a", "libmp3lame")),
    ("mjpeg.mkv", ("-c:v", "mjpeg", "-c:a", "pcm_s16le")),
    ("vp9.webm", ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8",
                  "-c:a", "libopus")),
    ("h264.ts", ("-c:v", "libx264", "-preset", "ultrafast")),
    ("mpeg2.mpg", ("-c:v", "mpeg2video", "-c:a", "mp2")),
    ("sorenson.flv", ("-c:v", "flv", "-c:a", "libmp3lame")),
    ("theora.ogv", ("-c:v", "libtheora", "-c:a", "libvorbis")),
    ("wmv2.wmv", ("-c:v", "wmv2", "-c:a", "wmav2")),
    ("moves.gif", ()),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A sound file. ``name`` says the same on every machine."""

    name: str
    path: Path

    @property
    def is_sidecar(self) -> bool:
        return self.path.suffix in _SIDECARS


def make_sources(folder: Path) -> list[Source]:
    """Small files, made once into ``folder``; the first is the video that sidecars go with."""
    folder.mkdir(parents=True, exist_ok=True)
    plain = folder / "a-carrier.mp4"
    if not plain.exists():
        _make(folder, plain)
    return [Source(name=path.name, path=path) for path in sorted(folder.iterdir())]


def _make(folder: Path, plain: Path) -> None:
    for name, arguments in _VIDEOS:
        sounds = not name.endswith(".gif")
        make_video(folder / name, frames_per_shot=(8, 12), size="96x64", sound=sounds,
                   rate="24" if name.endswith(".mpg") else "25", codec=arguments)  # fmt: skip
    for suffix in _SOUNDS:
        make_sound(folder / f"tone.{suffix}", seconds=0.5)
    scene = PillowImage.effect_mandelbrot((90, 60), (-2.0, -1.2, 0.8, 1.2), 60).convert("RGB")
    exif = PillowImage.Exif()
    exif[0x0112] = 6
    for suffix in _PICTURES:
        options = {"exif": exif} if suffix in {"jpg", "webp", "png", "avif"} else {}
        scene.save(folder / f"scene.{suffix}", **options)
    turned = [scene.rotate(90 * quarter) for quarter in range(1, 4)]
    for name in ("moves.webp", "moves.png", "pages.tif"):
        scene.save(folder / name, save_all=True, append_images=turned)
    scene.convert("CMYK").save(folder / "cmyk.jpg", progressive=True)
    scene.quantize(16).save(folder / "palette.png")
    cues = [("00:00:00,100", "00:00:00,400", "<i>Hello</i>"), ("00:00:00,400", "00:00:00,700", "é")]
    text = make_srt(folder / "text.srt", cues)
    make_srt(folder / "text16.srt", cues, "utf-16")
    for suffix in ("vtt", "ass"):
        run_ffmpeg("-i", text, folder / f"text.{suffix}")
    add_subtitles(folder / "h264.mp4", [(text, "eng"), (folder / "text.ass", "deu")],
                  folder / "tracks.mkv", codec="copy")  # fmt: skip
    add_subtitles(folder / "h264.mp4", [(text, "eng")], folder / "tracks.mp4", codec="mov_text")
    # Last: its presence says that all is made.
    make_video(plain, frames_per_shot=(8, 12), size="96x64", sound=False)


def real_sources(folders: Sequence[Path]) -> list[Source]:
    """Small files of the demo and of a folder of media, where they are."""
    return [
        Source(name=f"{folder.name}/{path.relative_to(folder)}", path=path)
        for folder in folders
        if folder.is_dir()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and path.suffix not in _SKIPPED
        and 0 < path.stat().st_size <= _MAX_SOURCE_BYTES
    ]


def usual_folders() -> list[Path]:
    """The demo's bucket, and ``shared/media`` beside the repository."""
    return [_REPOSITORY / "demo-data" / "bucket", _REPOSITORY.parent / "shared" / "media"]
