"""Running ffmpeg and reading what it sends, frame by frame. Runs in the child only."""

import re
import resource
import subprocess
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction

import av
import numpy as np
import numpy.typing as npt
from av.error import FFmpegError

from pipeline.errors import InvalidMediaError, ResourceExhaustedError
from pipeline.media.confine import die_with_parent
from pipeline.media.ffmpeg_command import VideoPlan
from pipeline.media.messages import useful_line

Process = subprocess.Popen[bytes]

_KEPT_LINES = 40
_LINE_BYTES = 1024
_PIPE_BUFFER_BYTES = 1024 * 1024
_EXHAUSTED = re.compile(r"Cannot allocate memory|No space left on device|File too large")


@dataclass(slots=True)
class Report:
    """What ffmpeg had to say; complete once it ended."""

    error_count: int = 0
    last_lines: deque[str] = field(default_factory=lambda: deque(maxlen=_KEPT_LINES))

    @property
    def reason(self) -> str:
        """The most useful line, for the inside of a sentence."""
        return useful_line(self.last_lines) or "ffmpeg gave no reason"


@dataclass(frozen=True, slots=True, eq=False)
class PipedFrame:
    """One frame out of the pipe. ``pixels``: uint8, HWC, BGR, 0-255; ``pts``: the stream's own."""

    pts: int
    is_candidate: bool
    pixels: npt.NDArray[np.uint8]


@contextmanager
def running(command: list[str], report: Report) -> Iterator[Process]:
    """ffmpeg for the time of the block; its standard error fills the report.

    Raises:
        ResourceExhaustedError: it was killed for CPU time, or ran out of memory or disk.
        InvalidMediaError: it crashed.
    """
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=die_with_parent,  # noqa: PLW1509 - this process has one thread here
    ) as process:
        listener = threading.Thread(target=_listen, args=(process, report), daemon=True)
        listener.start()
        try:
            yield process
            if process.stdout is not None:
                # What nobody reads any more must not keep it waiting.
                process.stdout.close()
            code = process.wait()
        finally:
            process.kill()
            listener.join()
    if code < 0:
        if code in {-9, -24, -25}:
            raise ResourceExhaustedError(
                f"decoding was stopped (signal {-code}): it needed more CPU time or disk than "
                "its limits allow"
            )
        raise InvalidMediaError(f"the media crashed ffmpeg (signal {-code}): {report.reason}")
    if code > 0 and any(_EXHAUSTED.search(line) for line in report.last_lines):
        raise ResourceExhaustedError(f"ffmpeg ran out of memory or disk: {report.reason}")


def _listen(process: Process, report: Report) -> None:
    stderr = process.stderr
    while stderr is not None and (line := stderr.readline(_LINE_BYTES)):
        report.error_count += 1
        report.last_lines.append(line.decode("utf-8", "replace").strip())


def read_frames(process: Process, plan: VideoPlan) -> Iterator[PipedFrame]:
    """Frames in order of time, small ones and candidates mixed; none when ffmpeg sends none."""
    if process.stdout is None:
        return
    try:
        pipe = av.open(
            f"pipe:{process.stdout.fileno()}",
            format="nut",
            buffer_size=_PIPE_BUFFER_BYTES,
            options={"probesize": "32", "analyzeduration": "0", "fpsprobesize": "0"},
        )
    except (FFmpegError, EOFError):
        # Nothing came: the report says why.
        return
    only_candidates = plan.only_candidates_every_ms is not None
    with pipe:
        # NUT refines a time base by a whole factor at most, so this is exact.
        per_pts = [Fraction(s.time_base or 1) / plan.time_base for s in pipe.streams]
        try:
            for packet in pipe.demux():
                if packet.pts is None or packet.size == 0:
                    continue
                is_candidate = only_candidates or packet.stream_index == 1
                width, height = plan.keyframe_size if is_candidate else plan.small_size
                if packet.size != height * width * 3:
                    # ffmpeg was killed in the middle of a frame: its exit status says why.
                    return
                pixels = np.frombuffer(memoryview(packet), dtype=np.uint8).reshape(height, width, 3)
                ratio = per_pts[packet.stream_index]
                pts = packet.pts * ratio.numerator // ratio.denominator - plan.pipe_offset_pts
                yield PipedFrame(pts, is_candidate, pixels)
        except (FFmpegError, EOFError):
            # Likewise, in the middle of a header.
            return


def decoder_cpu_seconds() -> float:
    """CPU time of the ffmpegs that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
