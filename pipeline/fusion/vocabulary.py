"""The shipped tag vocabulary: everyday concepts, their words, and the picture classes they cover.

``vocabulary.json`` holds, per concept: ``aliases`` (other words for the same thing), ``kinds``
(narrower words whose mention implies the concept), ``parent`` (a broader concept) and
``imagenet`` (names of ImageNet classes that certainly show it). ``class_glosses`` says what a
terse or ambiguous class name means (a "tank" of ImageNet is an army's); the gloss is what is
embedded and what captions read. ``class_synonyms`` maps other spellings of class names to these.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources


@dataclass(frozen=True, slots=True, kw_only=True)
class Concept:
    """One everyday concept. ``classes``: own class names and those of all narrower concepts."""

    label: str
    aliases: tuple[str, ...]
    kinds: tuple[str, ...]
    parent: str | None
    classes: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """The concepts by label, in the order of the file.

    ``covering``: labels of the concepts that cover a class, by class name, narrowest first.
    """

    version: str
    concepts: dict[str, Concept]
    class_glosses: dict[str, str]
    class_synonyms: dict[str, str]
    uncountable: frozenset[str]
    covering: dict[str, tuple[str, ...]]

    def ancestors(self, label: str) -> Iterator[str]:
        """The broader concepts of a concept, nearest first."""
        concept = self.concepts.get(label)
        while concept is not None and concept.parent is not None:
            yield concept.parent
            concept = self.concepts[concept.parent]

    def concepts_of_class(self, class_name: str) -> tuple[str, ...]:
        """Labels of the concepts that cover a class, narrowest first."""
        return self.covering.get(class_key(class_name), ())


def class_key(class_name: str) -> str:
    """The name under which the vocabulary knows a class.

    Models spell ImageNet's classes differently: all synonyms in a row, underscores for spaces,
    the classical names or the clearer ones of today. Case counts: it tells the dog "Cardigan"
    from the "cardigan". Unknown names come back as they are.
    """
    synonyms = load_vocabulary().class_synonyms
    first = class_name.split(",", maxsplit=1)[0].replace("_", " ").strip()
    return synonyms.get(first, first)


def gloss(class_name: str) -> str:
    """What a class name means, in words a person would use."""
    key = class_key(class_name)
    return load_vocabulary().class_glosses.get(key, key)


@cache
def load_vocabulary() -> Vocabulary:
    """The shipped vocabulary, read once per process."""
    raw = json.loads(
        resources.files("pipeline.fusion").joinpath("vocabulary.json").read_text(encoding="utf-8")
    )
    entries = raw["concepts"]
    classes: dict[str, set[str]] = {label: set() for label in entries}
    for label, entry in entries.items():
        covering: str | None = label
        while covering is not None:
            classes[covering].update(entry.get("imagenet", ()))
            covering = entries[covering].get("parent")
    by_width = sorted(entries, key=lambda label: (len(classes[label]), label))
    covers: dict[str, list[str]] = {}
    for label in by_width:
        for name in classes[label]:
            covers.setdefault(name, []).append(label)
    return Vocabulary(
        version=raw["version"],
        concepts={
            label: Concept(
                label=label,
                aliases=tuple(entry.get("aliases", ())),
                kinds=tuple(entry.get("kinds", ())),
                parent=entry.get("parent"),
                classes=frozenset(classes[label]),
            )
            for label, entry in entries.items()
        },
        class_glosses=raw["class_glosses"],
        class_synonyms=raw["class_synonyms"],
        uncountable=frozenset(raw["uncountable"]),
        covering={name: tuple(labels) for name, labels in covers.items()},
    )
