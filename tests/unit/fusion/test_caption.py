from collections.abc import Callable

import pytest

from pipeline.fusion.caption import MAX_QUOTE_LENGTH, describe
from schemas.records import Cue, Shot, Tag

MakeCue = Callable[..., Cue]
SHOT = Shot(shot_index=3, start_ms=0, end_ms=4000)


def seen(label: str, score: float, *, shot_index: int = 3) -> Tag:
    return Tag(
        shot_index=shot_index,
        start_ms=0,
        end_ms=4000,
        label=label,
        score=score,
        visual_score=score,
    )


def mentioned(label: str, score: float) -> Tag:
    return Tag(shot_index=3, start_ms=0, end_ms=4000, label=label, score=score, audio_score=score)


@pytest.mark.parametrize(
    ("tags", "text"),
    [
        ([seen("animal", 0.95), seen("cat", 0.9), seen("tabby cat", 0.8)], "A tabby cat."),
        ([seen("animal", 0.95), seen("cat", 0.9), seen("tabby cat", 0.4)], "A cat."),
        ([seen("bird", 0.9), seen("parrot", 0.9), seen("lorikeet", 0.9)], "A lorikeet (parrot)."),
        ([seen("umbrella", 0.9), seen("dog", 0.8)], "An umbrella and a dog."),
        ([seen("unicycle", 0.9)], "A unicycle."),
        ([seen("tank", 0.9)], "An army tank."),
        ([seen("binoculars", 0.9)], "Binoculars."),
        ([seen("food", 0.9), seen("bread", 0.8)], "Bread."),
        ([seen("cat", 0.3), seen("dog", 0.4), seen("animal", 0.45)], "Perhaps a dog or a cat."),
        ([seen("sheep", 0.9, shot_index=2)], "Nothing was recognised in this shot."),
        ([], "Nothing was recognised in this shot."),
    ],
)
def test_what_is_seen_is_said_in_its_narrowest_words(tags: list[Tag], text: str) -> None:
    assert describe(SHOT, tags, []).text == text


def test_words_are_quoted_and_mentions_are_not_claimed_to_be_seen(make_cue: MakeCue) -> None:
    cues = [
        make_cue("over  there.", span=(2000, 3000)),
        make_cue("Look at the dog", span=(0, 1000)),
        make_cue("ALPHA 01", "ocr"),
        make_cue("Regarde le chien", "subtitle"),
        make_cue("another shot", span=(4000, 5000)),
    ]
    caption = describe(SHOT, [seen("cat", 0.9), mentioned("dog", 0.6)], cues)
    assert caption.text == (
        "A cat. Mentioned: dog. On screen: “ALPHA 01”. "
        "Said: “Look at the dog over there”. Subtitle: “Regarde le chien”."
    )
    assert (caption.shot_index, caption.start_ms, caption.end_ms) == (3, 0, 4000)
    assert caption.language == "en"


def test_subtitles_that_repeat_the_speech_are_quoted_once(make_cue: MakeCue) -> None:
    cues = [make_cue("Hello, world."), make_cue("hello world", "subtitle")]
    assert describe(SHOT, [], cues).text == "Said: “Hello, world”."


def test_long_quotes_end_at_a_word(make_cue: MakeCue) -> None:
    text = describe(SHOT, [], [make_cue("word " * 100)]).text
    assert text.endswith("word…”.")
    assert len(text) <= len("Said: “…”.") + MAX_QUOTE_LENGTH
    unbroken = describe(SHOT, [], [make_cue("字" * 500)]).text
    assert unbroken == f"Said: “{'字' * MAX_QUOTE_LENGTH}…”."
