"""What the packets of CEA-708 make of the screens of their services."""

import random
from collections.abc import Iterable

import dtvcc_media as cea708
import pytest
from dtvcc_media import CR, FF, Encoder, define, display, hide

from pipeline.media import MediaLimits
from pipeline.media.subtitles.dtvcc import DtvccDecoder

Cues = list[tuple[int, int, str]]

END_MS = 9000
LIMITS = MediaLimits()


def decoded(timed: Iterable[tuple[int, bytes]], limits: MediaLimits = LIMITS) -> dict[str, Cues]:
    decoder = DtvccDecoder(limits)
    for at_ms, triplets in timed:
        decoder.push(at_ms, triplets)
    return {
        name: [(cue.start_ms, cue.end_ms, cue.text) for cue in parsed.cues]
        for name, parsed in decoder.services(END_MS).items()
    }


def first_service(*timed: tuple[int, bytes], size: int = 31) -> Cues:
    """Cues of (time in ms, codes) of service 1."""
    encode = Encoder()
    found = decoded((at_ms, encode(codes, size=size)) for at_ms, codes in timed)
    assert set(found) <= {"service 1"}
    return found.get("service 1", [])


def test_captions_pop_on() -> None:
    found = first_service(
        (1000, cea708.pop_on("Hello,\nworld")),
        (2000, cea708.pop_on("Next", 1)[:-2]),
        (3000, hide(0) + display(1)),
        (4000, cea708.toggle(0, 1)),
        (5000, cea708.delete(0)),
        (6000, cea708.clear(0, 1)),
    )

    # What window 0 held is seen again for a second.
    assert found == [
        (1000, 3000, "Hello,\nworld"),
        (3000, 4000, "Next"),
        (4000, 5000, "Hello,\nworld"),
    ]


def test_a_caption_that_stands_at_the_end_ends_with_the_video() -> None:
    assert first_service((1000, cea708.pop_on("last"))) == [(1000, END_MS, "last")]


def test_equal_text_that_follows_itself_is_one_cue() -> None:
    found = first_service(
        (1000, cea708.pop_on("same")),
        (2000, cea708.pop_on("same", 1) + cea708.delete(0)),
        (3000, hide(1)),
    )

    assert found == [(1000, 3000, "same")]


@pytest.mark.parametrize("style", [1, cea708.ROLL_UP_STYLE])
def test_lines_that_roll_up_are_told_once(style: int) -> None:
    visible = define(rows=2, is_visible=True, style=style) + cea708.pen_at(1, 0)
    found = first_service(
        (0, visible + b"first"),
        (500, b" line"),
        (1000, CR + b"second"),
        (1500, visible[:7] + b" line" + cea708.ETX),
        (2000, CR + b"third lime" + cea708.BS * 2),
        (2500, b"ne"),
        (3000, cea708.clear(0)),
        (4000, FF + b"first line"),
        (5000, hide(0)),
    )

    assert found == [
        (0, 1000, "first line"), (1000, 2000, "second line"), (2000, 3000, "third line"),
        (4000, 5000, "first line"),
    ]  # fmt: skip


def test_a_window_whose_encoder_counts_rows_from_the_top_of_the_screen_rolls_too() -> None:
    found = first_service(
        (0, define(rows=2, is_visible=True) + cea708.pen_at(14, 0) + b"one"),
        (1000, CR + b"two"),
        (2000, CR + b"three"),
        (3000, CR),
        (4000, CR),
    )

    assert found == [(0, 1000, "one"), (1000, 2000, "two"), (2000, 4000, "three")]


def test_a_caption_that_is_painted_is_one_cue() -> None:
    found = first_service(
        (1000, define(rows=2, is_visible=True) + b"Paint"),
        (1040, b"ed wi"),
        (1080, b"th" + cea708.pen_at(1, 4) + b"care"),
        # Defined anew with another row, as the text grows.
        (1120, define(rows=3, is_visible=True) + cea708.pen_at(2, 0) + b"and time"),
        (2000, FF + b"Painted"),
        (3000, cea708.HCR),
    )

    assert found == [(1000, 2000, "Painted with\ncare\nand time"), (2000, 3000, "Painted")]


def test_windows_are_read_from_top_to_bottom() -> None:
    found = first_service(
        (
            1000,
            # Its lower edge is in the middle of the screen; its place is in hundredths.
            define(0, rows=2, top=50, anchor=6, is_relative=True, is_visible=True)
            + b"third" + CR + b"fourth"
            + define(1, top=0, left=100, is_visible=True) + b"second"
            + define(2, top=0, left=10, is_visible=True) + b"first"
            + define(3, top=70, is_visible=True) + b"last"
            + define(4, top=30) + b"hidden",
        ),
    )  # fmt: skip

    assert found == [(1000, END_MS, "first\nsecond\nthird\nfourth\nlast")]


def test_services_and_extended_services() -> None:
    encode = Encoder()
    found = decoded([
        (1000, encode.together(cea708.pop_on("one"), cea708.pop_on("two"))),
        (2000, encode(cea708.pop_on("sixty-three"), 63) + encode(cea708.pop_on("seven"), 7)),
        # A number that is not to be written as an extended one.
        (2500, cea708.triplets(cea708.packet(b"\xe6\x01" + hide(0) * 3, 3))),
        (3000, encode(hide(0), 2)),
    ])  # fmt: skip

    assert found == {
        "service 1": [(1000, END_MS, "one")],
        "service 2": [(1000, 3000, "two")],
        "service 7": [(2000, END_MS, "seven")],
        "service 63": [(2000, END_MS, "sixty-three")],
    }


def test_characters() -> None:
    g1 = bytes((0xA1, 0x51, 0x75, 0xE9, 0x3F, 0xA0, 0xFF))
    found = first_service(
        (
            1000,
            define(rows=4, is_visible=True) + b"\x7f la \x7f" + CR
            + g1 + CR
            + cea708.extended(0x20, 0x33, 0x2A, 0x3F, 0x34, 0x25, 0x21, 0x76, 0x39, 0xA0, 0x50) + CR
            + cea708.wide("Ωж", "utf-16-be"),
        ),
    )  # fmt: skip

    assert found == [(1000, END_MS, "♪ la ♪\n¡Qué? ÿ\n“ŠŸ”… ⅛™[CC]_\nΩж")]


@pytest.mark.parametrize("encoding", ["euc_kr", "utf-16-be"])
def test_the_encodings_of_korea(encoding: str) -> None:
    codes = cea708.wide("안녕하세요", encoding) + b" " + cea708.wide("여러분", encoding) + b"!"

    found = first_service((1000, define(is_visible=True) + codes))

    assert found == [(1000, END_MS, "안녕하세요 여러분!")]


def test_commands_that_are_not_known_are_skipped_by_their_length() -> None:
    sets = {
        "C0": (b"\x07", b"\x14A", b"\x1fAB"),
        "C1, attributes of pens and windows": (b"\x90AB", b"\x91ABC", b"\x93", b"\x97ABCD"),
        "C2": (b"\x10\x05", b"\x10\x0cA", b"\x10\x14AB", b"\x10\x1fABC"),
        "C3": (b"\x10\x80ABCD", b"\x10\x88ABCDE", b"\x10\x98\x03ABC"),
    }
    unknown = b"".join(code for codes in sets.values() for code in codes)

    # Whether a code ends in the block that it begins in does not matter.
    for size in (31, 5, 2, 1):
        found = first_service((1000, define(is_visible=True) + unknown + b"text"), size=size)
        assert found == [(1000, END_MS, "text")]


def test_delay() -> None:
    found = first_service(
        (1000, cea708.pop_on("first") + cea708.delay(10) + hide(0)),
        (1500, cea708.pop_on("second", 1) + cea708.delay(5) + hide(1)),
        (
            3000,
            cea708.pop_on("third", 2) + cea708.delay(200) + hide(2) + cea708.pop_on("fourth", 3),
        ),
        (4000, cea708.DELAY_CANCEL),
        (5000, cea708.delay(250) + b"x" * 30),
        (6000, cea708.RESET),
    )

    assert found == [
        (1000, 2000, "first"), (2000, 2500, "second"), (3000, 4000, "third"),
        (4000, 6000, "fourth"),
    ]  # fmt: skip


def test_a_delay_ends_where_too_much_waits() -> None:
    found = first_service(
        (1000, define(is_visible=True) + cea708.delay(200) + b"A" * 60 + b" " * 69)
    )

    assert found == [(1000, END_MS, "A" * 60)]


def test_a_packet_that_is_cut_short() -> None:
    encode = Encoder()
    whole = encode(define(is_visible=True) + b"some of this is missing")
    found = decoded([(1000, whole[:30]), (2000, encode(b", not this"))])

    # It is not known before the next packet begins that nothing more comes.
    assert found == {"service 1": [(2000, END_MS, "some of thi, not this")]}


def test_packets_that_are_missing_take_down_what_is_seen() -> None:
    sent = [
        (1000, define(0, is_visible=True) + b"stays for ever?"),
        (2000, define(1) + b"it was"),
        (3000, hide(0)),
        (4000, b" told" + display(1)),
    ]
    encode = Encoder()
    found = decoded((at_ms, encode(codes)) for at_ms, codes in sent)
    encode = Encoder()
    packets = [(at_ms, encode(codes)) for at_ms, codes in sent]
    less = decoded(packets[:2] + packets[3:])
    # All packets bear the same number.
    same = decoded((at_ms, Encoder()(codes)) for at_ms, codes in sent)

    assert found == {"service 1": [(1000, 3000, "stays for ever?"), (4000, END_MS, "it was told")]}
    assert less == {"service 1": [(1000, 4000, "stays for ever?"), (4000, END_MS, "it was told")]}
    assert same == found


def test_what_comes_before_any_start_or_window_is_nothing() -> None:
    encode = Encoder()
    found = decoded([
        (0, b"\xfe\x41\x42" * 20),
        (1000, encode(b"no window yet" + CR + FF + display(0, 1))),
        (2000, encode(cea708.current(3) + b"not defined")),
        (3000, encode(cea708.pop_on("at last"))),
    ])  # fmt: skip

    assert found == {"service 1": [(3000, END_MS, "at last")]}


def test_text_beyond_the_window_and_the_screen_is_kept() -> None:
    letters = "".join(chr(ord("A") + n % 26) for n in range(100))
    found = first_service(
        (1000, define(rows=1, columns=1) + cea708.pen_at(0xFF, 0) + b"low"),
        (1000, cea708.pen_at(2, 0) + letters.encode() + display(0)),
    )

    assert found == [(1000, END_MS, f"{letters[:64]}\n{letters[64:]}\nlow")]


def test_texts_and_cues_are_bounded() -> None:
    few = MediaLimits(max_cues=10, max_cue_chars=7)
    encode = Encoder()
    sent = [(0, encode(cea708.pop_on("too long a text")))]
    sent += [(n * 100, encode(cea708.toggle(0), 1 + n % 3)) for n in range(1, 90)]
    decoder = DtvccDecoder(few)
    for at_ms, triplets in sent:
        decoder.push(at_ms, triplets)

    (parsed,) = decoder.services(END_MS).values()

    assert len(parsed.cues) == parsed.cut_short == 11
    assert {cue.text for cue in parsed.cues} == {"too lon"}


@pytest.mark.parametrize("seed", range(4))
def test_random_bytes_never_raise(seed: int) -> None:
    chance = random.Random(seed)
    codes = [*range(0x80, 0xA0), 0x08, 0x0C, 0x0D, 0x0E, 0x10, 0x18, *b"text"]
    encode = Encoder()
    decoder = DtvccDecoder(MediaLimits(max_cues=500))
    for number in range(1500):
        if seed % 2:
            data = chance.randbytes(chance.randrange(94))
        else:
            data = encode(
                bytes(chance.choices(codes, k=chance.randrange(1, 64))), chance.randrange(1, 9)
            )
        at_ms = number * 33 if chance.random() < 0.9 else chance.randrange(100_000)
        decoder.push(at_ms, data)

    for parsed in decoder.services(END_MS).values():
        assert len(parsed.cues) <= 501 + 63
        for cue in parsed.cues:
            assert 0 <= cue.start_ms < cue.end_ms
            assert cue.text.strip() == cue.text != ""
            assert all(c.isprintable() or c == "\n" for c in cue.text)
