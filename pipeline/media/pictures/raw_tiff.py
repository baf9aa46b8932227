"""Telling camera RAW files from TIFFs: most are TIFFs whose first picture is a thumbnail."""

import struct
from pathlib import Path
from typing import BinaryIO

_DNG_VERSION, _SUB_IFDS, _PHOTOMETRIC = 50706, 330, 262
#: Colour filter array, and linear sensor data.
_SENSOR = {32803, 34892}
_MAX_ENTRIES = 512
_MAX_SUB_IFDS = 16
_SIZES = {3: ("H", 2), 4: ("I", 4), 13: ("I", 4)}


def is_raw_tiff(path: Path) -> bool:
    """Whether the file is a DNG, or holds pixels as a sensor gives them."""
    with path.open("rb") as file:
        head = file.read(16)
        if head[8:12] == b"CR\x02\0":
            return True
        order = "<" if head[:2] == b"II" else ">"
        if len(head) < 8 or struct.unpack(order + "H", head[2:4])[0] != 42:
            return False
        first = _directory(file, order, struct.unpack(order + "I", head[4:8])[0])
        if _DNG_VERSION in first or _SENSOR & set(first.get(_PHOTOMETRIC, ())):
            return True
        return any(
            _SENSOR & set(_directory(file, order, offset).get(_PHOTOMETRIC, ()))
            for offset in first.get(_SUB_IFDS, ())
        )


def _directory(file: BinaryIO, order: str, offset: int) -> dict[int, tuple[int, ...]]:
    """The tags in question, with what whole numbers they hold."""
    file.seek(offset)
    count_bytes = file.read(2)
    if len(count_bytes) < 2:
        return {}
    count = min(struct.unpack(order + "H", count_bytes)[0], _MAX_ENTRIES)
    entries = file.read(12 * count)
    found: dict[int, tuple[int, ...]] = {}
    for at in range(0, len(entries) - 11, 12):
        tag, kind, number = struct.unpack(order + "HHI", entries[at : at + 8])
        if tag not in {_DNG_VERSION, _SUB_IFDS, _PHOTOMETRIC}:
            continue
        letter, size = _SIZES.get(kind, ("", 1))
        number = min(number, _MAX_SUB_IFDS)
        data = entries[at + 8 : at + 12]
        if number * size > 4:
            file.seek(struct.unpack(order + "I", data)[0])
            data = file.read(number * size)
        whole = letter and len(data) >= number * size
        found[tag] = (
            struct.unpack(f"{order}{number}{letter}", data[: number * size]) if whole else ()
        )
    return found
