"""Which words of a span, and which of its keyframes, a model is shown."""

from pipeline.fusion.showing import MAX_CHARACTERS, keyframes_to_show, text_of_span
from schemas.records import Cue, CueOrigin, Keyframe


def cue(origin: CueOrigin, start_ms: int, text: str, stream: int | None = None) -> Cue:
    return Cue(
        origin=origin, start_ms=start_ms, end_ms=start_ms + 100, text=text, stream_index=stream
    )


def test_the_source_that_says_most_is_the_transcript() -> None:
    cues = [
        cue("subtitle", 200, "Zwei.", stream=3), cue("speech", 200, "two and", stream=1),
        cue("subtitle", 100, "Eins.", stream=3), cue("speech", 300, "three", stream=1),
        cue("subtitle", 100, "One.", stream=2), cue("speech", 900, "later", stream=1),
    ]  # fmt: skip
    assert text_of_span(0, 500, cues).transcript == "two and three"
    assert text_of_span(0, 200, cues).transcript == "Eins."
    assert text_of_span(500, 800, cues).transcript is None


def test_written_lines_count_once_and_long_texts_are_cut() -> None:
    cues = [cue("ocr", at, text) for at, text in ((300, "B"), (100, "A"), (200, "B\n"), (100, " "))]
    assert text_of_span(0, 500, cues).screen_text == "A B"
    long = text_of_span(0, 500, [cue("speech", 100, "x" * 20_000)])
    assert long.transcript == "x" * MAX_CHARACTERS


def test_an_image_has_the_words_of_its_moment() -> None:
    at_once = Cue(origin="ocr", start_ms=0, end_ms=0, text="STOP")
    assert text_of_span(0, 0, [at_once]).screen_text == "STOP"


def keyframe(shot: int, index: int, at_ms: int, sha256: str) -> Keyframe:
    return Keyframe(
        shot_index=shot, keyframe_index=index, at_ms=at_ms, pts=None, width_px=8, height_px=8,
        sha256=sha256,
    )  # fmt: skip


def test_keyframes_are_spread_over_an_asset() -> None:
    frames = [keyframe(n, 0, n * 1000, f"{n}") for n in range(11)]
    assert [k.shot_index for k in keyframes_to_show(frames, 3)] == [0, 5, 10]
    assert [k.shot_index for k in keyframes_to_show(frames, 1)] == [0]
    assert keyframes_to_show(frames, 11) == frames
    assert keyframes_to_show(frames[::-1], 20) == frames
    assert keyframes_to_show([], 3) == []


def test_the_same_bytes_are_shown_once() -> None:
    frames = [keyframe(0, 0, 0, "a"), keyframe(1, 0, 1000, "a"), keyframe(2, 0, 2000, "b")]
    assert [k.at_ms for k in keyframes_to_show(frames, 3)] == [0, 2000]
