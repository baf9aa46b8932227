"""Splitting a file with streams into shots, keyframes, sound and cues. Runs in the child only."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pipeline.errors import InvalidMediaError, ResourceExhaustedError
from pipeline.media import decoding, ffmpeg_process
from pipeline.media.assembly import Assembler
from pipeline.media.ffmpeg_command import AUDIO_NAME, VideoPlan
from pipeline.media.limits import MediaLimits
from pipeline.media.progress import Progress
from pipeline.media.scan_file import Scan, load_scan
from pipeline.media.scanner import VideoScanner
from pipeline.media.shots import Run
from pipeline.media.sound import audio_ms
from pipeline.media.source import Source, Task, end_of_video, read_headers, running
from pipeline.media.subtitles import collect

#: A file whose decoder reports errors and that holds less than this share of its stated duration
#: is cut off. With more, or without errors, it is used as far as it goes, with a note.
_ENOUGH = 0.95
#: The header's duration stands if what was decoded is longer by at most this (a codec's padding) …
_LONGER_MS = 100
#: … or shorter by at most this (a last subtitle).
_SHORTER_MS = 1000


def split(
    request: dict[str, Any],
    limits: MediaLimits,
    progress: Progress,
    *,
    startup_cpu_seconds: float,
) -> dict[str, Any]:
    """Decode once; the fields of a :class:`~pipeline.media.results.SplitResult`.

    Raises:
        InvalidMediaError: nothing can be decoded, or the file is cut off.
        MediaLimitError: it lasts longer, or holds more, than allowed.
    """
    # Workers scale by processes: threads of OpenCV would only wait for each other.
    cv2.setNumThreads(1)
    task = Task(request, limits, progress)
    source = read_headers(task)
    assembler, runs = _decode(task, source, [Path(path) for path in request["scans"]])
    sound_ms = audio_ms()
    if source.audio is not None and not sound_ms:
        task.notes.append(f"the sound cannot be decoded: {task.report.reason}")
    if assembler is None and not sound_ms:
        raise InvalidMediaError(f"no sound of the file can be decoded: {task.report.reason}")
    measured_ms = max(sound_ms, 0 if assembler is None else assembler.finish())
    end_ms = _end_ms(task, measured_ms)
    shots: list[dict[str, Any]] = [
        {"shot_index": 0, "start_ms": 0, "end_ms": end_ms, "starts_with": "start"}
    ]
    keyframes: list[dict[str, Any]] = []
    stretches = task.meter.stretches(sound_ms, task.params.min_stretch_ms)
    if assembler is not None:
        shots, keyframes = assembler.shots(end_ms), assembler.keyframes
        stretches += assembler.stretches(runs, task.params.min_stretch_ms)
        if assembler.shots_without_keyframe:
            task.notes.append(f"{assembler.shots_without_keyframe} shots have no keyframe")
        if task.params.decode == "sync":
            task.notes.append("only sync frames were decoded: the times of shots are coarse")
    subtitles: dict[str, Any] = {"cue_sources": [], "cues": [], "cue_pictures": None}
    if source.subtitles or source.has_captions or request["sidecars"]:
        wanted = collect.Request(
            streams=source.subtitles,
            captions_in=source.video.stream_index
            if source.video is not None and source.has_captions
            else None,
            sidecars=collect.sidecars_of(request["sidecars"]),
            start=source.start,
            end_ms=end_ms,
            frame_rate=source.frame_rate,
            ffmpeg=task.ffmpeg,
        )
        subtitles = collect.collect(wanted, limits, task.notes, progress)
    return {
        "shots": shots,
        "keyframes": keyframes,
        "stretches": stretches,
        "audio": AUDIO_NAME if sound_ms else None,
        "sound": _sound(task, source) if sound_ms else None,
        **subtitles,
        "device_failure": task.device_failure,
        "notes": task.notes,
        "decoder_cpu_seconds": ffmpeg_process.decoder_cpu_seconds(),
        "startup_cpu_seconds": startup_cpu_seconds,
    }


def _decode(task: Task, source: Source, scans: list[Path]) -> tuple[Assembler | None, list[Run]]:
    """Run ffmpeg. The assembler has taken all pieces; ``None`` for sound only."""
    plan = source.video
    if plan is None:
        _run_without_video(task, source)
        return None, []
    if scans:
        joined = _join(task, source, plan, scans)
        if joined is not None:
            return joined
    if task.with_device:
        decoded = _try_device(task, source, plan)
        if decoded is not None:
            return decoded
    assembler, scanner = _scan(task, source, plan, with_sound=True)
    if scanner.frame_count == 0 and source.audio is not None:
        # A stream that ffmpeg refuses to open takes the picture down with it: try without.
        assembler, scanner = _scan(task, source, plan, with_sound=False)
    if scanner.frame_count == 0 and plan.decoder is not None:
        # An ffmpeg without that decoder: better without transparency than not at all.
        opaque = replace(plan, decoder=None, has_alpha=False, pixel_format="yuv420p")
        return _decode(task, replace(source, video=opaque), [])
    if scanner.frame_count == 0:
        raise InvalidMediaError(f"no frame of the video can be decoded: {task.report.reason}")
    scanner.finish(partial(end_of_video, task, source, plan), source.frame_rate)
    return assembler, scanner.runs


def _try_device(task: Task, source: Source, plan: VideoPlan) -> tuple[Assembler, list[Run]] | None:
    """``None``: the device cannot, or not without errors."""
    try:
        assembler, scanner = _scan(task, source, plan, with_sound=True)
    except (InvalidMediaError, ResourceExhaustedError) as error:
        task.give_up_device(str(error))
        return None
    if scanner.frame_count == 0 or task.report.error_count:
        task.give_up_device(task.report.reason)
        return None
    scanner.finish(partial(end_of_video, task, source, plan), source.frame_rate)
    return assembler, scanner.runs


def _run_without_video(task: Task, source: Source) -> None:
    if source.audio is not None:
        with running(task, source, with_video=False, with_sound=True):
            pass


def _assembler(task: Task, source: Source, plan: VideoPlan) -> Assembler:
    return Assembler(
        time_base=plan.time_base, start=source.start, is_exact=task.params.decode == "all"
    )


def _scan(
    task: Task, source: Source, plan: VideoPlan, *, with_sound: bool
) -> tuple[Assembler, VideoScanner]:
    assembler = _assembler(task, source, plan)
    scanner = VideoScanner(
        plan=plan,
        look=source.look,
        start=source.start,
        params=task.params,
        limits=task.limits,
        detector=task.detector(plan),
        take=assembler.take,
    )
    with running(task, source, with_video=True, with_sound=with_sound) as process:
        for frame in decoding.read_frames(process, plan, task.progress):
            scanner.push(frame)
    return assembler, scanner


def _join(
    task: Task, source: Source, plan: VideoPlan, files: list[Path]
) -> tuple[Assembler, list[Run]] | None:
    """The video as its ranges were scanned; ``None`` where neighbours saw different frames (a
    decoder that begins in the middle of this file gives others), or none at all."""
    assembler = _assembler(task, source, plan)
    runs: list[Run] = []
    report = ffmpeg_process.Report()
    frame_count = 0
    before: Scan | None = None
    for index, file in enumerate(files):
        scan = load_scan(file, index)
        task.progress.tick()
        if before is not None and not _fits(before, scan):
            task.notes.append("its ranges do not fit to each other: it was split in one piece")
            return None
        before = scan
        for piece in scan.pieces:
            assembler.take(piece)
        runs += scan.runs
        report.add(scan.error_count, scan.last_lines)
        frame_count += scan.frame_count
    if not frame_count:
        return None
    task.report = report
    _run_without_video(task, source)
    return assembler, runs


def _fits(before: Scan, after: Scan) -> bool:
    """Whether two neighbours saw the same frames at their edge, and leave no gap."""
    if after.pieces and (
        not before.pieces or before.pieces[-1].end_pts != after.pieces[0].start_pts
    ):
        return False
    return np.array_equal(before.seams[1], after.seams[0])


def _sound(task: Task, source: Source) -> dict[str, Any] | None:
    if source.audio is None:
        return None
    index, language, title = source.audio
    return {
        "stream_index": index,
        "language": language,
        "title": title,
        "loudness_lufs": task.meter.loudness_lufs,
        "peak_dbfs": task.meter.peak_dbfs(),
    }


def _end_ms(task: Task, measured_ms: int) -> int:
    """The end of the presentation: as the header states it, unless decoding says otherwise.

    Raises:
        InvalidMediaError: the file is cut off.
    """
    report, stated_ms = task.report, task.stated_ms
    is_short = stated_ms is not None and measured_ms < _ENOUGH * stated_ms
    if is_short and report.error_count and stated_ms is not None:
        raise InvalidMediaError(
            f"the file is truncated: its header states {stated_ms / 1000:.1f} s, but only "
            f"{measured_ms / 1000:.1f} s can be decoded: {report.reason}"
        )
    if report.error_count:
        task.notes.append(f"the decoder reported errors, the last: {report.reason}")
    if stated_ms is None or measured_ms - stated_ms > _LONGER_MS:
        return measured_ms
    if stated_ms - measured_ms > _SHORTER_MS:
        task.notes.append(
            f"the media ends at {measured_ms / 1000:.1f} s, its header states "
            f"{stated_ms / 1000:.1f} s"
        )
        return measured_ms
    return stated_ms
