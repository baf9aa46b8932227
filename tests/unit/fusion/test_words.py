import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.fusion.words import PhraseIndex, singular, words_of


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("dogs", "dog"),
        ("buses", "bus"),
        ("ties", "tie"),
        ("horses", "horse"),
        ("boxes", "box"),
        ("churches", "church"),
        ("cities", "city"),
        ("people", "person"),
        ("women", "woman"),
        ("tomatoes", "tomato"),
        ("glass", "glass"),
        ("news", "news"),
        ("bus", "bus"),
        ("gas", "gas"),
    ],
)
def test_singular(word: str, expected: str) -> None:
    assert singular(word) == expected


@pytest.mark.parametrize(
    ("label", "text", "found"),
    [
        ("dog", "Two DOGS ran past.", True),
        ("dogs", "a dog’s life", True),
        ("dog", "dogma and hotdogs", False),
        ("cat", "concatenate", False),
        ("traffic light", "the traffic\nlights, again", True),
        ("news", "that is new", False),
        ("café", "at the CAFÉ", True),
        ("猫", "这只猫很大", True),
        ("Straße", "viele STRASSE", True),
    ],
)
def test_a_label_is_found_as_a_whole_word(label: str, text: str, found: bool) -> None:
    assert PhraseIndex([(label, 3)]).find(text) == ({3} if found else set())


def test_the_longest_phrase_takes_its_words() -> None:
    index = PhraseIndex([("dog", 0), ("hot dog", 1), ("bear", 2), ("teddy bear", 3)])
    assert index.find("a hot dog and a teddy bear") == {1, 3}
    assert index.find("a hot dog for my dog") == {0, 1}


def test_one_phrase_may_stand_for_several_labels() -> None:
    assert PhraseIndex([("tabby cat", 0), ("tabby cat", 5)]).find("my tabby cats") == {0, 5}


def test_phrases_without_words_never_match() -> None:
    assert PhraseIndex([("...", 0), ("", 1)]).find("... and so on ...") == set()


@given(st.text(max_size=80))
def test_any_text_has_words_or_none(text: str) -> None:
    assert all(word == word.casefold() and word for word in words_of(text))
