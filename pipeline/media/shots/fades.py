"""Shots that meet in an empty picture: fades through black and white, and gaps between shots."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from pipeline.media.shots.grids import difference, likeness
from pipeline.media.shots.window import Window

#: A frame is flat up to this contrast (standard deviation of its grid).
FLAT = 4.0
#: Beside a flat stretch a picture of at least this contrast must stand, or it is only dark.
_PICTURE = 10.0
#: The frame beside a flat stretch has at most this share of the contrast of the picture: a fade.
_FADING = 0.6
#: The picture is the nearest frame of this share of the highest contrast near the stretch.
_WHOLE = 0.8
#: At least this alike, the pictures before and after are one, though the camera moved meanwhile.
_SAME = 0.6


@dataclass(frozen=True, slots=True)
class Fade:
    """Indexes into a window, like :class:`pipeline.media.shots.gradual.Gradual`."""

    start: int
    middle: int
    end: int
    kind: Literal["cut", "fade"]
    score: float


def find_fades(
    window: Window, *, look: int, longest: int
) -> tuple[list[Fade], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """A boundary for each flat stretch before a picture; which frames are thus taken; and which
    are fading, before or after any flat stretch.

    Up to ``longest`` (PTS), the stretch is a transition between two pictures: its boundary is in
    its middle, or where the new picture begins if neither side fades. If both pictures, looked for
    within ``look`` (PTS), are the same one, it was only interrupted, by a flash for example. A
    longer stretch belongs to the shot before it, and a shot begins where a picture comes back.
    """
    found: list[Fade] = []
    is_taken = np.zeros(len(window), np.bool_)
    is_fading = np.zeros(len(window), np.bool_)
    for first, end in runs(window.contrasts <= FLAT):
        old = _picture(window, first, -look)
        new = _picture(window, end - 1, look)
        is_fading[_begin(window, first, old) : first] = True
        is_fading[end : _end(window, end - 1, new)] = True
        if _lasts(window, first, end) > longest:
            is_taken[first:end] = True
            if new is not None:
                found.append(_out_of(window, end - 1, new))
            elif end < len(window):
                # Out of the dark into something dim: an ordinary cut, if any.
                is_taken[end - 1] = False
        elif end == len(window):
            is_taken[first:end] = True
        elif old is not None and new is not None:
            is_taken[first:end] = True
            if likeness(window.halves[old], window.halves[[new]])[0] <= _SAME:
                found.append(_through(window, (old, first, end, new)))
    return found, is_taken, is_fading


def runs(flags: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """``[first, end)`` of the stretches where the flag is set."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(int(first), int(end)) for first, end in edges.reshape(-1, 2)]


def _lasts(window: Window, first: int, end: int) -> int:
    """From its first frame to the frame after it, in PTS."""
    return int(window.pts[min(end, len(window) - 1)] - window.pts[first])


def _picture(window: Window, beside: int, look: int) -> int | None:
    """The whole picture within ``look`` of a frame; before it if that is negative."""
    low, high = sorted((window.pts[beside], window.pts[beside] + look))
    first = int(np.searchsorted(window.pts, low))
    last = int(np.searchsorted(window.pts, high, side="right"))
    near = window.contrasts[first:last]
    if near.max() < _PICTURE:
        return None
    whole = first + np.flatnonzero(near >= _WHOLE * near.max())
    return int(whole[-1] if look < 0 else whole[0])


def _begin(window: Window, first: int, old: int | None) -> int:
    """Where the picture begins to fade, if it does, into the flat frame ``first``."""
    if old is None or window.contrasts[first - 1] > _FADING * window.contrasts[old]:
        return first
    pts = window.pts
    # As fast as from what is left of the picture to the flat frame.
    return int(np.searchsorted(pts, pts[first] - (pts[first] - pts[old]) / _WHOLE, side="right"))


def _end(window: Window, last: int, new: int | None) -> int:
    """Where the picture has come out, if it does so slowly, of the flat frame ``last``."""
    if new is None or window.contrasts[last + 1] > _FADING * window.contrasts[new]:
        return last + 1
    pts = window.pts
    end = int(np.searchsorted(pts, pts[last] + (pts[new] - pts[last]) / _WHOLE))
    return min(end, len(window) - 1)


def _out_of(window: Window, last: int, new: int) -> Fade:
    begin, end = last + 1, _end(window, last, new)
    kind: Literal["cut", "fade"] = "cut" if begin == end else "fade"
    return Fade(begin, begin, end, kind, _change(window, last, new))


def _through(window: Window, places: tuple[int, int, int, int]) -> Fade:
    old, first, end, new = places
    score = max(_change(window, old, first), _change(window, end - 1, new))
    begin, over = _begin(window, first, old), _end(window, end - 1, new)
    if (begin, over) == (first, end):
        return Fade(end, end, end, "cut", score)
    wanted = (window.pts[first] + window.pts[end - 1]) // 2
    return Fade(begin, int(np.searchsorted(window.pts, wanted)), over, "fade", score)


def _change(window: Window, one: int, other: int) -> float:
    return float(difference(window.grids[one][None], window.grids[other][None])[0])
