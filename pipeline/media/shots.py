"""Finding cuts in a stream of small frames, in memory that does not grow with the video."""

from collections import deque
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

_HsvFrame = npt.NDArray[np.int16]
#: Frames looked at on each side of a possible cut.
_WINDOW = 2


@dataclass(frozen=True, slots=True)
class _Seen:
    pts: int
    hsv: npt.NDArray[np.uint8]
    #: Difference to the frame before; ``None`` for the first frame.
    score: float | None


class CutDetector:
    """HSV frame difference against an adaptive threshold.

    A frame starts a new shot when it differs from the one before it by ``threshold`` or more and
    by ``ratio`` times the mean difference around it (so motion and shaking do not cut), and when
    the picture does not come back at once (so a flash does not cut).
    """

    def __init__(self, *, threshold: float, ratio: float, min_shot_pts: int) -> None:
        self._threshold = threshold
        self._ratio = ratio
        self._min_shot_pts = min_shot_pts
        self._frames: deque[_Seen] = deque(maxlen=2 * _WINDOW + 1)
        self._last_cut_pts: int | None = None

    def push(self, pts: int, frame: npt.NDArray[np.uint8]) -> int | None:
        """Take the next frame (uint8, HWC, BGR); the PTS of a cut, once it is certain.

        A cut is reported ``_WINDOW`` frames after it.
        """
        hsv = cv2.cvtColor(frame, cv2.COLOR_BGR2HSV)
        score = _difference(self._frames[-1].hsv, hsv) if self._frames else None
        if self._last_cut_pts is None:
            self._last_cut_pts = pts
        self._frames.append(_Seen(pts, np.asarray(hsv, dtype=np.uint8), score))
        return self._judge(len(self._frames) - 1 - _WINDOW)
