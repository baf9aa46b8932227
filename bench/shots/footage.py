"""Clips as the pipeline's detectors see them: small frames with exact times."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av

from bench.shots.sources import Pixels
from pipeline.media.params import SplitParams


@dataclass(frozen=True, slots=True, kw_only=True)
class Footage:
    """``frames``: uint8 HWC BGR, of the width that splitting analyses; ``pts`` rises."""

    frames: list[Pixels]
    pts: list[int]
    time_base: Fraction

    @property
    def end_pts(self) -> int:
        step = self.pts[-1] - self.pts[-2] if len(self.pts) > 1 else 1
        return self.pts[-1] + step

    def index_of(self, seconds: float) -> int:
        """The frame nearest to a time since the first one."""
        wanted = self.pts[0] + seconds / float(self.time_base)
        return min(range(len(self.pts)), key=lambda n: abs(self.pts[n] - wanted))


def decode(path: Path) -> Footage:
    """All frames, in one thread, scaled by area averaging as ffmpeg does it when splitting."""
    width = SplitParams().analysis_width
    frames: list[Pixels] = []
    pts: list[int] = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        height = min(max(2, round(width * stream.height / stream.width)), 4 * width)
        for frame in container.decode(stream):
            if frame.pts is None or (pts and frame.pts <= pts[-1]):
                continue
            small = frame.reformat(width=width, height=height, format="bgr24", interpolation="AREA")
            frames.append(small.to_ndarray())
            pts.append(frame.pts)
        time_base = Fraction(stream.time_base or 1)
    return Footage(frames=frames, pts=pts, time_base=time_base)
