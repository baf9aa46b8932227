"""From small frames to windows of grids."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.errors import ContractError
from pipeline.media.shots.grids import Floats, Grids, Ints, contrast, difference, halved

Pixels = npt.NDArray[np.uint8]

_UINT8 = np.dtype(np.uint8)
_CELLS_ACROSS = 16
#: Frames reduced at once: calls from Python cost more than the work in them.
FRAMES_AT_ONCE = 32


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """Consecutive frames of a video: their PTS (rising), and what is known of each.

    ``halves``: grids of half as many cells across and down, where motion counts even less.
    ``steps``: the :func:`difference` of each grid to the one before it, 0 for the first.
    ``contrasts``: standard deviation of each half grid around its mean colour.
    """

    pts: Ints
    grids: Grids
    halves: Grids
    steps: Floats
    contrasts: Floats

    def __len__(self) -> int:
        return len(self.pts)

    @classmethod
    def of(cls, pts: list[int], grids: Grids, rows: int, before: Grids | None) -> "Window":
        """Of new frames. ``rows``: cells from top to bottom; ``before``: the last grid before
        them, ``(1, cells * 3)``."""
        halves = halved(grids, rows)
        joined = np.concatenate([grids[:1] if before is None else before, grids])
        return cls(
            pts=np.array(pts, np.int64),
            grids=grids,
            halves=halves,
            steps=difference(joined[1:], joined[:-1]),
            contrasts=contrast(halves),
        )

    @classmethod
    def joined(cls, parts: Sequence["Window"]) -> "Window":
        """Consecutive ones as one."""
        return cls(
            pts=np.concatenate([part.pts for part in parts]),
            grids=np.concatenate([part.grids for part in parts]),
            halves=np.concatenate([part.halves for part in parts]),
            steps=np.concatenate([part.steps for part in parts]),
            contrasts=np.concatenate([part.contrasts for part in parts]),
        )

    def without(self, count: int) -> "Window":
        """All but the first ``count`` frames."""
        return Window(
            pts=self.pts[count:],
            grids=self.grids[count:],
            halves=self.halves[count:],
            steps=self.steps[count:],
            contrasts=self.contrasts[count:],
        )

    def first_from(self, pts: Ints) -> Ints:
        """Index of the first frame at or after each PTS; the last frame where there is none."""
        return np.minimum(np.searchsorted(self.pts, pts), len(self.pts) - 1)


class GridMaker:
    """Collects frames and turns them into grids, many at once."""

    def __init__(self) -> None:
        self._frames: list[Pixels] = []
        self._shape: tuple[int, ...] = ()

    @property
    def rows(self) -> int:
        """Cells of a grid from top to bottom."""
        height, width, _ = self._shape
        return height // _cell(height, width)[0]

    def add(self, frame: Pixels) -> Grids | None:
        """Take a frame (uint8, HWC, BGR), and keep it for a while: it must not be changed. Gives
        grids of all taken since the last, now and then.

        Raises:
            ContractError: the frame is of another kind or shape than the first one.
        """
        if frame.shape != self._shape or frame.dtype != _UINT8:
            self._check(frame)
        self._frames.append(frame)
        return self.flush() if len(self._frames) == FRAMES_AT_ONCE else None

    def flush(self) -> Grids:
        """Grids of what is left."""
        if not self._frames:
            return np.zeros((0, 3), np.uint8)
        count = len(self._frames)
        height, width, _ = self._shape
        high, wide = _cell(height, width)
        # One tall picture: cells never reach over the border of a frame.
        tall = np.concatenate(self._frames)
        self._frames = []
        rows, columns = height - height % high, width - width % wide
        if (rows, columns) != (height, width):
            # What does not fill a cell at the borders is left out.
            whole = tall.reshape(count, height, width, 3)[:, :rows, :columns]
            tall = whole.reshape(count * rows, columns, 3)
        while high % 2 == 0 and wide % 2 == 0:
            # Twice a half is three times as fast as once a quarter.
            high, wide = high // 2, wide // 2
            tall = _shrunk(tall, 2, 2)
        if (high, wide) != (1, 1):
            tall = _shrunk(tall, high, wide)
        return tall.reshape(count, -1)

    def _check(self, frame: Pixels) -> None:
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or frame.size == 0:
            raise ContractError(f"expected HWC uint8 BGR, got {frame.shape=} {frame.dtype=}")
        if self._shape:
            raise ContractError(
                f"expected frames of {self._shape} like the first, got {frame.shape}"
            )
        self._shape = frame.shape


def _cell(height: int, width: int) -> tuple[int, int]:
    """Height and width of a cell in pixels."""
    side = max(1, width // _CELLS_ACROSS)
    return min(side, height), side


def _shrunk(picture: Pixels, high: int, wide: int) -> Pixels:
    size = (picture.shape[1] // wide, picture.shape[0] // high)
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
