"""Pictures of every form, and files that are not what they seem."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from conformance.room import CARRIER, Entry
from media_factory import make_png_claiming, run_ffmpeg
from PIL import ExifTags
from PIL import Image as PillowImage

PathOf = Callable[[str], Path]
Recipe = tuple[Entry, Callable[[Path, PathOf], None]]

_SIZE = (240, 160)
#: What undoes the turn of each EXIF orientation.
_STORED_AS = {
    2: PillowImage.Transpose.FLIP_LEFT_RIGHT,
    3: PillowImage.Transpose.ROTATE_180,
    4: PillowImage.Transpose.FLIP_TOP_BOTTOM,
    5: PillowImage.Transpose.TRANSPOSE,
    6: PillowImage.Transpose.ROTATE_90,
    7: PillowImage.Transpose.TRANSVERSE,
    8: PillowImage.Transpose.ROTATE_270,
}


def recipes() -> Iterator[Recipe]:
    yield from _turned()
    yield from _forms()
    yield from _several()
    yield from _damaged()
    yield from _not_media()


def _scene() -> PillowImage.Image:
    """Every corner has its own colour."""
    down, right = np.indices((_SIZE[1], _SIZE[0])) / np.array(_SIZE[::-1]).reshape(2, 1, 1)
    pixels = np.stack([right, down, (1 - right) * (1 - down)], axis=2) * 255
    return PillowImage.fromarray(pixels.astype(np.uint8))


def _entry(file: str, form: str, *, frames: int = 1, **truth: Any) -> Entry:
    observed = {"format": form, "size": list(_SIZE), "n_frames": frames}
    return Entry(file=file, expect="decode", truth=truth, observed=observed)


def _turned() -> Iterator[Recipe]:
    for orientation in range(1, 9):
        for suffix, form in (("jpg", "JPEG"), ("webp", "WEBP")):

            def make(path: Path, path_of: PathOf, orientation: int = orientation) -> None:
                exif = PillowImage.Exif()
                exif[ExifTags.Base.Orientation] = orientation
                turn = _STORED_AS.get(orientation)
                stored = _scene() if turn is None else _scene().transpose(turn)
                stored.save(path, quality=95, exif=exif)

            yield (
                _entry(
                    f"exif/turned_{orientation}.{suffix}",
                    form,
                    exif_orientation=orientation,
                    upright_size=list(_SIZE),
                    upright_reference=f"exif/turned_1.{suffix}",
                ),
                make,
            )


def _forms() -> Iterator[Recipe]:
    def saved(**options: Any) -> Callable[[Path, PathOf], None]:
        return lambda path, path_of: _scene().save(path, **options)

    def converted(mode: str, **options: Any) -> Callable[[Path, PathOf], None]:
        return lambda path, path_of: _scene().convert(mode, **options).save(path)

    def deep(path: Path, path_of: PathOf) -> None:
        grey = np.asarray(_scene().convert("L"), dtype=np.uint16) * 257
        PillowImage.fromarray(grey).save(path)

    def transparent(path: Path, path_of: PathOf) -> None:
        picture = _scene()
        picture.putalpha(picture.getchannel("R"))
        picture.save(path)

    yield _entry("forms/plain.png", "PNG"), saved()
    yield _entry("forms/progressive.jpg", "JPEG"), saved(progressive=True)
    yield _entry("forms/plain.bmp", "BMP"), saved()
    yield _entry("forms/plain.tif", "TIFF"), saved()
    yield _entry("forms/plain.gif", "GIF"), saved()
    yield _entry("forms/plain.jp2", "JPEG2000"), saved()
    yield _entry("forms/plain.avif", "AVIF"), saved()
    yield _entry("forms/palette.png", "PNG"), converted("P", palette=PillowImage.Palette.ADAPTIVE)
    yield _entry("forms/one_bit.tif", "TIFF"), converted("1")
    yield _entry("forms/cmyk.jpg", "JPEG", mode="CMYK"), converted("CMYK")
    yield _entry("forms/deep.png", "PNG", bits=16), deep
    yield _entry("forms/transparent.png", "PNG"), transparent
    yield _entry("forms/transparent.webp", "WEBP"), transparent


def _several() -> Iterator[Recipe]:
    """Animations, and a document of several pages."""

    def make(path: Path, path_of: PathOf) -> None:
        first, *rest = (_scene().rotate(90 * number) for number in range(4))
        options = {} if path.suffix == ".tif" else {"duration": 250, "loop": 0}
        first.save(path, save_all=True, append_images=rest, **options)

    for suffix, form in (("gif", "GIF"), ("webp", "WEBP"), ("png", "PNG")):
        yield _entry(f"several/moves.{suffix}", form, frames=4, animated=True), make
    yield _entry("several/pages.tif", "TIFF", frames=4, multipage=True), make


def _damaged() -> Iterator[Recipe]:
    def part(source: str, share: float) -> Callable[[Path, PathOf], None]:
        def make(path: Path, path_of: PathOf) -> None:
            data = path_of(source).read_bytes()
            path.write_bytes(data[: round(len(data) * share)])

        return make

    def hole(path: Path, path_of: PathOf) -> None:
        data = bytearray(path_of(CARRIER).read_bytes())
        middle = len(data) // 2
        data[middle : middle + 2000] = bytes(2000)
        path.write_bytes(data)

    def encrypted(path: Path, path_of: PathOf) -> None:
        run_ffmpeg(
            "-i", path_of(CARRIER), "-c", "copy", "-encryption_scheme", "cenc-aes-ctr",
            "-encryption_key", "76a6c65c5ea762046bd749a2e632ccbb",
            "-encryption_kid", "a7e61c373e219033c21091fa607bf3b8", path,
        )  # fmt: skip

    partial = ("hostile/half.mp4", CARRIER, 0.5), ("hostile/most.mp4", CARRIER, 0.97)
    for file, source, share in partial:
        yield Entry(file=file, expect="partial"), part(source, share)
    yield Entry(file="hostile/hole.mp4", expect="partial"), hole
    yield Entry(file="hostile/encrypted.mp4", expect="encrypted"), encrypted
    for file, source in (("no_index.mp4", "cuts/h264.mp4"), ("half.jpg", "exif/turned_1.jpg")):
        yield Entry(file=f"hostile/{file}", expect="reject"), part(source, 0.5)
    yield Entry(file="hostile/empty.mp4", expect="reject"), part(CARRIER, 0)
    yield Entry(file="hostile/one_byte.mp4", expect="reject"), part(CARRIER, 0.00001)


def _not_media() -> Iterator[Recipe]:
    place = "http://127.0.0.1:18999/segment.ts"
    texts = {
        "playlist.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n{place}\n",
        "playlist_as.mp4": "#EXTM3U\n#EXTINF:4,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n",
        "session.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 18998 RTP/AVP 96\n",
        "list.ffconcat": "ffconcat version 1.0\nfile /etc/hostname\n",
        "drawing.svg": f'<svg xmlns="http://www.w3.org/2000/svg"><image href="{place}"/></svg>',
        "page.jpg": "<!DOCTYPE html><html><body>404 Not Found</body></html>",
        "notes.mp4": "Dear diary, today nothing moved.\n",
    }
    for name, text in texts.items():
        yield (
            Entry(file=f"hostile/{name}", expect="reject"),
            lambda path, path_of, text=text: path.write_text(text),
        )

    def noise(path: Path, path_of: PathOf) -> None:
        path.write_bytes(random.Random(4).randbytes(50_000))

    def flood(path: Path, path_of: PathOf) -> None:
        make_png_claiming(path, width=60_000, height=60_000)

    yield Entry(file="hostile/noise.mp4", expect="bounded"), noise
    yield Entry(file="hostile/flood.png", expect="reject"), flood
