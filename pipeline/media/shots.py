"""Finding cuts in a stream of small frames, in memory that does not grow with the video."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

_Pixels = npt.NDArray[np.uint8]
#: Frames on each side whose differences are compared with that of a possible cut.
_NEIGHBOURS = 2
#: Most frames kept on each side, whatever the frame rate.
_MAX_KEPT = 16
#: In a picture that stands still (slides), a change of half the threshold is a cut, if it stands
#: out this many times from what is around it.
_STILL_RATIO = 20.0
#: A picture that differs from the one before the jump by less than this share of it came back.
_CAME_BACK = 0.5


@dataclass(frozen=True, slots=True)
class _Seen:
    pts: int
    hsv: _Pixels
    #: Difference to the frame before; 0 for the first frame.
    score: float


class CutDetector:
    """Weighted HSV frame difference against an adaptive threshold.

    A frame starts a new shot when it differs from the one before it by ``threshold`` or more and
    by ``ratio`` times the mean difference around it (so motion and shaking do not cut), and when
    the picture does not come back within ``min_shot_pts`` (so a flash does not cut). Gradual
    transitions are not found: no frame of them stands out.
    """

    def __init__(self, *, threshold: float, ratio: float, min_shot_pts: int) -> None:
        self._threshold = threshold
        self._ratio = ratio
        self._min_shot_pts = min_shot_pts
        self._past: deque[_Seen] = deque(maxlen=_MAX_KEPT)
        self._future: deque[_Seen] = deque()
        self._previous: _Pixels | None = None
        self._shot_start_pts: int | None = None

    def push(self, pts: int, frame: _Pixels) -> list[int]:
        """Take the next frame (uint8, HWC, BGR, 0-255); the PTS of cuts that became certain.

        A cut becomes certain ``min_shot_pts`` (or 16 frames) after it.
        """
        hsv = _weighted_hsv(frame)
        score = 0.0 if self._previous is None else _difference(self._previous, hsv)
        self._previous = hsv
        if self._shot_start_pts is None:
            self._shot_start_pts = pts
        self._future.append(_Seen(pts, hsv, score))
        cuts: list[int] = []
        while len(self._future) > _NEIGHBOURS and (
            len(self._future) > _MAX_KEPT or pts - self._future[0].pts >= self._min_shot_pts
        ):
            cuts += self._judge_next()
        return cuts

    def finish(self, end_pts: int) -> list[int]:
        """The video is over: the last cuts. The last shot is not shorter than others either."""
        cuts: list[int] = []
        while self._future and end_pts - self._future[0].pts >= self._min_shot_pts:
            cuts += self._judge_next()
        return cuts

    def _judge_next(self) -> list[int]:
        frame = self._future.popleft()
        is_cut = self._starts_shot(frame)
        self._past.append(frame)
        if is_cut:
            self._shot_start_pts = frame.pts
        return [frame.pts] if is_cut else []

    def _starts_shot(self, frame: _Seen) -> bool:
        if frame.score < self._threshold / 2 or not self._past or self._shot_start_pts is None:
            return False
        if frame.pts - self._shot_start_pts < self._min_shot_pts:
            return False
        around = [seen.score for seen in list(self._past)[-_NEIGHBOURS:]]
        around += [seen.score for seen in list(self._future)[:_NEIGHBOURS]]
        ratio = self._ratio if frame.score >= self._threshold else _STILL_RATIO
        if frame.score < ratio * sum(around) / len(around):
            return False
        before = self._past[-1]
        earlier = (s for s in self._past if frame.pts - s.pts <= self._min_shot_pts)
        return not (_any_near(before, self._future, frame) or _any_near(frame, earlier, frame))


def _any_near(picture: _Seen, others: Iterable[_Seen], jump: _Seen) -> bool:
    """Whether one of the others resembles ``picture``, measured by the size of the jump."""
    near = _CAME_BACK * jump.score
    return any(_difference(picture.hsv, other.hsv) < near for other in others)


def _weighted_hsv(frame: _Pixels) -> _Pixels:
    """Hue and saturation count as much as the pixel is bright and coloured: in the dark and in
    grey they are noise, and noise makes cuts of fades."""
    hue, saturation, value = cv2.split(cv2.cvtColor(frame, cv2.COLOR_BGR2HSV))
    colour = cv2.multiply(saturation, value, scale=1 / 255)
    hue = cv2.multiply(hue, colour, scale=1 / 180)
    return np.asarray(cv2.merge([hue, colour, value]), dtype=np.uint8)


def _difference(one: _Pixels, other: _Pixels) -> float:
    """Mean absolute difference over all pixels and channels."""
    return float(cv2.norm(one, other, cv2.NORM_L1)) / one.size
