"""Precision and recall of found boundaries against known ones."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.shots.clips import Truth

#: A hard cut is found at its frame or the one beside it: some count the last frame of the old shot.
CUT_TOLERANCE_FRAMES = 1
#: A gradual transition is found by one boundary within it: where in it, is a matter of taste.
GRADUAL_TOLERANCE_FRAMES = 2


@dataclass(frozen=True, slots=True)
class Counts:
    """``found`` boundaries are right, ``extra`` ones are not, ``missed`` ones were not found."""

    found: int = 0
    extra: int = 0
    missed: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.found + other.found, self.extra + other.extra, self.missed + other.missed
        )

    @property
    def precision(self) -> float:
        return self.found / max(1, self.found + self.extra)

    @property
    def recall(self) -> float:
        return self.found / max(1, self.found + self.missed)

    @property
    def f1(self) -> float:
        return 2 * self.found / max(1, 2 * self.found + self.extra + self.missed)


def match(truths: Sequence[Truth], found: Iterable[int]) -> Counts:
    """Each known boundary takes the earliest free one within its span and tolerance; what is left
    over is wrong, a second boundary in one transition too."""
    free = sorted(found)
    hits = 0
    for truth in sorted(truths, key=lambda one: one.end + reach(one)):
        low, high = truth.start - reach(truth), truth.end + reach(truth)
        hit = next((at for at in free if low <= at <= high), None)
        if hit is not None:
            free.remove(hit)
            hits += 1
    return Counts(hits, len(free), len(truths) - hits)


def reach(truth: Truth) -> int:
    """Frames of tolerance on either side."""
    return CUT_TOLERANCE_FRAMES if truth.start == truth.end else GRADUAL_TOLERANCE_FRAMES


def known(annotation: dict[str, object]) -> tuple[Truth, ...]:
    """Boundaries of an annotation ``{"shot_cuts": [{"frame"}], "gradual": [{"frame_start"…}]}``."""
    cuts = annotation.get("shot_cuts")
    gradual = annotation.get("gradual")
    truths = [
        Truth(one["frame"], one["frame"], "cut") for one in (cuts if isinstance(cuts, list) else [])
    ]
    truths += [
        Truth(one["frame_start"], one["frame_end"], str(one["type"]))
        for one in (gradual if isinstance(gradual, list) else [])
    ]
    return tuple(sorted(truths, key=lambda one: one.start))
