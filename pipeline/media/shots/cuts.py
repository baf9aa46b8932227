"""Hard cuts: from one frame to the next, another picture, and it stays."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.media.shots.grids import (
    Floats,
    Ints,
    difference,
    difference_but_light,
    highest,
    paired_likeness,
)
from pipeline.media.shots.window import Window

#: A picture whose likeness to another is at most this is another one.
OTHER_PICTURE = 0.55
#: At least this alike, two frames show the same picture, if in another light.
SAME_PICTURE = 0.75
#: In a picture that stands still (slides), a change of this share of the threshold is a
#: cut, if it is so many times what else moves, and more than a change of light.
_STILL_SHARE = 0.125
STILL_RATIO = 8.0
#: A picture is back where less than this share of the change is left.
_GONE = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class CutRules:
    """Times in PTS; thresholds as in the parameters of splitting."""

    threshold: float
    ratio: float
    #: Of two changes nearer than this, the weaker one is no cut.
    around: int
    #: A picture that is back after this long was interrupted (flash, lightning), not left.
    interruption: int
    #: A picture that does not move for so long before and after a change stands still.
    still: int


def find_cuts(window: Window, is_taken: npt.NDArray[np.bool_], rules: CutRules) -> list[int]:
    """Indexes of the first frames of new shots.

    A cut is the strongest step around it, clearly above what else moves there, after which the
    picture is another one. Steps from and to frames that are taken (by fades) are not looked at.
    """
    steps = window.steps
    index = np.arange(len(window))
    low, high = _around(window, index, rules.around, 2 * rules.still)
    is_peak = (highest(steps, low, index) < steps) & (highest(steps, index + 1, high) <= steps)
    peaks = np.flatnonzero(is_peak & (steps >= _STILL_SHARE * rules.threshold))
    peaks = peaks[peaks > 0]
    peaks = peaks[~(is_taken[peaks] | is_taken[peaks - 1])]
    before, after = _motion(steps, peaks, low[peaks], high[peaks])
    unrest = np.maximum(
        *_motion(steps, peaks, *_around(window, peaks, rules.still, 2 * rules.still))
    )
    is_other = steps[peaks] >= rules.threshold + rules.ratio * np.minimum(before, after)
    for place in np.flatnonzero(is_other):
        # One other strong step is another cut, or a flash; two are motion.
        at = peaks[place]
        others = np.concatenate([steps[low[at] : at - 1], steps[at + 2 : high[at]]])
        second = np.partition(others, -2)[-2] if len(others) > 1 else 0.0
        is_other[place] = steps[at] >= rules.threshold + rules.ratio * second
    clear = peaks[is_other]
    is_other[is_other] = (
        paired_likeness(window.grids[clear - 1], window.grids[clear]) <= OTHER_PICTURE
    )
    still_threshold = _STILL_SHARE * rules.threshold + STILL_RATIO * unrest
    is_slide = ~is_other & (steps[peaks] >= still_threshold)
    is_slide[is_slide] = _is_no_light(window, peaks[is_slide], still_threshold[is_slide])
    found = peaks[is_other | is_slide]
    is_back = come_back(window, found - 1, found, steps[found], rules.interruption)
    return [int(at) for at in found[~is_back]]


def _is_no_light(window: Window, at: Ints, thresholds: Floats) -> npt.NDArray[np.bool_]:
    before, after = window.grids[at - 1], window.grids[at]
    is_same = paired_likeness(before, after) >= SAME_PICTURE
    return ~is_same | (difference_but_light(before, after) >= thresholds)


def come_back(
    window: Window, last: Ints, first: Ints, change: Floats, interruption: int
) -> npt.NDArray[np.bool_]:
    """Of each change from frame ``last`` to frame ``first``: whether the old picture is seen again
    soon after it, or the new one was seen shortly before."""
    pts = window.pts
    until = np.searchsorted(pts, pts[first] + interruption, side="right")
    since = np.searchsorted(pts, pts[last] - interruption)
    # What stands for longer does not interrupt.
    since = np.where(pts[last + 1] - pts[last] > interruption, last, since)
    owners, seen = _flattened(np.append(first + 1, since), np.append(until, last))
    pictures = np.append(last, first)[owners]
    owners %= len(last)
    left = difference(window.grids[pictures], window.grids[seen])
    alike = paired_likeness(window.halves[pictures], window.halves[seen])
    is_other = paired_likeness(window.halves[last], window.halves[first]) <= OTHER_PICTURE
    is_back = (left < _GONE * change[owners]) | (is_other[owners] & (alike >= SAME_PICTURE))
    found = np.zeros(len(last), np.bool_)
    found[owners[is_back]] = True
    return found


def _flattened(low: Ints, high: Ints) -> tuple[Ints, Ints]:
    """Of each ``[low, high)``: its own number, and all in it."""
    counts = np.maximum(high - low, 0)
    owners = np.repeat(np.arange(len(low)), counts)
    begins = np.cumsum(counts) - counts
    return owners, np.arange(len(owners)) - begins[owners] + low[owners]


def _around(window: Window, index: Ints, reach: int, sparse: int) -> tuple[Ints, Ints]:
    """``[low, high)`` of frames within the reach, and at least two on each side that are nearer
    than ``sparse``: slides that follow each other slowly are no motion."""
    pts = window.pts
    low = np.minimum(np.searchsorted(pts, pts[index] - reach), index - 2)
    high = np.maximum(np.searchsorted(pts, pts[index] + reach, side="right"), index + 3)
    return (
        np.maximum(low, np.searchsorted(pts, pts[index] - sparse, side="right")),
        np.minimum(high, np.searchsorted(pts, pts[index] + sparse)),
    )


def _motion(steps: Floats, at: Ints, low: Ints, high: Ints) -> tuple[Floats, Floats]:
    """The strongest steps before and after, but for the neighbours: encoders and interlacing blend
    a cut over two steps."""
    after = highest(steps, np.minimum(at + 2, high), high)
    return highest(steps, low, at - 1), after
