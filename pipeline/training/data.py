"""What is learned from: items with labels, in parts that share no asset. No torch."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from pipeline.errors import ConfigurationError
from pipeline.fusion.neural.config import FuserConfig
from pipeline.fusion.neural.items import FusionItem
from pipeline.models.base import UNKNOWN_LICENCE

PARTS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainingSet:
    """Labelled items, row by row.

    ``groups``: what must not be torn apart, the asset a row comes from; an asset may have several
    rows. ``tags``: the names that hold for a row (none of the others does), or ``None`` where
    nobody said. ``classes``, ``captions``: likewise one name and one sentence, or ``None``. Empty
    where the set has no such labels. ``name``, ``licence``: for the model card.

    Raises:
        ConfigurationError: the set is empty, or the rows do not match.
    """

    items: Sequence[FusionItem]
    groups: Sequence[str]
    tags: Sequence[frozenset[str] | None] = ()
    classes: Sequence[str | None] = ()
    captions: Sequence[str | None] = ()
    name: str = "unnamed"
    licence: str = UNKNOWN_LICENCE

    def __post_init__(self) -> None:
        if not self.items:
            raise ConfigurationError(f"the training set {self.name} is empty; label some items")
        for what in ("groups", "tags", "classes", "captions"):
            rows = getattr(self, what)
            if len(rows) != len(self.items) and (rows or what == "groups"):
                raise ConfigurationError(
                    f"the training set {self.name} has {len(self.items)} items and {len(rows)} "
                    f"{what}; give one for each item"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Rows of each part, ascending. Only ``train`` may not be empty.

    Without ``validation`` nothing is stopped early or calibrated; without ``test`` nothing is
    measured.
    """

    train: tuple[int, ...]
    validation: tuple[int, ...] = ()
    test: tuple[int, ...] = ()
    #: How it came about, for the card.
    origin: str = field(default="given")


def split_by_group(
    groups: Sequence[str], *, salt: str = "", shares: tuple[float, float, float] = (0.7, 0.15, 0.15)
) -> Split:
    """Parts by a hash of each group's name: the same group always falls into the same part,
    whatever else is in the set, so a set may grow without its test part leaking.

    Of a few groups a part may get none: then it is empty.

    Raises:
        ConfigurationError: the shares do not sum to 1, or no group falls into ``train``.
    """
    if min(shares) < 0 or shares[0] <= 0 or abs(sum(shares) - 1) > 1e-9:
        raise ConfigurationError(
            f"the shares of train, validation and test are {shares}; give three that sum to 1"
        )
    bounds = (shares[0], shares[0] + shares[1])
    rows: tuple[list[int], list[int], list[int]] = ([], [], [])
    for row, group in enumerate(groups):
        place = _place(salt, group)
        rows[sum(place >= bound for bound in bounds)].append(row)
    if not rows[0]:
        raise ConfigurationError(
            f"none of {len(set(groups))} assets falls into the training part; label more, use "
            "another salt, or give the split"
        )
    return Split(
        train=tuple(rows[0]),
        validation=tuple(rows[1]),
        test=tuple(rows[2]),
        origin=f"by asset, shares {shares[0]:g}/{shares[1]:g}/{shares[2]:g}, salt {salt!r}",
    )


def check_split(data: TrainingSet, split: Split) -> None:
    """Whether a split fits a set.

    Raises:
        ConfigurationError: no row to train on, a row that is not there or is named twice, or an
            asset in two parts.
    """
    if not split.train:
        raise ConfigurationError("the training part is empty; give it rows")
    rows = sorted([*split.train, *split.validation, *split.test])
    if rows[0] < 0 or rows[-1] >= len(data.items):
        raise ConfigurationError(
            f"the split names rows {rows[0]} to {rows[-1]}, and the set has {len(data.items)}"
        )
    twice = [left for left, right in pairwise(rows) if left == right]
    if twice:
        raise ConfigurationError(f"the split names row {twice[0]} twice; name each row once")
    part_of: dict[str, str] = {}
    for part in PARTS:
        for row in getattr(split, part):
            group = data.groups[row]
            if part_of.setdefault(group, part) != part:
                raise ConfigurationError(
                    f"asset {group} is in the parts {part_of[group]} and {part}, so what is "
                    "measured would be known from training; keep its rows in one part"
                )


def check_labels(data: TrainingSet, split: Split, config: FuserConfig) -> None:
    """Whether the training part can teach what the configuration asks for.

    Raises:
        ConfigurationError: a label that the configuration does not name, a task without any
            label, one class only, or a tag that holds everywhere.
    """
    known_tags, known_classes = set(config.tags), set(config.classes)
    for row, tags in enumerate(data.tags):
        if tags is not None and known_tags and not tags <= known_tags:
            raise _unknown("tag", min(tags - known_tags), row)
    for row, name in enumerate(data.classes):
        if name is not None and known_classes and name not in known_classes:
            raise _unknown("class", name, row)
    if config.tags and not any(data.tags and data.tags[row] is not None for row in split.train):
        raise _untaught("tags")
    _check_counterexamples(data, split)
    if config.caption and not any(data.captions and data.captions[row] for row in split.train):
        raise _untaught("captions")
    if config.classes:
        seen = {data.classes[row] for row in split.train if data.classes} - {None}
        if not seen:
            raise _untaught("classes")
        if len(seen) == 1:
            raise ConfigurationError(
                f"the training part knows the one class {seen.pop()!r}, which teaches nothing; "
                "label items of other classes too"
            )


def _check_counterexamples(data: TrainingSet, split: Split) -> None:
    known = [tags for row in split.train if data.tags and (tags := data.tags[row]) is not None]
    everywhere = frozenset[str].intersection(*known) if known else frozenset()
    if everywhere:
        raise ConfigurationError(
            f"all {len(known)} labelled rows of the training part have the tag "
            f"{min(everywhere)!r}, so nothing says where it does not hold: label rows with other "
            "tags only, or with none, or drop it"
        )


def counts(data: TrainingSet, rows: Sequence[int]) -> Counter[str]:
    """How many of the rows carry each tag (``tag NAME``) and class (``class NAME``)."""
    found: Counter[str] = Counter()
    for row in rows:
        found.update(f"tag {name}" for name in (data.tags[row] if data.tags else None) or ())
        if data.classes and data.classes[row] is not None:
            found[f"class {data.classes[row]}"] += 1
    return found


def data_digest(data: TrainingSet, split: Split) -> str:
    """sha256 (hex) over every item, label and part: two trainings with the same digest saw the
    same."""
    total = hashlib.sha256()
    for row, item in enumerate(data.items):
        total.update(f"row {row}\0{data.groups[row]}\0".encode())
        for name in sorted(item.modalities):
            tokens = item.modalities[name]
            total.update(f"{name}\0{tokens.values.shape}\0".encode())
            for array in (tokens.values, tokens.spans, tokens.weights):
                total.update(array.tobytes())
        for labels in (data.tags, data.classes, data.captions):
            label = labels[row] if labels else None
            shown = sorted(label) if isinstance(label, frozenset) else label
            total.update(f"{shown!r}\0".encode())
    for part in PARTS:
        total.update(f"{part}\0{getattr(split, part)}\0".encode())
    return total.hexdigest()


def _place(salt: str, group: str) -> float:
    """0-1, evenly spread."""
    digest = hashlib.sha256(f"{salt}\0{group}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _unknown(kind: str, name: str, row: int) -> ConfigurationError:
    return ConfigurationError(
        f"row {row} is labelled with the {kind} {name!r}, which the fuser's configuration does "
        "not name; add it there, or drop the label"
    )


def _untaught(what: str) -> ConfigurationError:
    return ConfigurationError(
        f"the training part has no {what}, and the fuser is to tell them; label some, or leave "
        f"{what} out of its configuration"
    )
