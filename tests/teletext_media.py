"""A broadcast with a stream of teletext, which no tool makes: a page of subtitles, byte by byte."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
from media_factory import run_ffmpeg
from subtitle_media import make_pgs

_PACKET = 188
_HAMMING = (0x15, 0x02, 0x49, 0x5E, 0x64, 0x73, 0x38, 0x2F,
            0xD0, 0xC7, 0x8C, 0x9B, 0xA1, 0xB6, 0xFD, 0xEA)  # fmt: skip
#: The muxer begins payloads of DVB subtitles so; teletext begins with its own identifier.
_DVB_START, _TELETEXT_START = b"\x20\x00", b"\x10\x02"
_MARK = b"\x2c\xe7"
_MAP_PID = 0x1000
_STUFFING = b"\xff\x2c" + b"\xff" * 44


def make_teletext(video: Path, path: Path, shown: Sequence[tuple[int, int, str]]) -> Path:
    """The video as a transport stream with page 888 of (start in ms, end in ms, text)."""
    sup = make_pgs(path.with_suffix(".sup"), [(0, 500, "x")])
    timed = path.with_suffix(".dvb.ts")
    run_ffmpeg("-i", video, "-fix_sub_duration", "-i", sup, "-map", "0:v", "-map", "1", "-c:v",
               "copy", "-c:s", "dvbsub", timed)  # fmt: skip
    with av.open(str(timed)) as source, av.open(str(path), "w", format="mpegts") as target:
        copied = [target.add_stream_from_template(stream) for stream in source.streams]
        packets = [packet for packet in source.demux(source.streams.video[0]) if packet.size]
        for packet in packets:
            packet.stream = copied[0]
        start = min(packet.pts for packet in packets)
        for start_ms, end_ms, text in shown:
            for at_ms, rows in ((start_ms, {22: text}), (end_ms, {}), (end_ms + 40, {})):
                new = av.Packet(_page(rows))
                new.pts = new.dts = start + at_ms * 90
                new.time_base = Fraction(1, 90_000)
                new.stream = copied[1]
                packets.append(new)
        for packet in sorted(packets, key=lambda packet: packet.dts):
            target.mux(packet)
    data = path.read_bytes()
    data = data.replace(_DVB_START + _MARK, _TELETEXT_START + _MARK)
    parts = (data[at : at + _PACKET] for at in range(0, len(data), _PACKET))
    path.write_bytes(b"".join(map(_as_teletext, parts)))
    return path


def _as_teletext(packet: bytes) -> bytes:
    """A program map whose descriptor of subtitles becomes one of teletext, with a new checksum."""
    at = packet.find(b"\x59\x08")
    if int.from_bytes(packet[1:3], "big") & 0x1FFF != _MAP_PID or at < 0:
        return packet
    descriptor = b"\x56\x05eng\x10\x88\xfe\x01x"
    end = 8 + (int.from_bytes(packet[6:8], "big") & 0xFFF)
    body = packet[5:at] + descriptor + packet[at + 10 : end - 4]
    return packet[:5] + body + _crc(body).to_bytes(4, "big") + packet[end:]


def _crc(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ (0x04C11DB7 if crc & 0x80000000 else 0)) & 0xFFFFFFFF
    return crc


def _page(rows: dict[int, str]) -> bytes:
    """The lines of page 888, as subtitles that erase what was there."""
    lines = [_line(0, bytes(map(_HAMMING.__getitem__, (8, 8, 0, 8, 0, 8, 1, 0))), " " * 32)]
    lines += [_line(row, b"", f"{chr(11) * 2}{text}{chr(10) * 2}") for row, text in rows.items()]
    # The header of another page ends this one.
    lines.append(_line(0, bytes(map(_HAMMING.__getitem__, (15, 15, 0, 8, 0, 8, 0, 0))), " " * 32))
    lines += [_STUFFING] * (3 - len(lines))
    # Identifier and kind of the first line come with _TELETEXT_START, the last byte by the muxer.
    return b"".join(lines)[1:-1]


def _line(row: int, start: bytes, text: str) -> bytes:
    magazine = 0
    address = bytes((_HAMMING[magazine | (row & 1) << 3], _HAMMING[row >> 1]))
    body = address + start + bytes(map(_odd, text.encode("ascii")))
    body += bytes((_odd(0x20),)) * (42 - len(body))
    return b"\x02\x2c" + bytes((0xE7,)) + bytes(map(_reversed, b"\x27" + body))


def _odd(byte: int) -> int:
    return byte | (0 if byte.bit_count() % 2 else 0x80)


def _reversed(byte: int) -> int:
    return int(f"{byte:08b}"[::-1], 2)
