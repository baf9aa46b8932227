"""WebVTT as containers hold it: texts of cues alone, in MP4 in boxes (ISO/IEC 14496-30)."""

from collections.abc import Iterator, Sequence

_CUE = b"vttc"
_BOXES = frozenset({_CUE, b"vtte", b"vtta", b"vttx"})
_PAYLOAD = b"payl"


def is_boxes(data: bytes) -> bool:
    """Whether a packet holds boxes, not text."""
    return len(data) >= 8 and data[4:8] in _BOXES


def document(packets: Sequence[tuple[int, int, bytes]]) -> str:
    """A WebVTT file of (start in ms, end in ms, packet). A cue that goes on in the next packet,
    as MP4 cuts them, is one."""
    cues: list[tuple[int, int, str]] = []
    for start_ms, end_ms, data in packets:
        for text in _texts(data):
            # An empty line would end the cue, an arrow begin another.
            lines = (line.replace("-->", "\u2192") for line in text.splitlines() if line.strip())
            joined = "\n".join(lines)
            before = next(
                (
                    n
                    for n in range(len(cues) - 1, max(-1, len(cues) - 9), -1)
                    if cues[n][1:] == (start_ms, joined)
                ),
                None,
            )
            if before is not None and is_boxes(data):
                cues[before] = (cues[before][0], end_ms, joined)
            elif joined:
                cues.append((start_ms, end_ms, joined))
    blocks = [f"{_clock(start)} --> {_clock(end)}\n{text}\n" for start, end, text in cues]
    return "\n".join(["WEBVTT\n", *blocks])


def _texts(data: bytes) -> Iterator[str]:
    if not is_boxes(data):
        yield data.decode("utf-8", "replace")
        return
    for kind, body in _boxes(data):
        if kind == _CUE:
            for inner, payload in _boxes(body):
                if inner == _PAYLOAD:
                    yield payload.decode("utf-8", "replace")


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if size < 8:
            return
        yield data[at + 4 : at + 8], data[at + 8 : at + size]
        at += size


def _clock(milliseconds: int) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{rest:03}"
