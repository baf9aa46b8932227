"""Finding labels literally in text: whole words, longest phrase first, plurals alike.

"hot dog" never says "dog", and "dogs" says "dog". Scripts without spaces (Chinese, Japanese,
Thai) have no word boundaries to go by: there a label matches wherever its characters stand.
"""

import re
import unicodedata
from collections.abc import Iterable

_WORD = re.compile(r"\w+(?:['’]\w+)*")
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")

_IRREGULAR = {
    "people": "person",
    "men": "man",
    "women": "woman",
    "children": "child",
    "feet": "foot",
    "teeth": "tooth",
    "geese": "goose",
    "mice": "mouse",
    "oxen": "ox",
    "wolves": "wolf",
    "knives": "knife",
    "leaves": "leaf",
    "lives": "life",
    "loaves": "loaf",
    "shelves": "shelf",
    "calves": "calf",
    "thieves": "thief",
    "wives": "wife",
    "scarves": "scarf",
    "moves": "move",
    "shoes": "shoe",
    "canoes": "canoe",
    "movies": "movie",
    "cookies": "cookie",
    "selfies": "selfie",
    "smoothies": "smoothie",
    "buses": "bus",
    "gases": "gas",
    "viruses": "virus",
    "toes": "toe",
}
#: End like plurals and are none, or mean something else in the singular.
_INVARIANT = frozenset(
    {"alps", "always", "athletics", "binoculars", "does", "economics", "glasses", "gymnastics"}
    | {"headphones", "jeans", "lens", "mathematics", "maths", "news", "olympics", "perhaps"}
    | {"physics", "politics", "scissors", "series", "shorts", "species", "sunglasses", "trousers"}
)


def singular(word: str) -> str:
    """The singular of an English noun, roughly; other words come back unchanged or alike.

    Labels and text go through the same function, so only a clash of two words could do harm.
    """
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word in _INVARIANT or len(word) < 4 or not word.endswith("s"):
        return word
    if word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies"):
        return word[:-1] if len(word) == 4 else word[:-3] + "y"
    if word.endswith(("ches", "shes", "xes", "zes", "sses", "oes")):
        return word[:-2]
    return word[:-1]


def words_of(text: str) -> tuple[str, ...]:
    """The words of a text, casefolded, possessives dropped, in the singular."""
    folded = unicodedata.normalize("NFKC", text).casefold().replace("’", "'")
    return tuple(singular(word.removesuffix("'s")) for word in _WORD.findall(folded))


class PhraseIndex:
    """Phrases and the ids they stand for; one phrase may stand for several."""

    def __init__(self, phrases: Iterable[tuple[str, int]]) -> None:
        self._ids: dict[tuple[str, ...], set[int]] = {}
        self._unspaced: dict[str, set[int]] = {}
        self._longest: dict[str, int] = {}
        for phrase, ident in phrases:
            words = words_of(phrase)
            if not words:
                continue
            if _UNSPACED.search(phrase):
                self._unspaced.setdefault(_folded(phrase), set()).add(ident)
                continue
            self._ids.setdefault(words, set()).add(ident)
            self._longest[words[0]] = max(len(words), self._longest.get(words[0], 0))

    def find(self, text: str) -> set[int]:
        """Ids of the phrases that occur in a text; a word serves the longest phrase only."""
        found: set[int] = set()
        words = words_of(text)
        at = 0
        while at < len(words):
            step = 1
            for length in range(self._longest.get(words[at], 0), 0, -1):
                ids = self._ids.get(words[at : at + length])
                if ids is not None:
                    found |= ids
                    step = length
                    break
            at += step
        if self._unspaced:
            folded = _folded(text)
            for phrase, ids in self._unspaced.items():
                if phrase in folded:
                    found |= ids
        return found


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()
