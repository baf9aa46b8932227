from collections.abc import Callable
from pathlib import Path

import pytest
from media_factory import add_subtitles, make_srt, make_video, run_ffmpeg
from safetensors.numpy import load_file
from subtitle_media import make_vobsub

from pipeline.media import MediaLimits, SidecarFile, SplitResult, cue_pictures

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
        "sidecar 'film.en.srt': 2 broken cues skipped",
        "sidecar 'film.es.srt' cannot be read: No such file or directory",
        "sidecar 'film.it.srt' is in no known subtitle format and was skipped",
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


def sources(result: SplitResult) -> list[tuple[str | None, str, str | None, int, int]]:
    return [
        (s.sidecar, s.format, s.encoding, s.cue_count, s.broken_count) for s in result.cue_sources
    ]


def written(path: Path, text: str, encoding: str = "utf-8") -> SidecarFile:
    path.write_bytes(text.encode(encoding))
    return SidecarFile(path=path, name=path.name)


TTML = """<?xml version="1.0" encoding="UTF-16"?>
<tt xmlns="http://www.w3.org/2006/10/ttaf1" xmlns:p="http://www.w3.org/2006/10/ttaf1#parameter"
    p:frameRate="25" p:tickRate="1000"><head><metadata>no text</metadata></head>
<body begin="0.1s"><div>
  <p begin="00:00:00:05" end="00:00:00:10">frames<br/>two   <span>lines</span></p>
  <p begin="500t" dur="250t">ticks</p><p begin="nonsense" end="2s">broken</p>
  <p><span begin="800ms" end="900ms">one</span> <span begin="0.9s" end="1s">by one</span></p>
</div></body></tt>"""
SAMI = """<SAMI><HEAD><STYLE TYPE="text/css"><!-- P {color: red} --></STYLE></HEAD><BODY>
<SYNC Start=200><P Class=ENCC>Salt &amp; <i>pepper</i><br>second</P></SYNC>
<SYNC Start=900><P Class=ENCC>&nbsp;</P></SYNC>
<SYNC Start=x><P Class=ENCC></P></SYNC>
<SYNC Start=1200><P Class=ENCC>Last<SYNC Start=1500><P>&nbsp;
</BODY></SAMI>"""
SSA = """[Script Info]
ScriptType: v4.00

[V4 Styles]
Format: Name, Fontname
Style: Default,Arial

[Events]
Format: Marked, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
Dialogue: Marked=0,0:00:00.50,0:00:01.00,Default,N,0000,0000,0000,,Bonjour\\Nle monde
"""


def test_all_formats_of_sidecars_in_order_of_name(
    tmp_path: Path, plain: Path, split: Splitter
) -> None:
    result = split(
        plain,
        sidecars=[
            written(tmp_path / "film.ttml", TTML, "utf-16"),
            written(tmp_path / "film.en.smi", SAMI),
            written(tmp_path / "film.pl.sub", "{5}{10}Jeden|dwa\n{25}{40}{y:i}trzy\n{x}{1}zle\n"),
            written(tmp_path / "film.de.sub", "{1}{1}10\n{10}{15}zehn Bilder\n"),
            written(tmp_path / "film.fr.forced.ssa", SSA),
        ],
    )

    assert sources(result) == [
        ("film.de.sub", "microdvd", "utf-8", 1, 0),
        ("film.en.smi", "sami", "utf-8", 2, 1),
        ("film.fr.forced.ssa", "ass", "utf-8", 1, 0),
        ("film.pl.sub", "microdvd", "utf-8", 2, 1),
        ("film.ttml", "ttml", "utf-16", 4, 1),
    ]
    assert [source.is_forced for source in result.cue_sources] == [False, False, True, False, False]
    assert rows(result) == [
        (1000, 1500, "zehn Bilder", "de"),
        (200, 900, "Salt & pepper\nsecond", "en"),
        (1200, 1500, "Last", "en"),
        (500, 1000, "Bonjour\nle monde", "fr"),
        (200, 400, "Jeden\ndwa", "pl"),
        (1000, 1600, "trzy", "pl"),
        (300, 500, "frames\ntwo lines", None),
        (600, 850, "ticks", None),
        (900, 1000, "one", None),
        (1000, 1100, "by one", None),
    ]


def test_the_language_of_a_sidecar_is_read_from_its_text_where_its_name_says_none(
    tmp_path: Path, plain: Path, split: Splitter
) -> None:
    lines = (
        "Wir fahren morgen in die Berge,", "und niemand weiß, wann wir wiederkommen.",
        "Nimm bitte einen Mantel mit,", "etwas Wasser und die alte Karte.",
    )  # fmt: skip
    cues = [(f"00:00:0{n},000", f"00:00:0{n},900", line) for n, line in enumerate(lines)]
    path = make_srt(tmp_path / "film.srt", cues, encoding="cp1252")

    result = split(plain, sidecars=[SidecarFile(path=path, name="film.srt")])

    assert {cue.language for cue in result.cues} == {"de"}
    assert (result.cue_sources[0].language, result.cue_sources[0].encoding) == ("de", "cp1252")
    assert result.notes == ("sidecar 'film.srt' states no language; it reads as de",)


def test_a_pair_of_vobsub_files(tmp_path: Path, plain: Path, split: Splitter) -> None:
    make_vobsub(tmp_path / "film.idx", [(200, 900, "From a disc")])
    pair = [SidecarFile(path=tmp_path / name, name=name) for name in ("film.idx", "film.sub")]

    result = split(plain, sidecars=pair)
    alone = split(plain, sidecars=pair[:1])
    gone = split(
        plain, sidecars=[pair[0], SidecarFile(path=tmp_path / "gone.sub", name="film.sub")]
    )

    assert sources(result) == [("film.idx", "vobsub", None, 1, 0)]
    assert result.cue_sources[0].language == "en"
    assert result.cue_pictures_path is not None
    (picture,) = cue_pictures(load_file(result.cue_pictures_path))
    assert (picture.sidecar, picture.stream_index, picture.language) == ("film.idx", None, "en")
    assert (picture.start_ms, picture.end_ms) == pytest.approx((200, 900), abs=12)
    assert alone.notes == ("sidecar 'film.idx' stands without its .sub file and was skipped",)
    assert gone.cue_sources == ()
    assert [note.partition(":")[0] for note in gone.notes] == [
        "sidecar 'film.idx' cannot be read",
        "sidecar 'film.sub' cannot be read",
    ]
