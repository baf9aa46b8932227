"""Subtitles inside of files: text, pictures of text, captions, teletext."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from media_factory import add_subtitles, make_srt, make_video, run_ffmpeg
from PIL import Image
from safetensors.numpy import load_file
from subtitle_media import (
    Pair,
    add_captions,
    control,
    erase,
    h264_sei,
    hevc_sei,
    letters,
    make_pgs,
    make_wvtt,
    mpeg2_user_data,
    pop_on,
    triplets,
)
from teletext_media import make_teletext

from pipeline.media import CuePicture, MediaLimits, SplitResult, cue_pictures
from pipeline.media.subtitles.captions import CaptionReader, triplets_of
from pipeline.media.subtitles.packets import _XSUB_TIMES, _from_zero
from schemas.records import CueSource

Splitter = Callable[..., SplitResult]

LINES = [
    ("00:00:00,200", "00:00:00,900", "<i>Good</i> morning,\nVietnam!"),
    ("00:00:00,500", "00:00:01,500", "over it"),
]
EXPECTED = [(200, 900, "Good morning,\nVietnam!"), (500, 1500, "over it")]
ONE_FRAME_MS = 40
LIMITS = MediaLimits()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    return make_video(folder / "plain.mp4", frames_per_shot=(50,), sound=False)


@pytest.fixture(scope="module")
def reordered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures are stored in another order than they are shown in."""
    codec = ("-c:v", "libx264", "-bf", "3", "-pix_fmt", "yuv420p")
    path = tmp_path_factory.mktemp("reordered") / "video.mp4"
    return make_video(path, frames_per_shot=(50,), sound=False, codec=codec)


def said(result: SplitResult) -> list[tuple[int, int, str]]:
    return [(cue.start_ms, cue.end_ms, cue.text) for cue in result.cues]


def only(sources: tuple[CueSource, ...]) -> CueSource:
    (source,) = sources
    return source


def pictures_of(result: SplitResult) -> list[CuePicture]:
    assert result.cue_pictures_path is not None
    return cue_pictures(load_file(result.cue_pictures_path))


@pytest.mark.parametrize(
    ("name", "codec", "format_"),
    [
        ("film.mkv", "srt", "subrip"),
        ("film.mkv", "ass", "ass"),
        ("film.mkv", "webvtt", "webvtt"),
        ("film.mp4", "mov_text", "mov_text"),
        ("film.mp4", "ttml", "ttml"),
    ],
)
def test_text(
    tmp_path: Path, plain: Path, split: Splitter, name: str, codec: str, format_: str
) -> None:
    lines = LINES[:1] if codec in {"mov_text", "ttml"} else LINES  # no overlaps in MP4
    track = make_srt(tmp_path / "en.srt", lines)
    film = add_subtitles(plain, [(track, "eng")], tmp_path / name, codec=codec)

    result = split(film)

    assert said(result) == EXPECTED[: len(lines)]
    source = only(result.cue_sources)
    assert (source.format, source.language, source.stream_index) == (format_, "en", 1)
    assert (source.cue_count, source.broken_count, source.encoding) == (len(lines), 0, None)
    assert result.notes == ()


@pytest.mark.parametrize("codec", ["ass", "webvtt"])
def test_more_text_than_is_kept(tmp_path: Path, plain: Path, split: Splitter, codec: str) -> None:
    lines = [(f"00:00:00,{n}00", f"00:00:00,{n}50", f"line {n}") for n in range(1, 9)]
    track = make_srt(tmp_path / "en.srt", lines)
    film = add_subtitles(plain, [(track, "eng")], tmp_path / "film.mkv", codec=codec)

    result = split(film, limits=replace(LIMITS, max_sidecar_bytes=40))

    assert [cue.text for cue in result.cues][:1] == ["line 1"]
    source = only(result.cue_sources)
    assert source.cue_count + source.broken_count == len(lines)
    assert 1 <= source.cue_count <= 40 // len("line 1")


def test_webvtt_in_webm(tmp_path: Path, split: Splitter) -> None:
    video = make_video(
        tmp_path / "video.webm",
        frames_per_shot=(25,),
        sound=False,
        codec=("-c:v", "libvpx", "-deadline", "realtime"),
    )
    track = make_srt(tmp_path / "en.srt", LINES[:1])
    film = add_subtitles(video, [(track, "eng")], tmp_path / "film.webm", codec="webvtt")

    assert said(split(film)) == EXPECTED[:1]


def test_webvtt_under_the_name_that_ffmpeg_does_not_know(
    tmp_path: Path, plain: Path, split: Splitter
) -> None:
    track = make_srt(tmp_path / "en.srt", LINES)
    film = add_subtitles(plain, [(track, "eng")], tmp_path / "film.mkv", codec="webvtt")
    film.write_bytes(
        film.read_bytes().replace(b"D_WEBVTT/SUBTITLES", b"S_TEXT/WEBVTT".ljust(18, b"\0"))
    )

    result = split(film)

    assert said(result) == EXPECTED
    assert only(result.cue_sources).format == "webvtt"


def test_webvtt_in_mp4(tmp_path: Path, plain: Path, split: Splitter) -> None:
    samples = [
        (0, 200, []),
        (200, 900, ["<i>Fish</i> &amp; <b>chips</b>"]),
        (900, 1200, []),
        (1200, 1500, ["goes on"]),
        (1500, 1900, ["goes on", "joins in"]),
    ]

    result = split(make_wvtt(plain, tmp_path / "film.mp4", samples))

    assert said(result) == [
        (200, 900, "Fish & chips"), (1200, 1900, "goes on"), (1500, 1900, "joins in")
    ]  # fmt: skip
    assert only(result.cue_sources).format == "webvtt"


def test_what_the_header_says_of_a_stream(tmp_path: Path, plain: Path, split: Splitter) -> None:
    track = make_srt(tmp_path / "en.srt", LINES)
    film = tmp_path / "film.mkv"
    run_ffmpeg(
        "-i", plain, "-i", track, "-i", track, "-map", "0", "-map", "1", "-map", "2", "-c", "copy",
        "-metadata:s:s:0", "title=Signs", "-disposition:s:0", "forced",
        "-disposition:s:1", "default", "-metadata:s:s:1", "language=ger", film,
    )  # fmt: skip

    forced, default = split(film).cue_sources

    assert (forced.source_index, forced.title, forced.is_forced) == (0, "Signs", True)
    assert (default.source_index, default.language, default.is_default) == (1, "de", True)


def test_a_damaged_stream_does_not_take_the_picture_down(
    tmp_path: Path, plain: Path, split: Splitter
) -> None:
    track = make_srt(tmp_path / "en.srt", LINES)
    film = add_subtitles(plain, [(track, "eng")], tmp_path / "film.mkv", codec="ass")
    film.write_bytes(film.read_bytes().replace(b"S_TEXT/ASS", b"S_TEXT/XYZ"))

    result = split(film)

    assert len(result.keyframes) == 1
    assert only(result.cue_sources).stream_index == 1


def test_timecode_and_other_data_are_no_subtitles(
    tmp_path: Path, plain: Path, split: Splitter
) -> None:
    film = tmp_path / "film.mov"
    run_ffmpeg("-i", plain, "-c", "copy", "-timecode", "01:00:00:00", film)

    result = split(film)

    assert (result.cue_sources, result.notes) == ((), ())


def spread(pairs: list[Pair], start: int) -> dict[int, bytes]:
    """A pair with each picture, as broadcasts have it."""
    return {start + number: triplets([pair]) for number, pair in enumerate(pairs)}


def test_captions_beside_pictures_of_h264(tmp_path: Path, reordered: Path, split: Splitter) -> None:
    captions = spread(pop_on("In the right order"), 2) | spread(erase(), 40)

    result = split(add_captions(reordered, tmp_path / "film.mp4", captions, h264_sei))

    ((start_ms, end_ms, text),) = said(result)
    assert text == "In the right order"
    assert start_ms == pytest.approx(17 * ONE_FRAME_MS, abs=ONE_FRAME_MS)
    assert end_ms == pytest.approx(40 * ONE_FRAME_MS, abs=ONE_FRAME_MS)
    source = only(result.cue_sources)
    assert (source.format, source.title, source.stream_index) == ("cea608", "CC1", 0)
    assert len(result.keyframes) == 1


@pytest.mark.parametrize(
    ("name", "codec", "unit"),
    [
        ("film.mp4", ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none",
                      "-pix_fmt", "yuv420p"), hevc_sei),
        ("film.ts", ("-c:v", "mpeg2video", "-bf", "2", "-pix_fmt", "yuv420p"), mpeg2_user_data),
    ],
)  # fmt: skip
def test_captions_beside_pictures_of_other_codecs(
    tmp_path: Path, split: Splitter, name: str, codec: tuple[str, ...], unit: Callable[..., bytes]
) -> None:
    video = make_video(tmp_path / f"plain-{name}", frames_per_shot=(50,), sound=False, codec=codec)
    captions = spread(pop_on("Wide awake"), 2) | spread(erase(), 40)

    result = split(add_captions(video, tmp_path / name, captions, unit))

    assert [cue.text for cue in result.cues] == ["Wide awake"]


def test_a_stream_of_captions(tmp_path: Path, plain: Path, split: Splitter) -> None:
    scc = tmp_path / "captions.scc"
    scc.write_text(
        "Scenarist_SCC V1.0\n\n00:00:00;06\t9420 9420 94ae 94ae 9470 9470 c8e5 ecec ef80 942f 942f"
        "\n\n00:00:01;00\t942c 942c\n\n"
    )
    film = tmp_path / "film.mov"
    run_ffmpeg("-i", plain, "-i", scc, "-map", "0", "-map", "1", "-c", "copy", film)

    result = split(film)

    assert [cue.text for cue in result.cues] == ["Hello"]
    assert only(result.cue_sources).format == "cea608"


def decoded(*timed: tuple[int, bytes]) -> dict[str, list[tuple[int, int, str]]]:
    reader = CaptionReader(LIMITS)
    for at_ms, data in timed:
        reader.push(at_ms, data)
    return {
        name: [(cue.start_ms, cue.end_ms, cue.text) for cue in parsed.cues]
        for name, parsed in reader.channels(9000).items()
    }


def test_the_channels_of_captions_are_told_apart() -> None:
    found = decoded(
        (1000, triplets(pop_on("English"))),
        (1500, triplets(pop_on("Deutsch", channel=2))),
        (1600, triplets(pop_on("drei"), field=1)),
        (2000, triplets(erase())),
        (2500, triplets(erase(channel=2))),
    )

    assert found == {
        "CC1": [(1000, 2000, "English")],
        "CC2": [(1500, 2500, "Deutsch")],
        "CC3": [(1600, 9000, "drei")],
    }


def test_captions_that_roll_up_tell_each_line_once() -> None:
    found = decoded(
        (0, triplets([*control(0x25, 0x2D, 0x70), *letters("first line")])),
        (1000, triplets([*control(0x2D), *letters("second line")])),
        (2000, triplets([*control(0x2D), *letters("third line")])),
        (3000, triplets(erase())),
    )

    assert found == {
        "CC1": [(0, 1000, "first line"), (1000, 2000, "second line"), (2000, 3000, "third line")]
    }


def test_a_packet_full_of_marks_of_captions() -> None:
    """It would take hours to read each as if it were one."""
    found = triplets_of(b"GA94\x03\x7f" * 3_000_000, is_escaped=True)

    assert 0 < len(found) < 10_000


def test_text_mode_and_programme_data_are_no_captions() -> None:
    found = decoded(
        (0, triplets([*control(0x2A), *letters("some web page")])),
        (10, triplets([(0x01, 0x03), *letters("TITLE"), (0x0F, 0x20)], field=1)),
        (1000, triplets(pop_on("caption"))),
    )

    assert found == {"CC1": [(1000, 9000, "caption")]}


def test_a_video_with_room_for_captions_and_none_in_it(
    tmp_path: Path, plain: Path, split: Splitter
) -> None:
    result = split(add_captions(plain, tmp_path / "film.mp4", {}, h264_sei))

    assert (result.cue_sources, result.cues) == ((), ())


def test_pictures_of_xsub_end_in_zeros_for_decoders_that_read_on() -> None:
    """What lies behind the packet in memory would be the last point of the picture."""
    data = b"[00:00:01.000-00:00:01.700]picture"
    times = _XSUB_TIMES.match(data)
    assert times is not None

    packet, start_ms = _from_zero(data, times)

    assert start_ms == 1000
    assert bytes(packet) == b"[00:00:00.000-00:00:00.700]picture" + bytes(64)


@pytest.mark.parametrize(
    ("name", "codec", "format_", "late_ms"),
    [
        ("film.mkv", "copy", "hdmv_pgs_subtitle", 0),
        ("film.mkv", "dvdsub", "dvd_subtitle", 0),
        ("film.mkv", "dvbsub", "dvb_subtitle", 0),
        ("film.avi", "xsub", "xsub", 0),
    ],
)
def test_pictures_of_text(
    tmp_path: Path, plain: Path, split: Splitter, name: str, codec: str, format_: str, late_ms: int
) -> None:
    shown = [(200, 900, "Hello, world"), (1000, 1700, "And again"), (1720, 1900, "And again")]
    sup = make_pgs(tmp_path / "subtitles.sup", shown)
    film = tmp_path / name
    run_ffmpeg(
        "-i", plain, "-copyts", "-fix_sub_duration", "-i", sup, "-map", "0", "-map", "1",
        "-c", "copy", "-c:s", codec, "-metadata:s:s:0", "language=eng", film,
    )  # fmt: skip

    result = split(film)

    source = only(result.cue_sources)
    assert (source.format, source.is_bitmap, source.cue_count) == (format_, True, 2)
    assert result.cues == ()
    first, second = pictures_of(result)
    times = (first.start_ms, first.end_ms, second.start_ms, second.end_ms)
    # A DVD counts in 1024ths of 1/90 of a second.
    assert times == pytest.approx((200, 900, 1000, 1900), abs=12)
    assert (first.stream_index, first.sidecar) == (1, None)
    with Image.open(io.BytesIO(first.png)) as picture:
        levels = picture.convert("L").histogram()
        assert picture.height >= 64
    # Black letters on white; little is in between.
    assert levels[255] > 0.4 * sum(levels)
    assert sum(levels[:64]) > 0.1 * sum(levels)


def test_too_many_pictures_are_dropped(tmp_path: Path, plain: Path, split: Splitter) -> None:
    shown = [(n * 100, n * 100 + 50, f"number {n}") for n in range(9)]
    film = tmp_path / "film.mkv"
    sup = make_pgs(tmp_path / "subtitles.sup", shown)
    run_ffmpeg("-i", plain, "-copyts", "-i", sup, "-map", "0", "-map", "1", "-c", "copy", film)

    few = split(film, limits=MediaLimits(max_cues=4))
    small = split(film, limits=MediaLimits(max_cue_picture_bytes=5000))

    assert len(pictures_of(few)) == 4
    assert any("beyond 4 were dropped" in note for note in few.notes)
    assert 1 <= len(pictures_of(small)) < 9
    assert any("beyond 5000 bytes" in note for note in small.notes)


def test_teletext(tmp_path: Path, plain: Path, split: Splitter) -> None:
    film = make_teletext(plain, tmp_path / "film.ts", [(200, 900, "GOOD EVENING")])

    result = split(film)

    assert said(result) == [(200, 900, "GOOD EVENING")]
    source = only(result.cue_sources)
    assert (source.format, source.language, source.cue_count) == ("dvb_teletext", "en", 1)
