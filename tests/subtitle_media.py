"""Media with the subtitles that no tool makes: captions beside pictures, PGS, WebVTT in MP4."""

import struct
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from media_factory import run_ffmpeg
from PIL import Image, ImageDraw, ImageFont

Pair = tuple[int, int]


def control(*codes: int, first: int = 0x14) -> list[Pair]:
    """CEA-608 commands, each sent twice."""
    return [(first, code) for code in codes for _ in range(2)]


def letters(text: str) -> list[Pair]:
    """CEA-608 text, two letters at a time."""
    padded = text + "\0" * (len(text) % 2)
    return [(ord(a), ord(b)) for a, b in zip(padded[::2], padded[1::2], strict=True)]


def pop_on(text: str, *, channel: int = 1) -> list[Pair]:
    """Load a caption on the last row and show it."""
    first = 0x1C if channel == 2 else 0x14
    return [*control(0x20, 0x2E, 0x70, first=first), *letters(text), *control(0x2F, first=first)]


def erase(*, channel: int = 1) -> list[Pair]:
    return control(0x2C, first=0x1C if channel == 2 else 0x14)


def triplets(pairs: Sequence[Pair], *, field: int = 0) -> bytes:
    """Pairs of bytes as A/53 holds them, with parity."""
    return b"".join(bytes((0xFC | field, _odd(a), _odd(b))) for a, b in pairs)


def _odd(byte: int) -> int:
    return byte | (0 if byte.bit_count() % 2 else 0x80)


def a53(data: bytes) -> bytes:
    """User data as ATSC A/53 part 4 has it, from the identifier on."""
    return b"GA94\x03" + bytes((0x40 | len(data) // 3, 0xFF)) + data + b"\xff"


def h264_sei(data: bytes) -> bytes:
    """A NAL unit with registered user data, and its length before it as in MP4."""
    return _sized(b"\x06" + _sei_message(data))


def hevc_sei(data: bytes) -> bytes:
    return _sized(b"\x4e\x01" + _sei_message(data))


def mpeg2_user_data(data: bytes) -> bytes:
    return b"\0\0\1\xb2" + a53(data)


def _sei_message(data: bytes) -> bytes:
    payload = b"\xb5\0\x31" + a53(data)
    return bytes((4, len(payload))) + payload + b"\x80"


def _sized(unit: bytes) -> bytes:
    return struct.pack(">I", len(unit)) + unit


def add_captions(
    video: Path, path: Path, captions: dict[int, bytes], unit: Callable[[bytes], bytes]
) -> Path:
    """A copy of the video with ``captions`` (picture in order of time → triplets) in ``unit``."""
    with av.open(str(video)) as source, av.open(str(path), "w") as target:
        stream = source.streams.video[0]
        copied = target.add_stream_from_template(stream)
        packets = [packet for packet in source.demux(stream) if packet.size]
        shown = sorted(packet.pts for packet in packets)
        for packet in packets:
            data = captions.get(shown.index(packet.pts), triplets([(0, 0)]))
            old = bytes(packet)
            at = old.find(b"\0\0\1\x01") if unit is mpeg2_user_data else 0
            new = av.Packet(old[:at] + unit(data) + old[at:])
            new.pts, new.dts, new.duration = packet.pts, packet.dts, packet.duration
            new.time_base, new.is_keyframe = packet.time_base, packet.is_keyframe
            new.stream = copied
            target.mux(new)
    return path


def picture_of(text: str, *, size: int = 40) -> Image.Image:
    """White letters with a black edge on nothing: ``RGBA``."""
    font = ImageFont.load_default(size)
    left, top, right, bottom = font.getbbox(text, stroke_width=3)
    picture = Image.new("RGBA", (int(right - left) + 20, int(bottom - top) + 20))
    ImageDraw.Draw(picture).text(
        (10 - left, 10 - top), text, (255, 255, 255), font, stroke_width=3, stroke_fill=(0, 0, 0)
    )
    return picture


def make_pgs(path: Path, shown: Sequence[tuple[int, int, str]]) -> Path:
    """A ``.sup`` file of (start in ms, end in ms, text)."""
    with path.open("wb") as file:
        for number, (start_ms, end_ms, text) in enumerate(shown):
            for segment in _pgs_shown(picture_of(text), number):
                file.write(_pgs_segment(start_ms, *segment))
            for segment in _pgs_cleared(number):
                file.write(_pgs_segment(end_ms, *segment))
    return path


def _pgs_segment(at_ms: int, kind: int, data: bytes) -> bytes:
    return b"PG" + struct.pack(">IIBH", at_ms * 90, 0, kind, len(data)) + data


def _pgs_shown(picture: Image.Image, number: int) -> Iterator[tuple[int, bytes]]:
    width, height = picture.size
    pixels = np.asarray(picture)
    # Nothing, black edge, white letter.
    indices = np.where(pixels[..., 3] < 128, 0, np.where(pixels[..., 0] < 128, 1, 2))
    yield (
        0x16,
        struct.pack(">HHBHBBBB", 1920, 1080, 0x10, 2 * number, 0x80, 0, 0, 1)
        + struct.pack(">HBBHH", 0, 0, 0, 300, 900),
    )
    yield 0x17, struct.pack(">BBHHHH", 1, 0, 300, 900, width, height)
    yield 0x14, bytes((0, 0, 1, 16, 128, 128, 255, 2, 235, 128, 128, 255))
    rows = b"".join(b"".join(_pgs_runs(row.tolist())) + b"\0\0" for row in indices)
    yield (
        0x15,
        struct.pack(">HBB", 0, 0, 0xC0)
        + (len(rows) + 4).to_bytes(3, "big")
        + struct.pack(">HH", width, height)
        + rows,
    )
    yield 0x80, b""


def _pgs_runs(row: list[int]) -> Iterator[bytes]:
    at = 0
    while at < len(row):
        end = at
        while end < len(row) and row[end] == row[at] and end - at < 0x3FFF:
            end += 1
        count, colour = end - at, row[at]
        if colour and count == 1:
            yield bytes((colour,))
        else:
            flags = (0x80 if colour else 0) | (0x40 if count > 63 else 0)
            length = (
                (flags << 8 | count).to_bytes(2, "big") if count > 63 else bytes((flags | count,))
            )
            yield b"\0" + length + (bytes((colour,)) if colour else b"")
        at = end


def _pgs_cleared(number: int) -> Iterator[tuple[int, bytes]]:
    yield 0x16, struct.pack(">HHBHBBBB", 1920, 1080, 0x10, 2 * number + 1, 0, 0, 0, 0)
    yield 0x17, struct.pack(">BBHHHH", 1, 0, 300, 900, 8, 8)
    yield 0x80, b""


def box(kind: bytes, *parts: bytes) -> bytes:
    data = b"".join(parts)
    return struct.pack(">I", 8 + len(data)) + kind + data


def make_wvtt(video: Path, path: Path, samples: Sequence[tuple[int, int, Sequence[str]]]) -> Path:
    """An MP4 with a stream of WebVTT of (start in ms, end in ms, texts); no texts: a gap."""
    srt = path.with_suffix(".srt")
    srt.write_text("1\n00:00:00,000 --> 00:00:01,000\nx\n\n", encoding="utf-8")
    timed = path.with_suffix(".text.mp4")
    run_ffmpeg("-i", video, "-i", srt, "-map", "0:v", "-map", "1", "-c:v", "copy", "-c:s",
               "mov_text", timed)  # fmt: skip
    with av.open(str(timed)) as source, av.open(str(path), "w", format="mp4") as target:
        copied = [target.add_stream_from_template(stream) for stream in source.streams]
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                packet.stream = copied[0]
                target.mux(packet)
        for start_ms, end_ms, texts in samples:
            cues = [box(b"vttc", box(b"iden", b"1"), box(b"payl", x.encode())) for x in texts]
            new = av.Packet(b"".join(cues) or box(b"vtte"))
            new.pts = new.dts = start_ms
            new.duration = end_ms - start_ms
            new.time_base = Fraction(1, 1000)
            new.stream = copied[1]
            target.mux(new)
    path.write_bytes(path.read_bytes().replace(b"tx3g", b"wvtt"))
    return path


def make_vobsub(index: Path, shown: Sequence[tuple[int, int, str]]) -> Path:
    """An ``.idx`` file, and the ``.sub`` file beside it, of (start in ms, end in ms, text)."""
    sup = make_pgs(index.with_suffix(".sup"), shown)
    timed = index.with_suffix(".mkv")
    run_ffmpeg("-copyts", "-fix_sub_duration", "-i", sup, "-c:s", "dvdsub", timed)
    head = "# VobSub index file, v7 (do not modify this line!)\n"
    entries, data = "", b""
    with av.open(str(timed)) as source:
        stream = source.streams[0]
        extra = stream.codec_context.extradata or b""
        for packet in source.demux(stream):
            if packet.size:
                at = packet.pts
                entries += (
                    f"timestamp: 00:00:{at // 1000:02}:{at % 1000:03}, filepos: {len(data):09x}\n"
                )
                data += _program_stream(bytes(packet), at * 90)
    palette = extra.decode("ascii", "replace").rstrip("\0\n") + "\n"
    index.write_text(f"{head}{palette}langidx: 0\nid: en, index: 0\n{entries}", encoding="utf-8")
    index.with_suffix(".sub").write_bytes(data)
    return index


def _program_stream(data: bytes, pts: int) -> bytes:
    """Packs of 2,048 bytes with the data of one private stream."""
    packs = b""
    clock = bytes((0x21 | pts >> 29 & 0xE, pts >> 22 & 0xFF, pts >> 14 & 0xFE | 1,
                   pts >> 7 & 0xFF, pts << 1 & 0xFE | 1))  # fmt: skip
    while data:
        pack = bytes.fromhex("000001ba440004000401010003f8")
        part, data = data[:1900], data[1900:]
        header = b"\x81\x80\x05" + clock if not packs else b"\x81\0\0"
        body = header + b"\x20" + part
        pack += b"\0\0\1\xbd" + struct.pack(">H", len(body)) + body
        room = 2048 - len(pack) - 6
        packs += pack + b"\0\0\1\xbe" + struct.pack(">H", room) + b"\xff" * room
    return packs
