"""CEA-708 captions beside pictures, alone and together with CEA-608."""

from collections.abc import Callable
from pathlib import Path

import dtvcc_media as cea708
import pytest
import subtitle_media as cea608
from dtvcc_media import Encoder, hide
from media_factory import make_video

from pipeline.media import MediaLimits, SplitResult
from pipeline.media.subtitles.captions import CaptionReader, repeated
from pipeline.media.subtitles.parsing import ParsedCue, ParsedText

Splitter = Callable[..., SplitResult]

ONE_FRAME_MS = 40
END_MS = 9000
LIMITS = MediaLimits()


@pytest.fixture(scope="module")
def reordered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures are stored in another order than they are shown in."""
    codec = ("-c:v", "libx264", "-bf", "3", "-pix_fmt", "yuv420p")
    path = tmp_path_factory.mktemp("reordered") / "video.mp4"
    return make_video(path, frames_per_shot=(50,), sound=False, codec=codec)


def spread(data: bytes, start: int) -> dict[int, bytes]:
    """Two triplets with each picture."""
    return {start + at // 6: data[at : at + 6] for at in range(0, len(data), 6)}


def test_beside_pictures_of_h264(tmp_path: Path, reordered: Path, split: Splitter) -> None:
    encode = Encoder()
    # 19 triplets in 3 packets: the last ends 9 pictures on.
    captions = spread(encode(cea708.pop_on("In the right\norder"), size=12), 2)
    shown = max(captions)
    captions |= spread(encode(hide(0)), 40)

    result = split(cea608.add_captions(reordered, tmp_path / "film.mp4", captions, cea608.h264_sei))

    ((start_ms, end_ms, text),) = [(cue.start_ms, cue.end_ms, cue.text) for cue in result.cues]
    assert text == "In the right\norder"
    assert start_ms == pytest.approx(shown * ONE_FRAME_MS, abs=1)
    assert end_ms == pytest.approx(40 * ONE_FRAME_MS, abs=1)
    (source,) = result.cue_sources
    assert (source.format, source.title, source.stream_index) == ("cea708", "service 1", 0)
    assert (source.cue_count, source.broken_count) == (1, 0)
    assert result.notes == ()


def test_beside_pictures_of_mpeg2_with_two_services(tmp_path: Path, split: Splitter) -> None:
    codec = ("-c:v", "mpeg2video", "-bf", "2", "-pix_fmt", "yuv420p")
    video = make_video(tmp_path / "plain.ts", frames_per_shot=(50,), sound=False, codec=codec)
    encode = Encoder()
    captions = {
        5: encode.together(cea708.pop_on("Wide awake"), cea708.pop_on("Hellwach")),
        40: encode.together(hide(0), hide(0)),
    }

    result = split(
        cea608.add_captions(video, tmp_path / "film.ts", captions, cea608.mpeg2_user_data)
    )

    assert [cue.text for cue in result.cues] == ["Wide awake", "Hellwach"]
    assert [source.title for source in result.cue_sources] == ["service 1", "service 2"]


def test_packets_without_text_are_no_source(
    tmp_path: Path, reordered: Path, split: Splitter
) -> None:
    encode = Encoder()
    captions = {picture: encode(cea708.ETX) for picture in range(50)}

    result = split(cea608.add_captions(reordered, tmp_path / "film.mp4", captions, cea608.h264_sei))

    assert (result.cue_sources, result.notes) == ((), ())


SPEECH = "What is said here is said in both kinds of captions"


def test_what_both_kinds_say_is_taken_once(
    tmp_path: Path, reordered: Path, split: Splitter
) -> None:
    encode = Encoder()
    newer = encode.together(
        cea708.pop_on(f"{SPEECH[:18]}\n{SPEECH[18:]}"), cea708.pop_on("Anders gesagt")
    )
    # A picture has room for 31 triplets.
    captions = {2: cea608.triplets(cea608.pop_on(SPEECH[:30])), 3: newer[:90], 4: newer[90:]}

    result = split(cea608.add_captions(reordered, tmp_path / "film.mp4", captions, cea608.h264_sei))

    assert [cue.text for cue in result.cues] == [
        f"{SPEECH[:18].strip()}\n{SPEECH[18:]}", "Anders gesagt",
    ]  # fmt: skip
    assert [(source.format, source.title, source.cue_count) for source in result.cue_sources] == [
        ("cea608", "CC1", 0), ("cea708", "service 1", 1), ("cea708", "service 2", 1),
    ]  # fmt: skip
    assert (
        "the captions of stream 0 (CC1) say the same as service 1 and were left out" in result.notes
    )


def text(*said: str) -> ParsedText:
    cues = tuple(ParsedCue(start_ms=n, end_ms=n + 1, text=line) for n, line in enumerate(said))
    return ParsedText(cues=cues, broken=0, cut_short=0)


def test_which_of_two_texts_is_left_out() -> None:
    whole, part = text(SPEECH.upper(), "and goes on"), text(*SPEECH.split(), "and goes")

    assert repeated({"CC1": whole}, {"service 1": part}) == {"service 1": "CC1"}
    assert repeated({"CC1": part}, {"service 1": whole}) == {"CC1": "service 1"}
    assert repeated({"CC1": whole}, {"service 1": whole}) == {"service 1": "CC1"}
    assert repeated({"CC1": whole, "CC3": text("autre chose")}, {"service 2": part}) == {
        "service 2": "CC1"
    }
    # The same words, and another text.
    assert repeated({"CC1": whole}, {"service 1": text(" ".join(SPEECH.split()[::-1]))}) == {}
    assert repeated({"CC1": text("\N{EIGHTH NOTE}")}, {"service 1": text("\N{EIGHTH NOTE}")}) == {}


def test_both_kinds_are_separated_in_one_picture() -> None:
    encode = Encoder()
    reader = CaptionReader(LIMITS)
    reader.push(1000, cea608.triplets(cea608.pop_on("old")) + encode(cea708.pop_on("new")))
    # Not valid, and in the middle of nothing.
    reader.push(2000, b"\xfb\x02\x21\xfa\x41\x42")

    assert [cue.text for cue in reader.channels(END_MS)["CC1"].cues] == ["old"]
    assert [cue.text for cue in reader.services(END_MS)["service 1"].cues] == ["new"]
