"""Captions, CEA-608 and CEA-708, from their own stream or from beside the pictures of a video.

ATSC A/53 part 4 puts triplets of a flag byte and two data bytes beside each picture; a stream of
captions holds the same triplets. FFmpeg's decoder of CEA-608 knows one channel, so the four
channels are separated here (bit 3 of a control code names the channel, XDS and text mode are no
captions) and decoded one by one. Runs in the child only.
"""

import io
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from fractions import Fraction
from itertools import islice

import av
import pysubs2
from av.error import FFmpegError
from av.packet import Packet
from av.subtitles.codeccontext import SubtitleCodecContext
from av.subtitles.subtitle import AssSubtitle

from pipeline.media.limits import MediaLimits
from pipeline.media.subtitles.dtvcc import DtvccDecoder
from pipeline.media.subtitles.parsing import ParsedCue, ParsedText, from_events
from pipeline.media.subtitles.streams import A53_MARK

_VALID = 0x04
_MILLISECOND = Fraction(1, 1000)
#: An empty file of captions: what FFmpeg needs to set its decoder up.
_EMPTY_SCC = b"Scenarist_SCC V1.0\n\n00:00:00;00\t8080\n"
_MISC = (0x14, 0x15)
_ROLL_UP = frozenset({0x25, 0x26, 0x27})
_CAPTION_MODES = _ROLL_UP | {0x20, 0x29}
_TEXT_MODES = frozenset({0x2A, 0x2B})
_ERASE = (0x14, 0x2C)
#: Triplets of one video that are kept: 12 hours of two fields at 60 pictures a second.
_MAX_TRIPLETS = 5_200_000
_WORD = re.compile(r"\w+")
#: Of a text, how much is compared with another: hours of speech.
_COMPARED_WORDS = 50_000
#: Of the phrases of the shorter of two texts, how many make it the other one again. Different texts
#: of one language share a few in a hundred.
_SAME_SHARE = 0.5
#: Triplets of one packet; the pictures in it have 93 bytes each at most.
_MAX_PACKET_BYTES = 4096

Pair = tuple[int, int]


def triplets_of(packet: bytes, *, is_escaped: bool) -> bytes:
    """The triplets beside the pictures of a packet; ``is_escaped``: H.264 and its kin put a 3
    between two zeros and a small byte."""
    found = b""
    at = packet.find(A53_MARK)
    while at >= 0 and len(found) < _MAX_PACKET_BYTES:
        at += len(A53_MARK)
        part = packet[at : at + 3 * 31 * 2 + 2]
        if is_escaped:
            part = part.replace(b"\0\0\3", b"\0\0")
        if part and part[0] & 0x40:
            found += part[2 : 2 + 3 * (part[0] & 0x1F)]
        at = packet.find(A53_MARK, at)
    return found[: len(found) - len(found) % 3]


class CaptionReader:
    """Collects triplets, in the order that pictures are stored in."""

    def __init__(self, limits: MediaLimits) -> None:
        self._limits = limits
        #: Time, order of arrival, and the triplets of CEA-608 that hold something.
        self._found: list[tuple[int, int, bytes]] = []
        self._count = 0
        self._dtvcc = DtvccDecoder(limits)

    def push(self, at_ms: int, triplets: bytes) -> None:
        kept, newer = bytearray(), bytearray()
        for at in range(0, len(triplets) - 2, 3):
            flags, first, second = triplets[at : at + 3]
            if not flags & _VALID:
                continue
            if flags & 3 > 1:
                newer += triplets[at : at + 3]
            elif (first & 0x7F) | (second & 0x7F):
                kept += triplets[at : at + 3]
        if newer:
            self._dtvcc.push(at_ms, bytes(newer))
        if kept and self._count < _MAX_TRIPLETS:
            self._count += len(kept) // 3
            self._found.append((at_ms, len(self._found), bytes(kept)))

    def services(self, end_ms: int) -> dict[str, ParsedText]:
        """CEA-708: ``service 1`` to ``service 63`` → cues, of the services that hold any."""
        return self._dtvcc.services(end_ms)

    def channels(self, end_ms: int) -> dict[str, ParsedText]:
        """CEA-608: ``CC1`` to ``CC4`` → cues, of the channels that hold any. ``end_ms``: where a
        caption ends that nothing takes down."""
        self._found.sort()
        pairs: dict[str, list[tuple[int, Pair]]] = defaultdict(list)
        fields = (_Field(), _Field())
        for at_ms, _, triplets in self._found:
            for at in range(0, len(triplets), 3):
                number = triplets[at] & 3
                pair = triplets[at + 1] & 0x7F, triplets[at + 2] & 0x7F
                channel = fields[number].channel_of(pair)
                if channel is not None:
                    name = f"CC{2 * number + channel}"
                    pairs[name].append((at_ms, _as_first_channel(pair)))
        found = {name: _decode(pairs[name], end_ms, self._limits) for name in sorted(pairs)}
        return {name: parsed for name, parsed in found.items() if parsed.cues}


def repeated(
    channels: Mapping[str, ParsedText], services: Mapping[str, ParsedText]
) -> dict[str, str]:
    """Channels and services that say what another one says → that one, which says more of it.
    Broadcasters make the first service out of the first channel, or the other way round."""
    found: dict[str, str] = {}
    theirs = {name: _phrases(parsed) for name, parsed in channels.items()}
    for service, parsed in services.items():
        ours = _phrases(parsed)
        for channel, phrases in theirs.items():
            shorter = min(ours.total(), phrases.total())
            if channel in found or (ours & phrases).total() <= _SAME_SHARE * shorter:
                continue
            if ours.total() > phrases.total():
                found[channel] = service
            else:
                found[service] = channel
                break
    return found


def _phrases(parsed: ParsedText) -> Counter[tuple[str, ...]]:
    """All three words that follow each other. Broken into lines or cues, they are the same."""
    texts = (cue.text.casefold() for cue in parsed.cues)
    words = list(islice((word for text in texts for word in _WORD.findall(text)), _COMPARED_WORDS))
    return Counter(tuple(words[at : at + 3]) for at in range(max(len(words) - 2, bool(words))))


class _Field:
    """Which channel the bytes of a field belong to, as its control codes say."""

    def __init__(self) -> None:
        self._channel: int | None = None
        self._is_text = [False, False]
        self._is_xds = False

    def channel_of(self, pair: Pair) -> int | None:
        first, second = pair
        if 0x10 <= first <= 0x1F:
            self._is_xds = False
            channel = 2 if first & 0x08 else 1
            self._channel = channel
            if first & ~0x08 in _MISC and second in _CAPTION_MODES | _TEXT_MODES:
                self._is_text[channel - 1] = second in _TEXT_MODES
        elif first and first < 0x10:
            # Extended data services: about the programme, between captions.
            self._is_xds = first != 0x0F
            return None
        if self._is_xds or self._channel is None or self._is_text[self._channel - 1]:
            return None
        return self._channel


def _as_first_channel(pair: Pair) -> Pair:
    first, second = pair
    if 0x10 <= first <= 0x1F:
        first &= ~0x08
        if first == 0x15 and 0x20 <= second <= 0x2F:
            # The second field's own code for the same commands.
            first = 0x14
    return first, second


def _decode(pairs: Iterable[tuple[int, Pair]], end_ms: int, limits: MediaLimits) -> ParsedText:
    """Cues of one channel. In roll-up style a line is told once, not again as it moves up."""
    pairs = list(pairs)
    events: list[pysubs2.SSAEvent] = []
    broken = 0
    rolls = any(first == 0x14 and second in _ROLL_UP for _, (first, second) in pairs)
    with av.open(io.BytesIO(_EMPTY_SCC), format="scc") as container:
        decoder = container.streams[0].codec_context
        if not isinstance(decoder, SubtitleCodecContext):
            return ParsedText(cues=(), broken=0, cut_short=0)
        # Commands are sent twice.
        last_ms = max(end_ms, pairs[-1][0] + 1) if pairs else end_ms
        for at_ms, pair in [*pairs, (last_ms, _ERASE), (last_ms, _ERASE)]:
            try:
                event = _event(decoder, at_ms, pair)
            except FFmpegError:
                broken += 1
                continue
            if event is not None:
                events.append(event)
            if len(events) > limits.max_cues:
                break
    parsed = from_events(events, "ass", limits, broken=broken)
    if not rolls:
        return parsed
    return ParsedText(cues=_unrolled(parsed.cues), broken=broken, cut_short=parsed.cut_short)


def _event(decoder: SubtitleCodecContext, at_ms: int, pair: Pair) -> pysubs2.SSAEvent | None:
    packet = Packet(bytes((0xFC, *(_with_parity(byte) for byte in pair))))
    packet.pts = packet.dts = at_ms
    packet.time_base = _MILLISECOND
    shown = decoder.decode2(packet)
    if shown is None or shown.pts is None or not shown.rects:
        return None
    start_ms = round(shown.pts / 1000)
    parts = [
        part.ass.decode("utf-8", "replace") for part in shown.rects if isinstance(part, AssSubtitle)
    ]
    text = "\\N".join(part.split(",", 8)[-1] for part in parts)
    return pysubs2.SSAEvent(start=start_ms, end=start_ms + shown.end_display_time, text=text)


def _with_parity(byte: int) -> int:
    return byte | (0 if byte.bit_count() % 2 else 0x80)


def _unrolled(cues: tuple[ParsedCue, ...]) -> tuple[ParsedCue, ...]:
    found: list[ParsedCue] = []
    screen: list[str] = []
    for cue in cues:
        lines = cue.text.splitlines()
        known = next(
            (n for n in range(min(len(lines), len(screen)), 0, -1) if screen[-n:] == lines[:n]), 0
        )
        if len(lines) > known:
            text = "\n".join(lines[known:])
            found.append(ParsedCue(start_ms=cue.start_ms, end_ms=cue.end_ms, text=text))
        screen = lines
    return tuple(found)
