"""Pictures for tests that no library at hand writes: RAW, HEIC, odd profiles, hostile JPEGs."""

import struct
from io import BytesIO
from pathlib import Path

import av
import numpy as np
from media_factory import run_ffmpeg
from PIL import Image, ImageCms

_SHORT, _LONG, _ASCII, _BYTE = 3, 4, 2, 1
_FORMATS = {_SHORT: "H", _LONG: "I", _BYTE: "B"}
_CFA = 32803


def make_dng(path: Path, preview: Image.Image, *, orientation: int = 1) -> Path:
    """A DNG with a tiny thumbnail first, sensor data, and a JPEG preview, as cameras write them.

    The sensor's picture has the size of the preview.
    """
    width, height = preview.size
    jpeg = BytesIO()
    preview.save(jpeg, "JPEG", quality=95)
    thumbnail = bytes(8 * 6 * 3)
    sensor = np.full((height, width), 1000, np.uint16).tobytes()
    blobs = [thumbnail, sensor, jpeg.getvalue()]
    offsets = [8 + sum(map(len, blobs[:index])) for index in range(3)]
    data = b"".join(blobs)

    def picture(columns: int, rows: int, photometric: int, compression: int, which: int) -> list:
        return [
            (254, _LONG, [0 if photometric == _CFA else 1]),
            (256, _LONG, [columns]),
            (257, _LONG, [rows]),
            (258, _SHORT, [16] if photometric == _CFA else [8, 8, 8]),
            (259, _SHORT, [compression]),
            (262, _SHORT, [photometric]),
            (273, _LONG, [offsets[which]]),
            (277, _SHORT, [1 if photometric == _CFA else 3]),
            (278, _LONG, [rows]),
            (279, _LONG, [len(blobs[which])]),
        ]

    sub_ifds = []
    at = 8 + len(data)
    raw_tags = [
        *picture(width, height, _CFA, 1, 1),
        (33421, _SHORT, [2, 2]),
        (33422, _BYTE, [0, 1, 1, 2]),
    ]
    for tags in (raw_tags, picture(width, height, 6, 7, 2)):
        sub_ifds.append(at)
        block = _ifd(tags, at)
        data += block
        at += len(block)
    first = [
        *picture(8, 6, 2, 1, 0),
        (271, _ASCII, b"Testmaker\0"),
        (272, _ASCII, b"Model One\0"),
        (274, _SHORT, [orientation]),
        (330, _LONG, sub_ifds),
        (50706, _BYTE, [1, 4, 0, 0]),
        (50708, _ASCII, b"Testmaker Model One\0"),
    ]
    path.write_bytes(b"II*\0" + struct.pack("<I", at) + data + _ifd(first, at))
    return path


def _ifd(tags: list, at: int) -> bytes:
    entries, extra = b"", b""
    extra_at = at + 2 + 12 * len(tags) + 4
    for tag, kind, values in sorted(tags):
        packed = (
            values
            if isinstance(values, bytes)
            else struct.pack(f"<{len(values)}{_FORMATS[kind]}", *values)
        )
        field = packed.ljust(4, b"\0")
        if len(packed) > 4:
            field = struct.pack("<I", extra_at + len(extra))
            extra += packed + bytes(len(packed) % 2)
        entries += struct.pack("<HHI", tag, kind, len(values)) + field
    return struct.pack("<H", len(tags)) + entries + bytes(4) + extra


def make_heic(
    path: Path,
    picture: Image.Image,
    *,
    quarter_turns: int = 0,
    icc_profile: bytes | None = None,
    stated_size: tuple[int, int] | None = None,
) -> Path:
    """A HEIC of one HEVC frame; ``quarter_turns`` anti-clockwise bring it upright (``irot``)."""
    still, clip = path.with_suffix(".png"), path.with_suffix(".mp4")
    picture.save(still)
    run_ffmpeg("-i", still, "-c:v", "libx265", "-x265-params", "log-level=error", "-crf", "4",
               "-pix_fmt", "yuv444p", "-frames:v", "1", clip)  # fmt: skip
    with av.open(str(clip)) as container:
        hvcc = bytes(container.streams.video[0].codec_context.extradata)
        sample = bytes(next(container.demux(video=0)))
    width, height = stated_size or picture.size
    properties = [
        _box(b"hvcC", hvcc),
        _full_box(b"ispe", struct.pack(">II", width, height)),
        _box(b"irot", bytes([quarter_turns])),
    ]
    if icc_profile is not None:
        properties.append(_box(b"colr", b"prof" + icc_profile))
    indexes = [0x81, *range(2, len(properties) + 1)]
    head = _box(b"ftyp", b"heic" + bytes(4) + b"mif1heic")

    def meta(offset: int) -> bytes:
        infe = _full_box(b"infe", struct.pack(">HH4sx", 1, 0, b"hvc1"), version=2)
        extent = struct.pack(">HHHHII", 1, 0, 0, 1, offset, len(sample))
        associations = struct.pack(f">IHB{len(indexes)}B", 1, 1, len(indexes), *indexes)
        return _full_box(
            b"meta",
            _full_box(b"hdlr", struct.pack(">I4s12sx", 0, b"pict", b""))
            + _full_box(b"pitm", struct.pack(">H", 1))
            + _full_box(b"iloc", struct.pack(">HH", 0x4400, 1) + extent[:2] + extent[4:])
            + _full_box(b"iinf", struct.pack(">H", 1) + infe)
            + _box(b"iprp", _box(b"ipco", b"".join(properties)) + _full_box(b"ipma", associations)),
        )

    offset = len(head) + len(meta(0)) + 8
    path.write_bytes(head + meta(offset) + _box(b"mdat", sample))
    return path


def _box(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", 8 + len(data)) + kind + data


def _full_box(kind: bytes, data: bytes, version: int = 0) -> bytes:
    return _box(kind, bytes([version, 0, 0, 0]) + data)


def add_scans(path: Path, count: int) -> Path:
    """Repeat the last scan of a progressive JPEG, so that decoding it takes long."""
    data = path.read_bytes()
    start = data.rindex(b"\xff\xda")
    path.write_bytes(data[:-2] + data[start:-2] * count + data[-2:])
    return path


def flat(colour: tuple[int, ...] | int, mode: str = "RGB") -> Image.Image:
    return Image.new(mode, (64, 48), colour)


def two_colours(size: tuple[int, int] = (80, 40)) -> Image.Image:
    """Red, with a blue quarter at the top left."""
    picture = Image.new("RGB", size, (255, 0, 0))
    picture.paste((0, 0, 255), (0, 0, size[0] // 2, size[1] // 2))
    return picture


def rgb_profile(gamma: float, primaries: tuple[bytes, ...] | None = None) -> bytes:
    """A matrix profile with one gamma; its primaries are sRGB's, or in the order given."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    count = struct.unpack(">I", srgb[128:132])[0]
    tags = {}
    for at in range(132, 132 + 12 * count, 12):
        name, offset, size = struct.unpack(">4sII", srgb[at : at + 12])
        tags[name] = srgb[offset : offset + size]
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    red, green, blue = (tags[name] for name in primaries or (b"rXYZ", b"gXYZ", b"bXYZ"))
    new = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", 5) + b"Test\0" + bytes(79),
        b"wtpt": tags[b"wtpt"],
        b"rXYZ": red,
        b"gXYZ": green,
        b"bXYZ": blue,
        b"rTRC": curve,
        b"gTRC": curve,
        b"bTRC": curve,
    }
    return _profile(b"RGB ", new)


def grey_profile(gamma: float) -> bytes:
    white = b"XYZ " + bytes(4) + struct.pack(">iii", 63190, 65536, 54061)
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    return _profile(b"GRAY", {b"wtpt": white, b"kTRC": curve})


def _profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    directory, data = struct.pack(">I", len(tags)), b""
    start = 132 + 12 * len(tags)
    for name, value in tags.items():
        directory += struct.pack(">4sII", name, start + len(data), len(value))
        data += value.ljust(-len(value) % 4 + len(value), b"\0")
    header = struct.pack(
        ">I4sI4s4s4s12s4s28sIII", start + len(data), b"test", 0x02400000, b"mntr", space, b"XYZ ",
        bytes(12), b"acsp", bytes(28), 63190, 65536, 54061,
    )  # fmt: skip
    return header.ljust(128, b"\0") + directory + data
