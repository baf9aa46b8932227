"""A caption from what was found, by template: it repeats findings and never adds to them."""

from collections.abc import Iterable, Sequence

from pipeline.fusion.evidence import overlap_weight
from pipeline.fusion.vocabulary import gloss, load_vocabulary
from pipeline.fusion.words import words_of
from schemas.records import Caption, Cue, CueOrigin, Shot, Tag

TEMPLATE_NAME = "template-caption"
#: Changes with every change of code or shipped data that can change a caption.
TEMPLATE_REVISION = "1"

#: From here on a thing is stated; below, it is "perhaps" there.
SURE_SCORE = 0.5
MAX_THINGS = 3
MAX_MENTIONS = 5
MAX_QUOTE_LENGTH = 160
NOTHING_FOUND = "Nothing was recognised in this shot."


def describe(shot: Shot, tags: Sequence[Tag], cues: Sequence[Cue]) -> Caption:
    """Say in English what is seen, what was mentioned, and quote what was written and said.

    Args:
        shot: the shot to describe.
        tags: its fused tags; those of other shots are passed over.
        cues: its cues, in any order; those that do not touch the shot are passed over.
    """
    own = [tag for tag in tags if tag.shot_index == shot.shot_index]
    touching = sorted(
        (cue for cue in cues if overlap_weight(shot, cue) > 0.0),
        key=lambda cue: (cue.start_ms, cue.end_ms, cue.text),
    )
    written = _quote(cue.text for cue in touching if cue.origin == "ocr")
    said = _quote(cue.text for cue in touching if cue.origin == "speech")
    subtitle = _quote(cue.text for cue in touching if cue.origin == "subtitle")
    parts = [_seen(own), _mentioned(own)]
    quotes: list[tuple[CueOrigin, str]] = [("ocr", written), ("speech", said)]
    if words_of(subtitle) != words_of(said):
        quotes.append(("subtitle", subtitle))
    openings = {"ocr": "On screen", "speech": "Said", "subtitle": "Subtitle"}
    parts += [f"{openings[origin]}: “{text}”." for origin, text in quotes if text]
    return Caption(
        shot_index=shot.shot_index,
        start_ms=shot.start_ms,
        end_ms=shot.end_ms,
        text=" ".join(part for part in parts if part) or NOTHING_FOUND,
        language="en",
    )


def _seen(tags: Sequence[Tag]) -> str:
    """The narrowest things that are surely seen, or else the two likeliest guesses."""
    scores = {tag.label: tag.visual_score for tag in tags if tag.visual_score is not None}
    ranked = sorted(scores, key=lambda label: (-scores[label], label))
    sure = [label for label in ranked if scores[label] >= SURE_SCORE]
    if sure:
        broader = {wide for label in sure for wide in _broader(label)}
        things = [_named(label, sure) for label in sure if label not in broader]
        return _sentence(things[:MAX_THINGS], "and")
    broader = {wide for label in ranked for wide in _broader(label)}
    guesses = [_named(label, ()) for label in ranked if label not in broader]
    return f"Perhaps {_listed(guesses[:2], 'or')}." if guesses else ""


def _mentioned(tags: Sequence[Tag]) -> str:
    heard = sorted((tag for tag in tags if tag.visual_score is None), key=_by_score)
    labels = [tag.label for tag in heard[:MAX_MENTIONS]]
    return f"Mentioned: {', '.join(labels)}." if labels else ""


def _by_score(tag: Tag) -> tuple[float, str]:
    return -tag.score, tag.label


def _broader(label: str) -> Sequence[str]:
    """Concepts that a label implies: its ancestors, or those that cover it as a class name."""
    vocabulary = load_vocabulary()
    if label in vocabulary.concepts:
        return tuple(vocabulary.ancestors(label))
    return vocabulary.concepts_of_class(label)


def _named(label: str, sure: Sequence[str]) -> str:
    """A label with its article and, where that helps, the kind of thing it is."""
    vocabulary = load_vocabulary()
    is_class = label not in vocabulary.concepts
    name = gloss(label) if is_class else label
    kind = next((wide for wide in _broader(label) if wide in sure), None)
    plural = name.endswith("s") and not name.endswith(("ss", "us", "is"))
    if plural or label in vocabulary.uncountable:
        phrase = name
    else:
        vowel = name[0].casefold() in "aeiou" and not name.casefold().startswith(("uni", "eu"))
        phrase = f"{'an' if vowel else 'a'} {name}"
    if is_class and kind is not None and not set(words_of(kind)) <= set(words_of(name)):
        return f"{phrase} ({kind})"
    return phrase


def _sentence(things: Sequence[str], link: str) -> str:
    text = _listed(things, link)
    return f"{text[0].upper()}{text[1:]}." if text else ""


def _listed(things: Sequence[str], link: str) -> str:
    if len(things) < 2:
        return "".join(things)
    return f"{', '.join(things[:-1])} {link} {things[-1]}"


def _quote(texts: Iterable[str]) -> str:
    """Distinct texts joined by spaces, cut at a word, without a final full stop."""
    distinct = dict.fromkeys(" ".join(text.split()) for text in texts)
    joined = " ".join(text for text in distinct if text)
    if len(joined) <= MAX_QUOTE_LENGTH:
        return joined.removesuffix(".")
    cut = joined[:MAX_QUOTE_LENGTH]
    return (cut.rsplit(" ", 1)[0] if " " in cut else cut).rstrip(" ,;:.") + "…"
