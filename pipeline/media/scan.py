"""Scanning one range of a long video, for splitting to join. Runs in the child only."""

import zlib
from fractions import Fraction
from math import ceil
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.errors import ContractError, InvalidMediaError, ResourceExhaustedError
from pipeline.media import decoding, ffmpeg_process, packets
from pipeline.media.decoding import PipedFrame
from pipeline.media.ffmpeg_command import VideoPlan
from pipeline.media.limits import MediaLimits
from pipeline.media.progress import Progress
from pipeline.media.ranges import range_edges_ms
from pipeline.media.scan_file import SCAN_NAME, Scan, save_scan
from pipeline.media.scanner import WAITED_MS, Piece, VideoScanner
from pipeline.media.shots import ContentDetector, stretch_reach_ms
from pipeline.media.source import Source, Task, end_of_video, read_headers, running

#: Beyond what the scanner needs: a sync frame with pictures before it, the rounding of times.
_SPARE_SECONDS = 2.0


def scan(
    request: dict[str, Any],
    limits: MediaLimits,
    progress: Progress,
    *,
    startup_cpu_seconds: float,
) -> dict[str, Any]:
    """Decode one range; the fields of a :class:`~pipeline.media.results.ScanResult`.

    Raises:
        InvalidMediaError: the media crashed the decoder.
        MediaLimitError: it lasts longer, or holds more, than allowed.
    """
    cv2.setNumThreads(1)
    task = Task(request, limits, progress)
    source = read_headers(task)
    if source.video is None or task.stated_ms is None:
        raise ContractError("only videos of known length are scanned in ranges")
    edges = range_edges_ms(
        request["index"], request["count"], duration_ms=task.stated_ms, params=task.params
    )
    found = None
    if task.with_device:
        found = _try_device(task, source, source.video, edges)
    save_scan(found or _Ranged(task, source, source.video, edges).run())
    return {
        "scan": SCAN_NAME,
        "device_failure": task.device_failure,
        "notes": task.notes,
        "decoder_cpu_seconds": ffmpeg_process.decoder_cpu_seconds(),
        "startup_cpu_seconds": startup_cpu_seconds,
    }


def _try_device(
    task: Task, source: Source, plan: VideoPlan, edges: tuple[int | None, int | None]
) -> Scan | None:
    """``None``: the device cannot, or not without errors."""
    try:
        found = _Ranged(task, source, plan, edges).run()
    except (InvalidMediaError, ResourceExhaustedError) as error:
        task.give_up_device(str(error))
        return None
    if not found.frame_count or found.error_count:
        task.give_up_device(task.report.reason)
        return None
    return found


class _Ranged:
    """A scan between two edges, either of which may be missing."""

    def __init__(
        self,
        task: Task,
        source: Source,
        plan: VideoPlan,
        edges_ms: tuple[int | None, int | None],
    ) -> None:
        self._task = task
        self._source = source
        self._plan = plan
        self._edges_ms = edges_ms
        self._pieces: list[Piece] = []
        self._detector = ContentDetector(time_base=plan.time_base, params=task.params)
        self._scanner = VideoScanner(
            plan=plan,
            look=source.look,
            start=source.start,
            params=task.params,
            limits=task.limits,
            detector=self._detector,
            take=self._pieces.append,
            span=edges_ms,
        )
        #: Frames further away than this from the span have no influence on what is found in it.
        self._reach_ms = max(self._detector.reach_ms + WAITED_MS, stretch_reach_ms())
        self._seams: tuple[list[tuple[int, int]], list[tuple[int, int]]] = ([], [])
        #: First and last PTS of each seam; 0 and -1 where there is none.
        self._seam_spans = [self._seam_span(edge_ms) for edge_ms in edges_ms]
        since_ms, until_ms = edges_ms
        #: PTS of the frames that count for this range, half-open.
        self._first_pts = self._pts_of(Fraction(since_ms or 0, 1000))
        self._stop_pts = None if until_ms is None else self._pts_of(Fraction(until_ms, 1000))
        self._frame_count = 0
        #: Of the decoder, before the span: what it misses where it begins is none of the file's.
        self._early_errors = 0

    def run(self) -> Scan:
        since_ms, until_ms = self._edges_ms
        around = self._reach_ms / 1000 + _SPARE_SECONDS
        between = None
        if since_ms is not None or until_ms is not None:
            between = (
                max(0.0, (since_ms or 0) / 1000 - around),
                None if until_ms is None else until_ms / 1000 + around,
            )
        with running(
            self._task, self._source, with_video=True, with_sound=False, between=between
        ) as process:
            for frame in decoding.read_frames(process, self._plan, self._task.progress):
                self._push(frame)
        if self._scanner.frame_count:
            self._scanner.finish(self._end_of, self._source.frame_rate)
        error_count = self._task.report.error_count - self._early_errors
        return Scan(
            pieces=self._pieces,
            runs=self._scanner.runs,
            seams=(_table(self._seams[0]), _table(self._seams[1])),
            frame_count=self._frame_count,
            error_count=error_count,
            last_lines=self._task.report.last_lines if error_count else [],
        )

    def _end_of(self, last_pts: int, step: int) -> int:
        """Where the last frame that was decoded ends."""
        if self._stop_pts is not None:
            if last_pts >= self._stop_pts:
                # Nothing in the span depends on it.
                return last_pts + step
            # It may be shown until far beyond the span, or be the last one of all.
            later = packets.next_frame(self._task.limits, self._plan.stream_index, last_pts)
            if later is not None:
                return later
        return end_of_video(self._task, self._source, self._plan, last_pts, step)

    def _push(self, frame: PipedFrame) -> None:
        if isinstance(frame.picture, np.ndarray):
            pts = frame.pts
            for seam, (first, last) in zip(self._seams, self._seam_spans, strict=True):
                if pts < first:
                    # What stands before the seam, however long: only the last of them.
                    seam[:] = [(pts, 0)]
                elif pts <= last:
                    seam.append((pts, zlib.crc32(frame.picture.data)))
            if self._edges_ms[0] is not None and pts < self._first_pts:
                self._early_errors = self._task.report.error_count
            elif self._stop_pts is None or pts < self._stop_pts:
                self._frame_count += 1
        self._scanner.push(frame)

    def _seam_span(self, edge_ms: int | None) -> tuple[int, int]:
        if edge_ms is None:
            return 0, -1
        first, last = (Fraction(edge_ms + way * self._reach_ms, 1000) for way in (-1, 1))
        return self._pts_of(first) + 1, self._pts_of(last) - 1

    def _pts_of(self, seconds: Fraction) -> int:
        """The first PTS that is not before this time of the presentation."""
        return ceil((seconds + self._source.start) / self._plan.time_base)


def _table(rows: list[tuple[int, int]]) -> npt.NDArray[np.int64]:
    return np.array(rows, np.int64).reshape(-1, 2)
