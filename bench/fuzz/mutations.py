"""Damage to bytes, decided by nothing but the random numbers that are handed in."""

import random
import re
from collections.abc import Callable

#: First bytes of a file, where headers are.
_HEADER_BYTES = 4096
_MAX_BLOCK_BYTES = 65_536
#: Marker of a header field → where the field begins, from the marker's start, and its width.
_BOXES = (
    b"ftyp moov trak mdia minf stbl stsd stsz stco co64 stts stsc stss ctts mdat mvhd tkhd mdhd "
    b"elst avc1 avcC mp4a esds meta iloc iinf ipco ispe hvcC av1C moof traf trun tfhd free"
).split()
_CHUNKS = b"IHDR IDAT PLTE tRNS iCCP tEXt zTXt acTL fcTL fdAT IEND".split()
_RIFF = [b"RIFF", b"LIST", b"avih", b"strh", b"strf", b"idx1", b"00dc", b"01wb", b"fmt ", b"data"]
_RIFF += [b"VP8 ", b"VP8L", b"VP8X", b"ANIM", b"ANMF", b"ALPH", b"ICCP", b"EXIF"]
_EBML = [
    bytes.fromhex(each)
    for each in ("1a45dfa3 18538067 114d9b74 1549a966 1654ae6b 1f43b675 1c53bb6b 2ad7b1 "
                 "4489 83 86 63a2 e0 b0 ba e1 a3 a1").split()
]  # fmt: skip
_JPEG = [bytes([0xFF, kind]) for kind in (0xC0, 0xC2, 0xC4, 0xDB, 0xDA, 0xDD, 0xE0, 0xE1, 0xE2)]
_OTHER = [b"OggS", b"fLaC", b"FLV", b"\x00\x00\x01\xba", b"\x47\x40", b"II*\0", b"MM\0*", b"GIF8"]
_FIELDS: list[tuple[bytes, int, int]] = [
    *((marker, -4, 4) for marker in _BOXES + _CHUNKS),
    *((marker, offset, 4) for marker in _BOXES for offset in (4, 8, 12, 16)),
    *((marker, offset, 4) for marker in _CHUNKS for offset in (4, 8)),
    *((marker, offset, 4) for marker in _RIFF for offset in (4, 8, 12)),
    *((marker, len(marker), width) for marker in _EBML for width in (1, 2, 8)),
    *((marker, offset, 2) for marker in _JPEG for offset in (2, 5, 7)),
    *((marker, offset, 4) for marker in _OTHER for offset in (4, 6, 12, 22, 26)),
]

_Mutation = Callable[[bytearray, random.Random, bytes], str]


def mutate(data: bytes, rng: random.Random, other: bytes, *, is_text: bool) -> tuple[bytes, str]:
    """One to three mutations, and what they were. ``other`` is another file."""
    damaged, told = bytearray(data), []
    for _ in range(rng.choice((1, 1, 2, 3))):
        kinds = TEXT_MUTATIONS + BYTE_MUTATIONS if is_text else BYTE_MUTATIONS
        told.append(rng.choice(kinds)(damaged, rng, other))
    return bytes(damaged), "; ".join(told)


def _truncate(data: bytearray, rng: random.Random, other: bytes) -> str:
    at = rng.randint(0, len(data))
    if rng.random() < 0.3:
        at = min(at, rng.randint(0, _HEADER_BYTES))
    del data[at:]
    return f"truncated at {at}"


def _flip_header(data: bytearray, rng: random.Random, other: bytes) -> str:
    return _flip(data, rng, min(len(data), _HEADER_BYTES))


def _flip_anywhere(data: bytearray, rng: random.Random, other: bytes) -> str:
    return _flip(data, rng, len(data))


def _flip(data: bytearray, rng: random.Random, end: int) -> str:
    count = rng.choice((1, 4, 16, 64))
    for _ in range(count if end else 0):
        data[rng.randrange(end)] ^= 1 << rng.randrange(8)
    return f"{count} bits flipped before {end}"


def _block(data: bytearray, rng: random.Random) -> tuple[int, int]:
    start = rng.randint(0, len(data))
    return start, min(len(data), start + rng.randint(1, min(_MAX_BLOCK_BYTES, len(data) // 4 + 1)))


def _zero(data: bytearray, rng: random.Random, other: bytes) -> str:
    start, end = _block(data, rng)
    data[start:end] = bytes([rng.choice((0, 0, 255))]) * (end - start)
    return f"{start}-{end} overwritten"


def _remove(data: bytearray, rng: random.Random, other: bytes) -> str:
    start, end = _block(data, rng)
    del data[start:end]
    return f"{start}-{end} removed"


def _duplicate(data: bytearray, rng: random.Random, other: bytes) -> str:
    start, end = _block(data, rng)
    data[end:end] = data[start:end] * rng.choice((1, 1, 3))
    return f"{start}-{end} doubled"


def _swap(data: bytearray, rng: random.Random, other: bytes) -> str:
    first, second = sorted((_block(data, rng), _block(data, rng)))
    if first[1] <= second[0]:
        one, two = bytes(data[slice(*first)]), bytes(data[slice(*second)])
        data[slice(*second)] = one
        data[slice(*first)] = two
    return f"{first} and {second} swapped"


def _field(data: bytearray, rng: random.Random, other: bytes) -> str:
    """A length, a count or a size in a header becomes something else."""
    present = [field for field in _FIELDS if field[0] in data]
    if not present:
        return _flip_header(data, rng, other)
    marker, offset, width = rng.choice(present)
    places = [match.start() for match in re.finditer(re.escape(marker), data)]
    at = max(0, rng.choice(places) + offset)
    largest = (1 << 8 * width) - 1
    value = rng.choice((0, 1, 2, largest, largest >> 1, largest - 1, rng.randint(0, largest)))
    data[at : at + width] = value.to_bytes(width, rng.choice(("big", "little")))
    return f"{width} bytes at {at} ({marker!r}{offset:+}) set to {value}"


def _splice(data: bytearray, rng: random.Random, other: bytes) -> str:
    """The beginning of one file, the end of another."""
    at, start = rng.randint(0, len(data)), rng.randint(0, len(other))
    data[at:] = other[start:]
    return f"from {at} on another file from {start} on"


def _insert(data: bytearray, rng: random.Random, other: bytes) -> str:
    at, count = rng.randint(0, len(data)), rng.randint(1, 2000)
    data[at:at] = rng.randbytes(count)
    return f"{count} random bytes inserted at {at}"


_ODD_TEXTS = (
    b"-->", b"00:00:00,000 --> 99:59:59,999\n", b"\n\n\n", b"\xff\xfe", b"\xef\xbb\xbf", b"\0",
    b"{\\an8}", b"<b><i><font color='#ff0000'>", b"&#x110000;", b"{\\p1}m 0 0", b"WEBVTT\n\n",
    b"[Script Info]\n", b"[Events]\nDialogue: 0,0:00:00.00,0:00:01.00,,,0,0,0,,x\n", b"9" * 400,
    b"Format: Start, End\n", "\u202e\u200b\ud7ff".encode(), b"NOTE -->\n",
    b"1e309", b"<00:00:01.000>",
)  # fmt: skip


def _odd_text(data: bytearray, rng: random.Random, other: bytes) -> str:
    text, at = rng.choice(_ODD_TEXTS), rng.randint(0, len(data))
    data[at:at] = text * rng.choice((1, 1, 50))
    return f"{text!r} inserted at {at}"


def _shuffle_lines(data: bytearray, rng: random.Random, other: bytes) -> str:
    lines = bytes(data).splitlines(keepends=True)
    rng.shuffle(lines)
    data[:] = b"".join(lines)
    return "lines shuffled"


def _other_numbers(data: bytearray, rng: random.Random, other: bytes) -> str:
    changed = re.sub(
        rb"\d", lambda match: rng.choice(b"0123456789-: ").to_bytes() if rng.random() < 0.2
        else match[0], bytes(data),
    )  # fmt: skip
    data[:] = changed
    return "a fifth of the digits changed"


def _repeat(data: bytearray, rng: random.Random, other: bytes) -> str:
    times = rng.choice((2, 10, 400))
    data[:] = (bytes(data) * times)[: 4 * 1024**2]
    return f"repeated {times} times"


BYTE_MUTATIONS: tuple[_Mutation, ...] = (
    _truncate, _flip_header, _flip_anywhere, _zero, _remove, _duplicate, _swap, _field, _field,
    _field, _splice, _insert,
)  # fmt: skip
TEXT_MUTATIONS: tuple[_Mutation, ...] = (_odd_text, _shuffle_lines, _other_numbers, _repeat)
