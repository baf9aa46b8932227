from pathlib import Path

import pytest

from pipeline.errors import ConfigurationError
from pipeline.fusion.taxonomy import MAX_LABELS, load_labels, load_taxonomy
from pipeline.fusion.vocabulary import class_key, gloss, load_vocabulary


def test_labels_come_from_a_line_a_text_a_file_or_a_list(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes("\ufeffcat\r\nred  wine\r\n".encode())
    assert load_labels("cat, red wine").labels == ("cat", "red wine")
    assert load_labels("cat\nred, white wine\n").labels == ("cat", "red, white wine")
    assert load_labels(path).labels == ("cat", "red wine")
    assert load_labels(["cat", "dog"]).labels == ("cat", "dog")


def test_repeated_and_empty_labels_are_dropped_with_a_reason() -> None:
    cleaned = load_labels(["Cat", " ", "dog", "cat"])
    assert cleaned.labels == ("Cat", "dog")
    assert cleaned.dropped == ("label 2 is empty", 'label 4, "cat", repeats "Cat"')


def test_lists_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="the list of labels is empty"):
        load_labels(" , \n")
    with pytest.raises(ConfigurationError, match=f"10,001 labels; at most {MAX_LABELS:,}"):
        load_labels(f"label {i}" for i in range(MAX_LABELS + 1))
    with pytest.raises(ConfigurationError, match="label 2 has 201 characters"):
        load_labels(["cat", "x" * 201])
    with pytest.raises(ConfigurationError, match="cannot be read as UTF-8 text"):
        load_labels(tmp_path / "missing.txt")
    broken = tmp_path / "latin1.txt"
    broken.write_bytes(b"caf\xe9")
    with pytest.raises(ConfigurationError, match="cannot be read as UTF-8 text"):
        load_labels(broken)


def test_ten_thousand_labels_are_allowed() -> None:
    assert len(load_labels(f"label {i}" for i in range(MAX_LABELS)).labels) == MAX_LABELS


def test_the_shipped_taxonomy_is_whole() -> None:
    taxonomy = load_taxonomy("mediaweave")
    assert taxonomy.version
    assert 12 <= len(taxonomy.classes) <= 16
    assert all(len(c.prompts) >= 4 for c in taxonomy.classes)
    members = [name for c in taxonomy.classes for name in c.classes]
    assert len(members) == len(set(members)) == 1000
    by_name = {c.name: c.classes for c in taxonomy.classes}
    assert {"tabby cat", "lorikeet"} <= by_name["animals"]
    assert "sports car" in by_name["vehicles and transport"]


def test_an_unknown_taxonomy_is_refused() -> None:
    with pytest.raises(ConfigurationError, match='no taxonomy called "iab"'):
        load_taxonomy("iab")


def test_the_shipped_vocabulary_is_whole() -> None:
    concepts = load_vocabulary().concepts
    words = [
        word.casefold()
        for concept in concepts.values()
        for word in (concept.label, *concept.aliases, *concept.kinds)
    ]
    assert len(words) == len(set(words))
    assert all(c.parent is None or c.parent in concepts for c in concepts.values())
    assert concepts["cat"].classes == {
        "tabby cat",
        "tiger cat",
        "Persian cat",
        "Siamese cat",
        "Egyptian Mau",
    }
    assert concepts["cheetah"].classes < concepts["wild cat"].classes < concepts["animal"].classes
    assert "cheetah" not in concepts["cat"].classes
    assert "crane (machine)" not in concepts["bird"].classes


def test_broader_concepts_come_nearest_first() -> None:
    vocabulary = load_vocabulary()
    assert list(vocabulary.ancestors("taxi")) == ["car", "vehicle"]
    assert vocabulary.concepts_of_class("cheetah") == ("cheetah", "wild cat", "animal")
    assert vocabulary.concepts_of_class("unheard of") == ()


def test_class_names_are_known_in_every_spelling() -> None:
    assert class_key("tabby, tabby cat") == class_key("tabby") == class_key("tabby_cat")
    assert class_key("Cardigan") == "Cardigan Welsh Corgi"
    assert class_key("cardigan") == "cardigan"
    assert class_key("unheard of") == "unheard of"


def test_class_names_are_read_with_their_meaning() -> None:
    assert gloss("crane") == "construction crane"
    assert gloss("Samoyed, Samoyede") == "Samoyed dog"
    assert gloss("espresso maker") == "espresso machine"
    assert gloss("unheard of") == "unheard of"
