"""Splitting a file with streams into shots, keyframes, sound and cues. Runs in the child only."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from av.container import InputContainer
from av.video.stream import VideoStream

from pipeline.errors import InvalidMediaError, UnsupportedMediaError
from pipeline.media import decoding, ffmpeg_command
from pipeline.media.containers import (
    Orientation,
    audio_streams,
    open_container,
    orientations,
    preferred,
    start_seconds,
    text_subtitle_streams,
    video_streams,
)
from pipeline.media.ffmpeg_command import AUDIO_NAME, VideoPlan
from pipeline.media.limits import MediaLimits
from pipeline.media.params import AUDIO_RATE_HZ, SplitParams
from pipeline.media.video import VideoSplitter, plan_video

#: A file whose decoder reports errors and that holds less than this share of its stated duration
#: is cut off. With more, or without errors, it is used as far as it goes, with a note.
_ENOUGH = 0.95
#: The header's duration stands if what was decoded is longer by at most this (a codec's padding) …
_LONGER_MS = 100
#: … or shorter by at most this (a last subtitle).
_SHORTER_MS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """What is taken from the container, and its clock."""

    start: Fraction
    video: VideoPlan | None
    turn: Orientation
    video_end_pts: int | None
    frame_rate: float | None
    audio_index: int | None
    #: Stream index → language.
    subtitles: dict[int, str | None]


class _Splitting:
    """One split: its parameters, and what is found on the way."""

    def __init__(self, request: dict[str, Any], limits: MediaLimits) -> None:
        self.limits = limits
        self.params = SplitParams(**request["params"])
        self.ffmpeg: str = request["ffmpeg"]
        self.wants_video: bool = request["kind"] == "video"
        self.stated_ms: int | None = request["duration_ms"]
        self.report = decoding.Report()
        self.notes: list[str] = []


def split(
    request: dict[str, Any], limits: MediaLimits, *, startup_cpu_seconds: float
) -> dict[str, Any]:
    """Decode once; the fields of a :class:`~pipeline.media.results.SplitResult`.

    Raises:
        InvalidMediaError: nothing can be decoded, or the file is cut off.
        MediaLimitError: it lasts longer than allowed.
    """
    job = _Splitting(request, limits)
    source = _read_headers(job)
    splitter = _decode(job, source)
    audio_ms = _audio_ms()
    if source.audio_index is not None and not audio_ms:
        job.notes.append(f"the sound cannot be decoded: {job.report.reason}")
    if splitter is None and not audio_ms:
        raise InvalidMediaError(f"no sound of the file can be decoded: {job.report.reason}")
    measured_ms = max(audio_ms, 0 if splitter is None else splitter.end_ms)
    end_ms = _end_ms(job, measured_ms)
    shots: list[dict[str, Any]] = [{"shot_index": 0, "start_ms": 0, "end_ms": end_ms}]
    keyframes: list[dict[str, Any]] = []
    if splitter is not None:
        shots, keyframes = splitter.records(end_ms)
        if len(keyframes) < len(shots):
            job.notes.append(f"{len(shots) - len(keyframes)} shots have no keyframe")
    before = time.process_time()
    cues = []
    if source.subtitles or request["sidecars"]:
        from pipeline.media.subtitles import collect_cues

        startup_cpu_seconds += time.process_time() - before
        cues = collect_cues(source.subtitles, source.start, request["sidecars"], limits, job.notes)
    return {
        "shots": shots,
        "keyframes": keyframes,
        "audio": AUDIO_NAME if audio_ms else None,
        "cues": cues,
        "notes": job.notes,
        "decoder_cpu_seconds": decoding.decoder_cpu_seconds(),
        "startup_cpu_seconds": startup_cpu_seconds,
    }


def _read_headers(job: _Splitting) -> _Source:
    with open_container(job.limits) as container:
        start = start_seconds(container)
        picture = preferred(video_streams(container)) if job.wants_video else None
        sound = preferred(audio_streams(container))
        if picture is None and sound is None:
            raise UnsupportedMediaError("the file holds no video or sound that can be decoded")
        end_pts = None
        if picture is not None and picture.duration and picture.start_time is not None:
            end_pts = picture.start_time + picture.duration
        return _Source(
            start=start,
            video=None if picture is None else plan_video(picture, start, job.params),
            video_end_pts=end_pts,
            frame_rate=None if picture is None else float(picture.average_rate or 25),
            audio_index=None if sound is None else sound.index,
            subtitles=text_subtitle_streams(container, job.notes),
            turn=_orientation(container, picture),
        )


def _orientation(container: InputContainer, picture: VideoStream | None) -> Orientation:
    return Orientation() if picture is None else orientations(container, [picture])[picture.index]


def _decode(job: _Splitting, source: _Source) -> VideoSplitter | None:
    """Run ffmpeg. The splitter has seen all frames; ``None`` for sound only."""
    if source.video is None:
        with _running(job, source, source.video, everything=True):
            return None
    splitter = _split_video(job, source, source.video, everything=True)
    if splitter.frame_count == 0 and (source.audio_index is not None or source.subtitles):
        # A stream that ffmpeg refuses to open takes the picture down with it: try without.
        splitter = _split_video(job, source, source.video, everything=False)
    if splitter.frame_count == 0:
        raise InvalidMediaError(f"no frame of the video can be decoded: {job.report.reason}")
    splitter.finish(source.video_end_pts, source.frame_rate)
    again = splitter.plan_for_missing()
    if again is not None:
        with _running(job, source, again, everything=False) as process:
            splitter.fill_missing(decoding.read_frames(process, again))
    return splitter


def _split_video(
    job: _Splitting, source: _Source, plan: VideoPlan, *, everything: bool
) -> VideoSplitter:
    splitter = VideoSplitter(plan, source.start, source.turn, job.params, job.limits)
    with _running(job, source, plan, everything=everything) as process:
        for frame in decoding.read_frames(process, plan):
            splitter.push(frame)
    return splitter


@contextmanager
def _running(
    job: _Splitting, source: _Source, plan: VideoPlan | None, *, everything: bool
) -> Iterator[decoding.Process]:
    command = ffmpeg_command.build_command(
        job.ffmpeg,
        start=source.start,
        video=plan,
        audio_index=source.audio_index if everything else None,
        subtitle_indexes=list(source.subtitles) if everything else [],
        params=job.params,
        limits=job.limits,
    )
    with decoding.running(command, job.report) as process:
        yield process


def _audio_ms() -> int:
    """Length of the FLAC that was written, from its own header; 0 where there is none."""
    path = Path(AUDIO_NAME)
    if not path.exists():
        return 0
    with path.open("rb") as file:
        header = file.read(26)
    # STREAMINFO begins at byte 8; the last 36 of these bits are the number of samples.
    samples = int.from_bytes(header[18:26], "big") & (2**36 - 1)
    return samples * 1000 // AUDIO_RATE_HZ


def _end_ms(job: _Splitting, measured_ms: int) -> int:
    """The end of the presentation: as the header states it, unless decoding says otherwise.

    Raises:
        InvalidMediaError: the file is cut off.
    """
    report, stated_ms = job.report, job.stated_ms
    is_short = stated_ms is not None and measured_ms < _ENOUGH * stated_ms
    if is_short and report.error_count and stated_ms is not None:
        raise InvalidMediaError(
            f"the file is truncated: its header states {stated_ms / 1000:.1f} s, but only "
            f"{measured_ms / 1000:.1f} s can be decoded: {report.reason}"
        )
    if report.error_count:
        job.notes.append(f"the decoder reported errors, the last: {report.reason}")
    if stated_ms is None or measured_ms - stated_ms > _LONGER_MS:
        return measured_ms
    if is_short and stated_ms - measured_ms > _SHORTER_MS:
        job.notes.append(
            f"the media ends at {measured_ms / 1000:.1f} s, its header states "
            f"{stated_ms / 1000:.1f} s"
        )
        return measured_ms
    return stated_ms
