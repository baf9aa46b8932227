"""Gradual transitions: a change that is straight, while what is around it stands or wanders.

In a dissolve or a wipe every part of the picture goes from its old colour to its new one and not
back, so the net change between the ends is nearly the whole way travelled. Under motion colours
come and go. This is tested at several lengths; a transition is found at the one that fits it.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.media.shots.cuts import OTHER_PICTURE, STILL_RATIO, CutRules, come_back
from pipeline.media.shots.grids import (
    Floats,
    Ints,
    difference,
    difference_but_light,
    highest,
    mean_difference,
    paired_likeness,
)
from pipeline.media.shots.window import Window

#: Lengths looked for, shortest to longest; each is 1.7 times the one before.
LENGTHS_MS = (200, 336, 566, 950, 1600)
#: The surroundings are measured over little more than half the length: one step down.
_HALF = 1
#: The change between the ends is so many times that of the surroundings, and the threshold more.
_RATIO = 2.5
#: Least share of the way travelled that is net change; 1 for a perfect dissolve or wipe.
_STRAIGHT = 0.75
#: Or: most mean distance of what is between from a mixture of the ends, per net change. The way
#: of two moving pictures that dissolve is not straight, but leads through mixtures.
_UNMIXED = 0.25
#: Or: most mean distance of the cells between from what they are at the one end or the other, per
#: net change. Of a wipe between moving pictures either side moves on meanwhile.
_UNWIPED = 0.15
#: With less than this share of net change it is motion all the same.
_WANDERING = 0.35
#: Between two stills that are alike, what light does not explain is so many times the threshold.
_NO_LIGHT = 2.0
#: A transition takes at least so many steps: two are a cut between two fields.
_STEPS = 4
#: A single step of more than this share of the change is a cut.
_ONE_STEP = 0.5
#: The transition proper: from this share of the mixture to the rest.
_MARGIN = 0.06


@dataclass(frozen=True, slots=True)
class Gradual:
    """Indexes into a window: the first mixed frame, the one nearest to the middle, the first of
    the new shot alone."""

    start: int
    middle: int
    end: int
    score: float


@dataclass(frozen=True, slots=True, eq=False)
class _Candidates:
    """Entry ``n`` goes from frame ``start[n]`` to ``end[n]``; ``rank``: of its length."""

    rank: Ints
    start: Ints
    end: Ints
    strength: Floats

    def __getitem__(self, which: npt.NDArray[Any]) -> "_Candidates":
        return _Candidates(
            self.rank[which], self.start[which], self.end[which], self.strength[which]
        )


def find_gradual(
    window: Window,
    is_closed: npt.NDArray[np.bool_],
    lengths: tuple[int, ...],
    rules: CutRules,
) -> list[Gradual]:
    """Transitions that hold no closed frame; of those that overlap the best. ``lengths``: rising,
    in PTS."""
    candidates = _candidates(window, is_closed, lengths, rules)
    best = candidates[_is_best(window, candidates, lengths)]
    change = difference(window.grids[best.start], window.grids[best.end])
    is_back = come_back(window, best.start, best.end, change, rules.interruption)
    return [
        _proper(window, int(best.start[n]), int(best.end[n]), float(change[n]))
        for n in np.flatnonzero(~is_back)
    ]


def _candidates(
    window: Window, is_closed: npt.NDArray[np.bool_], lengths: tuple[int, ...], rules: CutRules
) -> _Candidates:
    grids, pts = window.halves, window.pts
    way = np.zeros(len(window))
    way[1:] = mean_difference(grids[1:], grids[:-1])
    # In integers, so that sums do not depend on where the window begins.
    travelled = np.cumsum(np.rint(way * 65_536).astype(np.int64)) / 65_536
    marks = np.cumsum(is_closed)
    index = np.arange(len(window))
    # The last closed frame up to each, and the last frame before the next one.
    opened = np.maximum.accumulate(np.where(is_closed, index, 0))
    nearest = np.minimum.accumulate(np.where(is_closed, index, len(window))[::-1])[::-1]
    closes = np.maximum(np.append(nearest[1:], len(window)) - 1, index)
    ends = [window.first_from(pts + length) for length in lengths]
    changes = [difference(grids, grids[end]) for end in ends]
    clear = []
    for rank, (length, end, change) in enumerate(zip(lengths, ends, changes, strict=True)):
        start = np.flatnonzero((change >= rules.threshold) & (marks[end] == marks) & ~is_closed)
        stop = end[start]
        is_long = (pts[stop] - pts[start] >= length) & (stop - start >= _STEPS)
        start, stop = start[is_long], stop[is_long]
        half = lengths[max(0, rank - _HALF)]
        # What lies beyond a cut or a fade is another picture, and tells nothing of this one.
        since = np.maximum(np.searchsorted(pts, pts[start] - half), opened[start])
        until = np.minimum(window.first_from(pts[stop] + half), closes[stop])
        before, after = pts[start] - pts[since], pts[until] - pts[stop]
        around = np.maximum(
            difference(grids[since], grids[start]) * _times_longer(half, before),
            difference(grids[stop], grids[until]) * _times_longer(half, after),
        )
        is_clear = change[start] >= rules.threshold + _RATIO * around
        start, stop = start[is_clear], stop[is_clear]
        strength = change[start] / (1 + around[is_clear])
        clear.append(_Candidates(np.full(len(start), rank), start, stop, strength))
    found = _Candidates(
        rank=np.concatenate([one.rank for one in clear]),
        start=np.concatenate([one.start for one in clear]),
        end=np.concatenate([one.end for one in clear]),
        strength=np.concatenate([one.strength for one in clear]),
    )
    found = found[_is_other(window, found, rules)]
    net = mean_difference(grids[found.start], grids[found.end])
    is_smooth = highest(way, found.start + 1, found.end + 1) <= _ONE_STEP * net
    found, net = found[is_smooth], net[is_smooth]
    straight = net / (travelled[found.end] - travelled[found.start])
    passes = straight >= _STRAIGHT
    doubtful = np.flatnonzero(~passes & (straight >= _WANDERING))
    unmixed, unwiped = _strangeness(window, found[doubtful])
    passes[doubtful] = (unmixed <= _UNMIXED * net[doubtful]) | (unwiped <= _UNWIPED * net[doubtful])
    return replace(found, strength=found.strength * straight)[passes]


def _times_longer(wanted: int, seen: Ints) -> Floats:
    """By what to multiply the motion of a shorter time."""
    return np.asarray(wanted / np.clip(seen, 1, wanted), np.float64)


def _is_other(window: Window, candidates: _Candidates, rules: CutRules) -> npt.NDArray[np.bool_]:
    """Whether the ends are two pictures: unlike each other, or standing still on both sides and
    different by more than light."""
    one, other = window.halves[candidates.start], window.halves[candidates.end]
    is_other = paired_likeness(one, other) <= OTHER_PICTURE
    alike = np.flatnonzero(~is_other)
    changes = difference_but_light(one[alike], other[alike])
    before, after = candidates.start[alike], candidates.end[alike]
    pts = window.pts
    unrest = np.maximum(
        highest(window.steps, np.searchsorted(pts, pts[before] - rules.still), before + 1),
        highest(window.steps, after + 1, np.searchsorted(pts, pts[after] + rules.still)),
    )
    is_other[alike] = changes >= _NO_LIGHT * rules.threshold + STILL_RATIO * unrest
    return is_other


def _strangeness(window: Window, candidates: _Candidates) -> tuple[Floats, Floats]:
    """Mean distances of three frames between: from the mixture of the ends that would stand there,
    and of their cells from the nearer end."""
    start, stop = candidates.start, candidates.end
    unmixed, unwiped = np.zeros(len(start)), np.zeros(len(start))
    if len(start) == 0:
        return unmixed, unwiped
    one = window.halves[start].astype(np.float32)
    other = window.halves[stop].astype(np.float32)
    span = window.pts[stop] - window.pts[start]
    for quarter in (1, 2, 3):
        at = window.first_from(window.pts[start] + span * quarter // 4)
        seen = window.halves[at]
        share = ((window.pts[at] - window.pts[start]) / span)[:, None].astype(np.float32)
        unmixed += np.abs(seen - (one + (other - one) * share)).mean(axis=1) / 3
        unwiped += np.minimum(_by_cell(seen - one), _by_cell(seen - other)).mean(axis=1) / 3
    return unmixed, unwiped


def _by_cell(differences: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Mean absolute difference of the three colours of each cell."""
    rows, columns = differences.shape
    cells = np.abs(differences).reshape(rows, columns // 3, 3)
    return np.asarray(cells.mean(axis=2), np.float32)


def _is_best(
    window: Window, candidates: _Candidates, lengths: tuple[int, ...]
) -> npt.NDArray[np.bool_]:
    """Which are beaten by none of those they overlap; of equals the shortest and then the earliest
    stands."""
    mine = candidates
    stands = np.ones(len(mine.start), np.bool_)
    for rank in np.unique(mine.rank):
        rivals = np.zeros(len(window))
        rivals[mine.start[mine.rank == rank]] = mine.strength[mine.rank == rank]
        low = np.searchsorted(window.pts, window.pts[mine.start] - lengths[rank])
        earlier = highest(rivals, low, mine.start)
        later = highest(rivals, mine.start + 1, mine.end)
        beside = np.where(mine.rank == rank, 0.0, rivals[mine.start])
        is_first = mine.rank < rank
        rival = np.maximum(later, beside)
        stands &= (earlier < mine.strength) | (is_first & (earlier <= mine.strength))
        stands &= (rival < mine.strength) | ((mine.rank <= rank) & (rival <= mine.strength))
    return stands


def _proper(window: Window, start: int, end: int, change: float) -> Gradual:
    """Where in ``[start, end]`` the mixture begins, is half, and ends."""
    grids = window.halves[start : end + 1].astype(np.float32)
    way = grids[-1] - grids[0]
    share = (grids - grids[0]) @ way / np.square(way).sum()
    first = int(np.argmax(share > _MARGIN))
    last = len(share) - 1 - int(np.argmax(share[::-1] < 1 - _MARGIN)) + 1
    last = min(max(last, first + 1), len(share) - 1)
    middle = first + int(np.argmin(np.abs(share[first : last + 1] - 0.5)))
    return Gradual(start + first, start + middle, start + last, change)
