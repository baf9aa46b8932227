"""Reading what ffmpeg sends, frame by frame. Runs in the child only."""

import fcntl
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
import numpy.typing as npt
from av.error import FFmpegError

from pipeline.media.colour import Planes
from pipeline.media.ffmpeg_command import VideoPlan
from pipeline.media.ffmpeg_process import Process
from pipeline.media.progress import Progress

_PIPE_BUFFER_BYTES = 1024 * 1024
#: More frames than are on their way in ffmpeg, whose threads for the two streams do not wait for
#: each other.
_MOST_SMALL_HELD = 64
_MOST_CANDIDATES_HELD = 8


@dataclass(frozen=True, slots=True, eq=False)
class PipedFrame:
    """One frame out of the pipe; ``pts``: the stream's own.

    ``picture``: a small frame (uint8, HWC, BGR, 0-255), or a candidate for a keyframe, whose time
    is when it was shown.
    """

    pts: int
    picture: npt.NDArray[np.uint8] | Planes


def read_frames(process: Process, plan: VideoPlan, progress: Progress) -> Iterator[PipedFrame]:
    """Frames in order of time, small ones and candidates mixed; none when ffmpeg sends none.

    Every candidate comes after the small frame that was shown then, and before the next.
    """
    small: deque[PipedFrame] = deque()
    candidates: deque[PipedFrame] = deque()
    for frame in _piped_frames(process, plan, progress):
        (candidates if isinstance(frame.picture, Planes) else small).append(frame)
        yield from _in_step(small, candidates)
        if len(small) > _MOST_SMALL_HELD:
            yield small.popleft()
        if len(candidates) > _MOST_CANDIDATES_HELD:
            yield candidates.popleft()
    yield from small
    yield from candidates


def _in_step(small: deque[PipedFrame], candidates: deque[PipedFrame]) -> Iterator[PipedFrame]:
    """What is known to come next: there is a later one of the other kind."""
    while small and candidates:
        is_small_first = small[0].pts <= candidates[0].pts
        yield (small if is_small_first else candidates).popleft()


def _piped_frames(process: Process, plan: VideoPlan, progress: Progress) -> Iterator[PipedFrame]:
    """As they come. Of slides that follow each other slowly, the second may be there before the
    first one is a candidate: it is one when it is known how long it stands."""
    if process.stdout is None:
        return
    # Larger than usual, for fewer turns between the two processes; not larger if not allowed.
    with suppress(OSError, AttributeError):
        fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, _PIPE_BUFFER_BYTES)
    try:
        pipe = av.open(
            f"pipe:{process.stdout.fileno()}",
            format="nut",
            metadata_errors="replace",
            buffer_size=_PIPE_BUFFER_BYTES,
            options={"probesize": "32", "analyzeduration": "0", "fpsprobesize": "0"},
        )
    except (FFmpegError, EOFError):
        # Nothing came: the report says why.
        return
    small_width, small_height = plan.small_size
    small_bytes, offset_pts = small_width * small_height * 3, plan.pipe_offset_pts
    with pipe:
        # NUT refines a time base by a whole factor at most, so this is exact.
        per_pts = [Fraction(s.time_base or 1) / plan.time_base for s in pipe.streams]
        try:
            for packet in pipe.demux():
                if packet.pts is None or packet.size == 0:
                    continue
                is_candidate = packet.stream_index == 1
                expected = plan.candidate_bytes if is_candidate else small_bytes
                if packet.size != expected:
                    # ffmpeg was killed in the middle of a frame: its exit status says why.
                    return
                ratio = per_pts[packet.stream_index]
                pts = packet.pts * ratio.numerator // ratio.denominator - offset_pts
                progress.tick()
                samples = memoryview(packet)
                if is_candidate:
                    yield PipedFrame(pts, Planes(*plan.keyframe_size, _samples(samples, plan)))
                else:
                    pixels = np.frombuffer(samples, dtype=np.uint8)
                    yield PipedFrame(pts, pixels.reshape(small_height, small_width, 3))
        except (FFmpegError, EOFError):
            # Likewise, in the middle of a header.
            return


def _samples(data: memoryview, plan: VideoPlan) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint16]:
    if plan.is_deep:
        return np.frombuffer(data, dtype=np.uint16)
    return np.frombuffer(data, dtype=np.uint8)
