import codecs
from collections.abc import Callable
from pathlib import Path

import pytest
from media_factory import add_subtitles, make_srt, make_video, run_ffmpeg

from pipeline.media import MediaLimits, SidecarFile, SplitResult
from pipeline.media.encodings import decode_text
from pipeline.media.languages import language_of_file_name, normalise_language
from pipeline.media.subtitles import parse

Splitter = Callable[..., SplitResult]

ENGLISH = [
    ("00:00:00,200", "00:00:00,900", "<i>Good</i> morning,\n{\\an8}Vietnam!"),
    ("00:00:01,000", "00:00:01,750", "5 < 6 & 7"),
]
GERMAN = [("00:00:00,250", "00:00:01,500", "Grüße aus Köln")]
LIMITS = MediaLimits()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("plain") / "plain.mkv", frames_per_shot=(50,))


def rows(result: SplitResult) -> list[tuple[int, int, str, str | None]]:
    return [(cue.start_ms, cue.end_ms, cue.text, cue.language) for cue in result.cues]


@pytest.mark.parametrize(("suffix", "codec"), [("mkv", "srt"), ("mkv", "ass"), ("mp4", "mov_text")])
def test_embedded_subtitles(
    tmp_path: Path, plain: Path, split: Splitter, suffix: str, codec: str
) -> None:
    tracks = [
        (make_srt(tmp_path / "en.srt", ENGLISH), "eng"),
        (make_srt(tmp_path / "de.srt", GERMAN), "ger"),
    ]
    path = add_subtitles(plain, tracks, tmp_path / f"film.{suffix}", codec=codec)

    result = split(path)

    # ASS keeps hundredths; the container's clock starts with the sound, a few ms off the picture.
    texts = [(cue.stream_index, cue.language, cue.text) for cue in result.cues]
    assert texts == [
        (2, "en", "Good morning,\nVietnam!"),
        (2, "en", "5 < 6 & 7"),
        (3, "de", "Grüße aus Köln"),
    ]
    times = [time for cue in result.cues for time in (cue.start_ms, cue.end_ms)]
    assert times == pytest.approx([200, 900, 1000, 1750, 250, 1500], abs=30)
    assert all(cue.origin == "subtitle" and cue.sidecar is None for cue in result.cues)


def test_embedded_subtitles_follow_the_start_time(
    tmp_path: Path, plain: Path, split: Splitter
) -> None:
    path = tmp_path / "late.mkv"
    track = make_srt(tmp_path / "de.srt", GERMAN)
    full = add_subtitles(plain, [(track, "ger")], tmp_path / "full.mkv")
    run_ffmpeg("-i", full, "-map", "0", "-c", "copy", "-output_ts_offset", "30", path)

    (cue,) = split(path).cues

    assert (cue.start_ms, cue.end_ms) == pytest.approx((250, 1500), abs=30)


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"]
)
def test_sidecar_encodings(tmp_path: Path, plain: Path, split: Splitter, encoding: str) -> None:
    path = make_srt(tmp_path / "anything", GERMAN, encoding=encoding)

    result = split(plain, sidecars=[SidecarFile(path=path, name="film.de.srt")])

    assert rows(result) == [(250, 1500, "Grüße aus Köln", "de")]
    assert result.cues[0].sidecar == "film.de.srt"
    assert result.cues[0].stream_index is None
    assert result.notes == ()


def test_chinese_sidecar_without_mark(tmp_path: Path, plain: Path, split: Splitter) -> None:
    text = "我们今天要去北京看长城，你想一起来吗？那里的风景非常美丽。"
    cues = [(f"00:00:0{n},000", f"00:00:0{n},900", text) for n in range(5)]
    path = make_srt(tmp_path / "zh.srt", cues, encoding="gb18030")

    result = split(plain, sidecars=[SidecarFile(path=path, name="film.zh.srt")])

    assert [cue.text for cue in result.cues] == [text] * 5


def test_webvtt_sidecar(tmp_path: Path, plain: Path, split: Splitter) -> None:
    path = tmp_path / "film.vtt"
    path.write_text(
        "WEBVTT - title\n\nNOTE\na comment\n\nSTYLE\n::cue { color: red }\n\n"
        "intro\n00:00.100 --> 00:00.900 align:start\n<v Ann>Fish &amp; <b>chips</b></v>\n\n"
        "NOTE another --> comment\n\n"
        "00:00:01.000 --> 00:00:02.000\nkaraoke <00:00:01.500>time\n42\n",
        encoding="utf-8",
    )

    result = split(plain, sidecars=[SidecarFile(path=path, name="film.fr-CA.forced.vtt")])

    assert rows(result) == [
        (100, 900, "Fish & chips", "fr-CA"),
        (1000, 2000, "karaoke time\n42", "fr-CA"),
    ]


def test_ass_sidecar(tmp_path: Path, plain: Path, split: Splitter) -> None:
    path = tmp_path / "film.ass"
    path.write_text(
        "[Script Info]\nScriptType: v4.00+\n\n[Events]\n"
        "Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n"
        "Comment: 0,0:00:00.00,0:00:09.00,Default,,0,0,0,,not shown\n"
        "Dialogue: 0,0:00:00.50,0:00:01.00,Default,,0,0,0,,{\\b1}One{\\b0},\\Ntwo\n"
        "Dialogue: 0,0:00:xx.50,0:00:01.00,Default,,0,0,0,,broken\n"
        "Dialogue: 0,0:00:00.50,0:00:01.00,Default,,0,0,0,,{\\p1}m 0 0 l 1 1{\\p0}\n",
        encoding="utf-8",
    )

    result = split(plain, sidecars=[SidecarFile(path=path, name="film.ass")])

    assert rows(result) == [(500, 1000, "One,\ntwo", None)]
    assert result.notes == ("sidecar 'film.ass': 1 broken cues skipped",)


def test_broken_sidecars_never_fail_the_video(tmp_path: Path, plain: Path, split: Splitter) -> None:
    garbage = tmp_path / "garbage.srt"
    garbage.write_bytes(bytes(range(256)) * 40)
    broken = make_srt(
        tmp_path / "broken.srt",
        [
            ("00:00:00,100", "00:00:00,200", "first"),
            ("00:00:0x,100", "00:00:00,400", "unreadable"),
            ("00:00:00,900", "00:00:00,500", "backwards"),
            ("00:00:00,600", "00:00:00,700", "last"),
        ],
    )

    result = split(
        plain,
        sidecars=[
            SidecarFile(path=garbage, name="film.it.srt"),
            SidecarFile(path=broken, name="film.en.srt"),
            SidecarFile(path=tmp_path / "missing.srt", name="film.es.srt"),
        ],
    )

    assert [cue.text for cue in result.cues] == ["first", "last"]
    assert result.notes == (
        "sidecar 'film.it.srt' is no SRT, WebVTT or ASS file and was skipped",
        "sidecar 'film.en.srt': 2 broken cues skipped",
        "sidecar 'film.es.srt' cannot be read: No such file or directory",
    )


def test_limits_on_cues(tmp_path: Path, plain: Path, split: Splitter) -> None:
    cues = [(f"00:00:0{n},000", f"00:00:0{n},500", "long text " * 20) for n in range(9)]
    path = make_srt(tmp_path / "many.srt", cues)

    result = split(
        plain,
        sidecars=[SidecarFile(path=path, name="film.srt")],
        limits=MediaLimits(max_cues=4, max_cue_chars=30),
    )

    assert [len(cue.text) for cue in result.cues] == [30] * 4
    assert any("beyond 4 were dropped" in note for note in result.notes)
    assert any("cut to 30 characters" in note for note in result.notes)


def test_long_sidecar_is_read_in_part(tmp_path: Path, plain: Path, split: Splitter) -> None:
    cues = [(f"00:00:0{n},000", f"00:00:0{n},500", "x" * 50) for n in range(9)]
    path = make_srt(tmp_path / "long.srt", cues)

    result = split(
        plain,
        sidecars=[SidecarFile(path=path, name="film.srt")],
        limits=MediaLimits(max_sidecar_bytes=200),
    )

    assert 1 <= len(result.cues) <= 3
    assert any("longer than 200 bytes" in note for note in result.notes)


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


def test_utf8_with_a_damaged_byte_stays_utf8() -> None:
    data = ("naïve café " * 20).encode() + b"\xff"

    assert decode_text(data).startswith("naïve café")


def test_utf32_mark() -> None:
    assert decode_text(codecs.BOM_UTF32_LE + "hé".encode("utf-32-le")) == "hé"
