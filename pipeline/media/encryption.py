"""Whether an MP4 is encrypted (ISO/IEC 23001-7). Runs in the child only."""

import struct
from pathlib import Path

#: Sample entries of encrypted streams.
_TAGS = (b"encv", b"enca")
#: A header larger than this is not searched.
_MAX_MOOV_BYTES = 64 * 1024**2


def is_encrypted_mp4(path: Path) -> bool:
    """By its boxes: demuxers decode what is encrypted as if it were not."""
    end = path.stat().st_size
    with path.open("rb") as file:
        while len(header := file.read(8)) == 8:
            size, kind = struct.unpack(">I4s", header)
            rest = size - 8
            if size == 1:
                rest = int.from_bytes(file.read(8), "big") - 16
            if kind == b"moov":
                moov = file.read(min(max(0, rest), _MAX_MOOV_BYTES))
                is_tagged = any(tag in moov for tag in _TAGS)
                return is_tagged and b"sinf" in moov and b"schm" in moov
            if size == 0 or rest < 0 or rest > end:
                return False
            file.seek(rest, 1)
    return False
