from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.media import MediaLimits
from pipeline.media.languages import language_of_file_name, normalise_language
from pipeline.media.subtitles.parsing import Format, UnreadableSubtitleError, parse

LIMITS = MediaLimits()
IN_TTML = "<tt xmlns='http://www.w3.org/ns/ttml'><body><div>{}</div></body></tt>"


def test_srt_without_numbers_and_with_blank_lines() -> None:
    text = (
        "00:00:01,000 --> 00:00:02,000\none\n\nstill one\n\n00:00:03.000-->00:00:04.000\ntwo\n1984"
    )

    parsed = parse(text, "srt", LIMITS)

    assert [cue.text for cue in parsed.cues] == ["one\nstill one", "two\n1984"]


def test_srt_beyond_99_hours_is_broken() -> None:
    parsed = parse("1\n100:00:00,000 --> 100:00:01,000\nfar\n", "srt", LIMITS)

    assert (parsed.cues, parsed.broken) == ((), 1)


def test_control_characters_are_removed() -> None:
    parsed = parse("1\n00:00:01,000 --> 00:00:02,000\na\0b\x1b[31mc\u202ed\n", "srt", LIMITS)

    assert parsed.cues[0].text == "ab[31mcd"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("eng", "en"),
        ("ger", "de"),
        ("deu", "de"),
        ("pt_BR", "pt-BR"),
        ("EN", "en"),
        ("gsw", "gsw"),
        ("und", None),
        ("", None),
        (None, None),
        ("not a language", None),
    ],
)
def test_language_codes(code: str | None, expected: str | None) -> None:
    assert normalise_language(code) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("film.en.srt", "en"),
        ("film.eng.srt", "en"),
        ("film.en.sdh.srt", "en"),
        ("film.hi.srt", "hi"),
        ("film.en.hi.srt", "en"),
        ("film.pt-BR.vtt", "pt-BR"),
        ("film.2019.720p.srt", None),
        ("film.srt", None),
        ("en.srt", None),
    ],
)
def test_language_in_file_names(name: str, expected: str | None) -> None:
    assert language_of_file_name(name) == expected


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_line_ends(newline: str) -> None:
    text = newline.join(["1", "00:00:01,000 --> 00:00:02,000", "one", "two", "", ""])

    assert [cue.text for cue in parse(text, "srt", LIMITS).cues] == ["one\ntwo"]


def test_overlapping_cues_stay_in_order_of_time() -> None:
    text = (
        "1\n00:00:01,000 --> 00:00:09,000\nlong\n\n2\n00:00:02,000 --> 00:00:03,000\nwithin\n\n"
        "3\n00:00:01,000 --> 00:00:09,000\nlong\n\n"
    )

    assert [cue.text for cue in parse(text, "srt", LIMITS).cues] == ["long", "long", "within"]


def test_very_many_cues_and_very_long_lines() -> None:
    cues = "".join(
        f"{n}\n00:{n // 60 % 60:02}:{n % 60:02},000 --> 01:00:00,000\nline {n}\n\n"
        for n in range(100_000)
    )
    long = f"WEBVTT\n\n00:01.000 --> 00:02.000\n{'A' * 1_000_000}\n"

    assert LIMITS.max_cues <= len(parse(cues, "srt", LIMITS).cues) <= LIMITS.max_cues + 1
    assert [len(cue.text) for cue in parse(long, "vtt", LIMITS).cues] == [LIMITS.max_cue_chars]


def test_webvtt_with_all_its_blocks() -> None:
    text = (
        "WEBVTT\nX-TIMESTAMP-MAP=LOCAL:00:00:00.000,MPEGTS:0\n\nREGION\nid:fred\nwidth:40%\n\n"
        "STYLE\n::cue(b) { color: red }\n\nNOTE one line\n\nNOTE\nmore\nlines\n\n"
        "name of a cue\n00:01.000 --> 00:02.000 region:fred align:left line:0\n"
        "<c.loud>HEY</c> <lang en>you</lang> <ruby>漢<rt>kan</rt></ruby>\n"
    )

    (cue,) = parse(text, "vtt", LIMITS).cues
    assert cue.text.startswith("HEY you 漢")


def test_scripts_are_no_more_than_text() -> None:
    text = "1\n00:00:01,000 --> 00:00:02,000\n<script>alert('x')</script>'); DROP TABLE a;--\n"

    assert parse(text, "srt", LIMITS).cues[0].text == "alert('x')'); DROP TABLE a;--"


@pytest.mark.parametrize(
    "text",
    [
        "<tt xmlns='http://www.w3.org/ns/ttml'><body>",
        "<tt xmlns='http://www.w3.org/ns/ttml'><body>" + "<div>" * 60 + "</div>" * 60
        + "</body></tt>",
        "<!DOCTYPE t [<!ENTITY a 'one'>]>" + IN_TTML.format("<p begin='0s' end='1s'>&a;</p>"),
        "<!DOCTYPE t [<!ENTITY a 'aaaaaaaaaa'>"
        + "".join(f"<!ENTITY {b} '{f'&{a};' * 10}'>" for a, b in pairwise("abcdefgh"))
        + "]><tt xmlns='http://www.w3.org/ns/ttml'><body><div><p begin='0s' end='1s'>&h;</p></div>"
        "</body></tt>",
    ],
)  # fmt: skip
def test_hostile_ttml(text: str) -> None:
    with pytest.raises(UnreadableSubtitleError):
        parse(text, "ttml", LIMITS)


def test_ttml_keeps_what_follows_metadata() -> None:
    text = IN_TTML.format("<p begin='0s' end='1s'>a<x>no</x>b<span>c<x/>d<br/>e</span>f<x/>g</p>")

    assert [cue.text for cue in parse(text, "ttml", LIMITS).cues] == ["abcd\nefg"]


ASS = "[Script Info]\n[Events]\nDialogue: 0,0:00:01.00,0:00:02.00,,,,,,,"
LONG = 300_000


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("<sami>" + "<sync " * LONG, "sami"),
        ("<sami>" + "".join(f"<sync a{n}>" for n in range(LONG)), "sami"),
        ("<sami><sync start=1>" + "<i>" * 10 * LONG, "sami"),
        (ASS + "{" * 10 * LONG, "ass"),
        (ASS + "a\\p" + "{\\b1}" * LONG, "ass"),
        ("[Script Info]\n[" + "a" * 10 * LONG, "ass"),
        ("{1}{2}" + "{y:" * LONG, "microdvd"),
        ("00:01.000 --> 00:02.000\n" + "<a" * LONG, "vtt"),
        ("00:00:01,000 --> 00:00:02,000\n" + "\n" * LONG, "srt"),
        (
            IN_TTML.format(
                "<p begin='0s' end='1s'>" + "<x/>a<br/><span> </span>" * LONG + "</p>"
            ),
            "ttml",
        ),
    ],
    ids=["open syncs", "syncs", "tags", "braces", "overrides", "heading", "styles", "html", "lines",
         "spans"],
)  # fmt: skip
def test_reading_takes_no_longer_than_the_text(text: str, form: Format) -> None:
    """Each of these would take minutes to days where it is looked through once more for each part
    of it."""
    parsed = parse(text, form, LIMITS)

    assert len(parsed.cues) <= 1
    assert all(len(cue.text) <= LIMITS.max_cue_chars for cue in parsed.cues)


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("{1}{1}0." + "0" * 290 + "1\n{1}{99999999}late\n{0}{0}", "microdvd"),
        (IN_TTML.format("<p begin='99999999999h' end='999999999999h'>late</p>"), "ttml"),
    ],
)
def test_times_that_no_database_holds_are_broken(text: str, form: Format) -> None:
    parsed = parse(text, form, LIMITS)

    assert (parsed.cues, parsed.broken) == ((), 1)


def test_drawings_are_no_text() -> None:
    lines = ("{\\p1}m 0 0{\\p0}", "{\\pos(1,2)}text", "{\\an8\\p2}m 1 1", "{\\p0}plain {open")
    text = "\n".join(f"Dialogue: 0,0:00:01.00,0:00:02.00,,,,,,,{line}" for line in lines)

    assert [cue.text for cue in parse(text, "ass", LIMITS).cues] == ["text", "plain open"]


MARKS = st.sampled_from(
    ["-->", "00:00:01,000", "00:01.000", "{1}{2}", "<", ">", "<sync start=", "<p", "begin='1s'",
     "<tt xmlns='http://www.w3.org/ns/ttml'>", "Dialogue: 0,0:00:01.00,0:00:02.00,", "[Events]",
     "Format: Start, End, Text", "{\\p1}", "{\\an", "\\N", "&#x110000;", "&nbsp", "WEBVTT", "\n",
     "\r", "\u2028", "\0", "9" * 30, ":", "<body>", "</body>", "</tt>", "<div>", "|", "∞"]
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    parts=st.lists(st.one_of(MARKS, st.text(max_size=5)), max_size=30),
    form=st.sampled_from(["srt", "vtt", "ass", "ttml", "sami", "microdvd"]),
)
def test_any_text_gives_cues_or_says_why_not(parts: list[str], form: Format) -> None:
    try:
        parsed = parse("".join(parts), form, LIMITS)
    except UnreadableSubtitleError:
        return
    assert all(0 <= cue.start_ms < cue.end_ms and cue.text for cue in parsed.cues)
