"""An encoder of CEA-708 captions: codes of a service → blocks → packets → triplets."""

from collections.abc import Sequence
from itertools import count

ETX, BS, FF, CR, HCR = b"\x03", b"\x08", b"\x0c", b"\x0d", b"\x0e"
DELAY_CANCEL, RESET = b"\x8e", b"\x8f"
ROLL_UP_STYLE = 4


def current(window: int) -> bytes:
    return bytes((0x80 | window,))


def clear(*windows: int) -> bytes:
    return b"\x88" + _bits(windows)


def display(*windows: int) -> bytes:
    return b"\x89" + _bits(windows)


def hide(*windows: int) -> bytes:
    return b"\x8a" + _bits(windows)


def toggle(*windows: int) -> bytes:
    return b"\x8b" + _bits(windows)


def delete(*windows: int) -> bytes:
    return b"\x8c" + _bits(windows)


def delay(tenths: int) -> bytes:
    return bytes((0x8D, tenths))


def pen_at(row: int, column: int) -> bytes:
    return bytes((0x92, row, column))


def _bits(windows: Sequence[int]) -> bytes:
    return bytes((sum(1 << window for window in windows),))


def define(
    window: int = 0,
    *,
    rows: int = 2,
    columns: int = 32,
    top: int = 60,
    left: int = 20,
    anchor: int = 0,
    style: int = 1,
    is_visible: bool = False,
    is_relative: bool = False,
) -> bytes:
    return bytes((
        0x98 | window,
        0x20 * is_visible | 0x18,
        0x80 * is_relative | top,
        left,
        anchor << 4 | (rows - 1),
        columns - 1,
        style << 3 | 1,
    ))  # fmt: skip


def pop_on(text: str, window: int = 0) -> bytes:
    """Lines of text in a window that is hidden until they are all there."""
    lines = text.split("\n")
    return b"".join((
        define(window, rows=len(lines)),
        *(pen_at(row, 0) + line.encode("latin-1") for row, line in enumerate(lines)),
        display(window),
    ))  # fmt: skip


def extended(*codes: int) -> bytes:
    return b"".join(bytes((0x10, code)) for code in codes)


def wide(text: str, encoding: str) -> bytes:
    """Characters of two bytes."""
    return b"".join(b"\x18" + letter.encode(encoding) for letter in text)


def blocks(data: bytes, service: int = 1, size: int = 31) -> list[bytes]:
    """Blocks of a service, each with its header."""
    parts = [data[at : at + size] for at in range(0, len(data), size)]
    if service < 7:
        return [bytes((service << 5 | len(part),)) + part for part in parts]
    return [bytes((7 << 5 | len(part), service)) + part for part in parts]


def packet(content: bytes, sequence: int) -> bytes:
    """A caption channel packet of blocks, with its header."""
    content += b"\0" * (1 - len(content) % 2)
    return bytes((sequence % 4 << 6 | (len(content) + 1) // 2 % 64,)) + content


def triplets(whole: bytes) -> bytes:
    """The triplets of a packet."""
    pairs = [whole[at : at + 2] for at in range(0, len(whole), 2)]
    return b"".join((b"\xfe" if at else b"\xff") + pair for at, pair in enumerate(pairs))


class Encoder:
    """Numbers packets as they come."""

    def __init__(self) -> None:
        self._sequence = count()

    def __call__(self, data: bytes, service: int = 1, *, size: int = 31) -> bytes:
        """The triplets of one service's codes: a packet for each block."""
        return b"".join(
            triplets(packet(block, next(self._sequence))) for block in blocks(data, service, size)
        )

    def together(self, *data: bytes) -> bytes:
        """The triplets of one packet with blocks of the services from 1 on."""
        content = b"".join(
            block for number, codes in enumerate(data, 1) for block in blocks(codes, number)
        )
        return triplets(packet(content, next(self._sequence)))
