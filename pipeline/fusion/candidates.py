"""Every label a shot can be tagged with, and what speaks for it.

A label is known by pictures (classes of the picture model that certainly show it), by meaning
(its place in a vector space), or by words (the label, its aliases and kinds).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.fusion.vocabulary import Concept, Vocabulary, class_key, gloss, load_vocabulary
from pipeline.fusion.words import PhraseIndex, words_of
from pipeline.fusion.zero_shot import Scores


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candidates:
    """The labels in a fixed order: the user's, the vocabulary's, then the model's class names.

    ``n_user`` and ``n_named``: how many are the user's, and how many are the user's or the
    vocabulary's. Class names beyond those are never taken from words alone: "file" or "screen" in
    a sentence seldom means the thing. ``direct``: bool ``(n,)``, known by picture classes.
    """

    names: tuple[str, ...]
    n_user: int
    n_named: int
    direct: npt.NDArray[np.bool_]
    phrases: PhraseIndex
    _class_indices: npt.NDArray[np.int64]
    _starts: npt.NDArray[np.int64]

    def roll_up(self, probabilities: Scores) -> Scores:
        """``(n,)``: the summed probability of each label's classes, 0 where it has none."""
        rolled = np.zeros(len(self.names))
        if len(self._starts):
            sums = np.add.reduceat(probabilities[self._class_indices], self._starts)
            rolled[self.direct] = np.minimum(sums, 1.0)
        return rolled


@dataclass(slots=True)
class _Draft:
    name: str
    classes: list[int]
    phrases: list[str]


def build_candidates(user_labels: tuple[str, ...], class_names: tuple[str, ...]) -> Candidates:
    """Candidates for a picture model with these class names (none for an open one).

    A user's label that means a concept of the vocabulary takes over what is known of it, under
    the user's name.
    """
    indices: dict[str, list[int]] = {}
    for index, name in enumerate(class_names):
        indices.setdefault(class_key(name), []).append(index)
    vocabulary = load_vocabulary()
    meanings = _concepts_by_words(vocabulary)
    drafts = _user_drafts(user_labels, meanings, indices)
    taken = {meanings[words].label for words in map(words_of, user_labels) if words in meanings}
    drafts += [
        _concept_draft(concept.label, concept, indices)
        for concept in vocabulary.concepts.values()
        if concept.label not in taken
    ]
    named = len(drafts)
    drafts += _class_drafts(drafts, meanings, indices)
    return _assemble(drafts, len(user_labels), named)


def _user_drafts(
    labels: tuple[str, ...],
    meanings: dict[tuple[str, ...], Concept],
    indices: dict[str, list[int]],
) -> list[_Draft]:
    class_meanings: dict[tuple[str, ...], list[int]] = {}
    for key, members in indices.items():
        for words in {words_of(key), words_of(gloss(key))}:
            class_meanings.setdefault(words, []).extend(members)
    drafts = []
    for label in labels:
        concept = meanings.get(words_of(label))
        if concept is not None:
            drafts.append(_concept_draft(label, concept, indices))
        else:
            drafts.append(_Draft(label, class_meanings.get(words_of(label), []), [label]))
    return drafts


def _class_drafts(
    named: list[_Draft],
    meanings: dict[tuple[str, ...], Concept],
    indices: dict[str, list[int]],
) -> list[_Draft]:
    """The class names that are not labels already, each under a name of its own.

    A name of several words is unmistakable: it also speaks for the narrowest label that covers
    the class ("sea lion" says "animal", and never "lion").
    """
    by_name = {draft.name.casefold(): draft for draft in named}
    narrowest: dict[int, _Draft] = {}
    for draft in sorted(named, key=lambda draft: -len(draft.classes)):
        narrowest.update(dict.fromkeys(draft.classes, draft))
    drafts = []
    for key, members in indices.items():
        if len(words_of(key)) > 1 and members[0] in narrowest:
            narrowest[members[0]].phrases.append(key)
        alike = by_name.get(key.casefold())
        if alike is not None and set(members) <= set(alike.classes):
            continue
        other = meanings.get(words_of(key))
        means_other = other is not None and key not in other.classes
        name = gloss(key) if means_other or alike is not None else key
        if name.casefold() not in by_name:
            draft = _Draft(name, members, [name])
            by_name[name.casefold()] = draft
            drafts.append(draft)
    return drafts


def _concepts_by_words(vocabulary: Vocabulary) -> dict[tuple[str, ...], Concept]:
    meanings: dict[tuple[str, ...], Concept] = {}
    for concept in vocabulary.concepts.values():
        for word in (concept.label, *concept.aliases):
            meanings.setdefault(words_of(word), concept)
    return meanings


def _concept_draft(name: str, concept: Concept, indices: dict[str, list[int]]) -> _Draft:
    classes = sorted(i for key in concept.classes for i in indices.get(key, ()))
    return _Draft(name, classes, [name, concept.label, *concept.aliases, *concept.kinds])


def _assemble(drafts: list[_Draft], n_user: int, n_named: int) -> Candidates:
    sizes = [len(draft.classes) for draft in drafts if draft.classes]
    return Candidates(
        names=tuple(draft.name for draft in drafts),
        n_user=n_user,
        n_named=n_named,
        direct=np.array([bool(draft.classes) for draft in drafts], dtype=np.bool_),
        phrases=PhraseIndex(
            (phrase, ident) for ident, draft in enumerate(drafts) for phrase in draft.phrases
        ),
        _class_indices=np.array([i for d in drafts for i in d.classes], dtype=np.int64),
        _starts=np.cumsum([0, *sizes[:-1]], dtype=np.int64) if sizes else np.zeros(0, np.int64),
    )
