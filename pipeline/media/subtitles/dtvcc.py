"""CEA-708 captions (DTVCC), out of the triplets that stand beside the pictures of a video.

After ANSI/CTA-708-E: triplets make caption channel packets, and packets hold blocks of bytes for
up to 63 services. What each service shows becomes cues. Whatever the bytes are, nothing raises.
Runs in the child only.
"""

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace

from pipeline.media.limits import MediaLimits
from pipeline.media.subtitles.dtvcc_service import Service
from pipeline.media.subtitles.parsing import ParsedCue, ParsedText

_PACKET_START = 3
#: Pictures that may be stored before one that is shown earlier: 16 frames of two fields.
_REORDERED = 32
#: Both bytes of a character in EUC-KR.
_EUC_KR = range(0xA1, 0xFF)


class DtvccDecoder:
    """Triplets of a video, in the order that its pictures are stored in → cues of each service."""

    def __init__(self, limits: MediaLimits) -> None:
        self._limits = limits
        #: A heap by time, then by order of arrival.
        self._waiting: list[tuple[int, int, bytes]] = []
        self._arrived = 0
        self._now_ms = 0
        self._sequence: int | None = None
        self._packet = bytearray()
        self._packet_size = 0
        self._services: dict[int, _Captions] = {}
        #: Of all services together.
        self._cues: list[tuple[int, ParsedCue]] = []

    def push(self, at_ms: int, triplets: bytes) -> None:
        """``triplets``: of the types 2 and 3, of one picture."""
        self._arrived += 1
        heapq.heappush(self._waiting, (at_ms, self._arrived, triplets))
        if len(self._waiting) > _REORDERED:
            self._read(*heapq.heappop(self._waiting))

    def services(self, end_ms: int) -> dict[str, ParsedText]:
        """``service 1`` to ``service 63`` → cues, of the services that hold any; ends the decoding.
        ``end_ms``: where a caption ends that nothing takes down."""
        while self._waiting:
            self._read(*heapq.heappop(self._waiting))
        self._end_packet()
        for captions in self._services.values():
            captions.finish(max(end_ms, self._now_ms + 1))
        cues: dict[int, list[ParsedCue]] = defaultdict(list)
        for number, cue in self._cues:
            cues[number].append(cue)
        found = {n: self._services[n].parsed(cues[n]) for n in sorted(cues)}
        return {f"service {n}": parsed for n, parsed in found.items() if parsed.cues}

    def _read(self, at_ms: int, _: int, triplets: bytes) -> None:
        if len(self._cues) > self._limits.max_cues:
            return
        if at_ms != self._now_ms:
            for captions in self._services.values():
                captions.advance(at_ms)
            self._now_ms = at_ms
        for at in range(0, len(triplets) - 2, 3):
            flags, first, second = triplets[at : at + 3]
            if flags & 3 == _PACKET_START:
                # What came of one that was cut short.
                self._end_packet()
                self._begin_packet(first)
                self._packet.append(second)
            elif self._packet_size:
                self._packet += bytes((first, second))
            if self._packet_size and len(self._packet) >= self._packet_size:
                self._end_packet()

    def _begin_packet(self, header: int) -> None:
        sequence, code = header >> 6, header & 0x3F
        self._packet_size = 2 * code - 1 if code else 127
        # A number that never changes comes from an encoder that does not count.
        if self._sequence is not None and (sequence - self._sequence) % 4 > 1:
            for captions in self._services.values():
                captions.service.lose()
        self._sequence = sequence

    def _end_packet(self) -> None:
        data = bytes(self._packet[: self._packet_size])
        self._packet.clear()
        self._packet_size = 0
        for number, size, block in _blocks(data):
            if number not in self._services:
                self._services[number] = _Captions(number, self._now_ms, self._cues, self._limits)
            service = self._services[number].service
            service.read(block, self._now_ms, is_whole=len(block) == size)


def _blocks(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Number of the service, stated size, and bytes of each block; the last may be cut short."""
    at = 0
    while at < len(data):
        number, size = data[at] >> 5, data[at] & 0x1F
        at += 1
        if number == 0:
            return
        is_valid = True
        if number == 7 and size and at < len(data):
            number = data[at] & 0x3F
            at += 1
            is_valid = number >= 7
        block = data[at : at + size]
        at += size
        if is_valid and block:
            yield number, size, block


class _Captions:
    """What a service shows, as cues: a caption that pops on, or is painted, is one; of lines that
    roll up each is told once, from its first letter to that of the next line."""

    def __init__(
        self, number: int, now_ms: int, found: list[tuple[int, ParsedCue]], limits: MediaLimits
    ) -> None:
        self.service = Service()
        self._number = number
        self._found = found
        self._max_chars = limits.max_cue_chars
        self._cut_short = 0
        self._now_ms = now_ms
        self._shown: tuple[str, ...] = ()
        #: Lines of the cue that has not ended yet.
        self._open: tuple[str, ...] = ()
        self._since_ms = 0

    def advance(self, now_ms: int) -> None:
        """Another picture begins: what the one before has shown is final."""
        self._look(self._now_ms)
        while self.service.delayed_until is not None and self.service.delayed_until <= now_ms:
            at_ms = self.service.delayed_until
            self.service.run_delayed(at_ms)
            self._look(at_ms)
        self._now_ms = now_ms

    def finish(self, end_ms: int) -> None:
        self.advance(end_ms)
        self._close(end_ms)

    def parsed(self, cues: Iterable[ParsedCue]) -> ParsedText:
        characters = _wide_characters(self.service.wide)
        texts = ((cue, _readable(cue.text, characters)) for cue in cues)
        kept = [replace(cue, text=text) for cue, text in texts if text]
        kept.sort(key=lambda cue: (cue.start_ms, cue.end_ms))
        return ParsedText(cues=tuple(kept), broken=0, cut_short=self._cut_short)

    def _look(self, at_ms: int) -> None:
        service = self.service
        if not service.is_changed:
            return
        is_cut, service.is_changed, service.is_cut = service.is_cut, False, False
        before, self._shown = self._shown, service.screen()
        after = self._shown
        if after == before:
            return
        if service.rolls:
            known = _still_there(before, after, is_same=is_cut)
            if known and not is_cut:
                # The last line may have grown.
                self._open = (*self._open[:-1], after[known - 1]) if self._open else ()
            if is_cut or not known or len(after) > known:
                self._close(at_ms)
                self._begin(after[known:], at_ms)
        elif self._open and not is_cut and _has_grown(before, after):
            self._open = after
        else:
            self._close(at_ms)
            self._begin(after, at_ms)

    def _begin(self, lines: tuple[str, ...], at_ms: int) -> None:
        self._open, self._since_ms = lines, at_ms

    def _close(self, at_ms: int) -> None:
        if self._open and at_ms > self._since_ms:
            text = "\n".join(self._open)
            if len(text) > self._max_chars:
                text = text[: self._max_chars]
                self._cut_short += 1
            cue = ParsedCue(start_ms=self._since_ms, end_ms=at_ms, text=text)
            self._found.append((self._number, cue))
        self._open = ()


def _still_there(before: tuple[str, ...], after: tuple[str, ...], *, is_same: bool) -> int:
    """How many lines at the end of ``before`` are those at the start of ``after``. Unless
    ``is_same``, letters may have been added to the last of them, or taken from it."""
    for count in range(min(len(before), len(after)), 0, -1):
        if before[-count:-1] != after[: count - 1]:
            continue
        last, now = before[-1], after[count - 1]
        if last == now or (not is_same and (now.startswith(last) or last.startswith(now))):
            return count
    return 0


def _has_grown(before: tuple[str, ...], after: tuple[str, ...]) -> bool:
    return len(after) >= len(before) and all(
        new.startswith(old) or old.startswith(new) for old, new in zip(before, after, strict=False)
    )


def _wide_characters(codes: set[int]) -> dict[int, str]:
    """Characters of two bytes → letters. Nothing states their encoding: Korea's services hold
    Unicode or EUC-KR; what is valid EUC-KR throughout is meant so."""
    pairs = [code.to_bytes(2, "big") for code in codes if code > 0xFF]
    if not all(byte in _EUC_KR for pair in pairs for byte in pair):
        return {}
    return {int.from_bytes(pair, "big"): pair.decode("euc_kr", "replace") for pair in pairs}


def _readable(text: str, characters: dict[int, str]) -> str:
    lines = (" ".join(line.split()) for line in text.translate(characters).split("\n"))
    lines = ("".join(c for c in line if c.isprintable()).strip() for line in lines)
    return "\n".join(line for line in lines if line)
