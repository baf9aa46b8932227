"""Closed sets of classes: the shipped taxonomy, and a user's own list of labels."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

from pipeline.errors import ConfigurationError
from pipeline.fusion.vocabulary import load_vocabulary

#: Names that classes of ours are stored under, by fusion and by the stage ``safety``.
SHIPPED = "mediaweave"
SAFETY = "safety"
#: Bounds of a user's list: more labels than this is a vocabulary, not a classification.
MAX_LABELS = 10_000
MAX_LABEL_LENGTH = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class TaxonomyClass:
    """One class. ``prompts``: phrases whose mean embedding stands for it; ``classes``: names of
    ImageNet classes that certainly belong to it."""

    name: str
    prompts: tuple[str, ...]
    classes: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Taxonomy:
    """A closed set of classes, in a fixed order."""

    name: str
    version: str
    classes: tuple[TaxonomyClass, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelList:
    """A user's labels, cleaned; ``dropped`` says in one sentence each what was left out and why."""

    labels: tuple[str, ...]
    dropped: tuple[str, ...]


@cache
def load_taxonomy(name: str) -> Taxonomy:
    """A shipped taxonomy by name.

    Raises:
        ConfigurationError: no taxonomy of that name is shipped.
    """
    if name != SHIPPED:
        raise ConfigurationError(
            f'there is no taxonomy called "{name}": use "{SHIPPED}", or give your own labels'
        )
    raw = json.loads(
        resources.files("pipeline.fusion").joinpath("taxonomy.json").read_text(encoding="utf-8")
    )
    concepts = load_vocabulary().concepts
    return Taxonomy(
        name=raw["name"],
        version=raw["version"],
        classes=tuple(
            TaxonomyClass(
                name=class_name,
                prompts=tuple(entry["prompts"]),
                classes=frozenset(entry["imagenet"]).union(
                    *(concepts[label].classes for label in entry["concepts"])
                ),
            )
            for class_name, entry in raw["classes"].items()
        ),
    )


def load_labels(source: str | Path | Iterable[str]) -> LabelList:
    """A user's own labels, from a text, a file or a list.

    A text (and a UTF-8 file, given as a :class:`~pathlib.Path`) holds one label per line, or, on
    a single line, labels separated by commas. Space around labels and runs of space inside do not
    count; of labels that differ only in case, the first is kept.

    Raises:
        ConfigurationError: the file cannot be read, no label is left, there are more than
            ``MAX_LABELS``, or a label is longer than ``MAX_LABEL_LENGTH`` characters.
    """
    if isinstance(source, Path):
        try:
            source = source.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(
                f"the label file {source} cannot be read as UTF-8 text: {error}"
            ) from error
    if isinstance(source, str):
        lines = source.strip().splitlines()
        source = lines if len(lines) > 1 else source.split(",")
    kept: dict[str, str] = {}
    dropped = []
    for number, entry in enumerate(source, start=1):
        label = " ".join(entry.split())
        key = label.casefold()
        if not label:
            dropped.append(f"label {number} is empty")
        elif key in kept:
            dropped.append(f'label {number}, "{label}", repeats "{kept[key]}"')
        elif len(label) > MAX_LABEL_LENGTH:
            raise ConfigurationError(
                f"label {number} has {len(label)} characters; "
                f"at most {MAX_LABEL_LENGTH} are allowed: shorten it"
            )
        else:
            kept[key] = label
    if not kept:
        raise ConfigurationError("the list of labels is empty: give at least one label")
    if len(kept) > MAX_LABELS:
        raise ConfigurationError(
            f"the list has {len(kept):,} labels; at most {MAX_LABELS:,} are allowed: shorten it"
        )
    return LabelList(labels=tuple(kept.values()), dropped=tuple(dropped))
