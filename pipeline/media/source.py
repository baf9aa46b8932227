"""What is taken from a container, and the ffmpeg that takes it. Runs in the child only."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer
from av.format import Flags
from av.video.stream import VideoStream

from pipeline.errors import UnsupportedMediaError
from pipeline.media import ffmpeg_command, ffmpeg_process, packets
from pipeline.media.containers import (
    audio_streams,
    open_container,
    preferred_video,
    start_seconds,
    video_streams,
)
from pipeline.media.ffmpeg_command import AudioPlan, VideoPlan
from pipeline.media.first_look import FirstLook, first_looks
from pipeline.media.languages import normalise_language
from pipeline.media.limits import MediaLimits
from pipeline.media.messages import clean_text
from pipeline.media.params import SplitParams
from pipeline.media.progress import Progress
from pipeline.media.shots import ContentDetector, Detector, TransNetDetector
from pipeline.media.sound import SoundMeter, choose_audio
from pipeline.media.subtitles.streams import (
    SubtitleStream,
    carries_captions,
    subtitle_streams,
)
from pipeline.media.video import plan_video
from pipeline.media.windows import WindowScorer

#: A stated end so near to the usual one is not looked into.
_NEAR_SECONDS = Fraction(1, 10)
#: Two statements that differ by no more are the same, rounded.
_SAME_SECONDS = Fraction(1, 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What is taken from the container, and its clock."""

    start: Fraction
    #: Times may go on elsewhere at any place, as in joined broadcasts.
    may_jump: bool
    video: VideoPlan | None
    look: FirstLook
    #: Where the video's header says that it ends, and where the container's says that all ends.
    stream_end_pts: int | None
    file_end_pts: int | None
    frame_rate: float | None
    #: Stream index, language and title.
    audio: tuple[int, str | None, str | None] | None
    subtitles: tuple[SubtitleStream, ...]
    #: Captions stand beside the pictures of the video.
    has_captions: bool


class Task:
    """One request: its parameters, and what is found on the way."""

    def __init__(self, request: dict[str, Any], limits: MediaLimits, progress: Progress) -> None:
        self.limits = limits
        self.progress = progress
        self.params = SplitParams(**request["params"])
        self.ffmpeg: str = request["ffmpeg"]
        self.wants_video: bool = request["kind"] == "video"
        self.stated_ms: int | None = request["duration_ms"]
        self.with_device: bool = request["with_device"]
        #: Why the device was not used.
        self.device_failure: str | None = None
        #: The model that finds shots, in the parent.
        self.score = None
        if request["scorer"] is not None:
            self.score = WindowScorer(*request["scorer"])
        self.report = ffmpeg_process.Report()
        self.meter = SoundMeter(on_progress=progress.tick)
        self.notes: list[str] = []

    def detector(self, plan: VideoPlan) -> Detector:
        """Of shots, as the parameters have it."""
        if self.score is not None:
            return TransNetDetector(
                time_base=plan.time_base, params=self.params, score=self.score.ask
            )
        return ContentDetector(time_base=plan.time_base, params=self.params)

    def give_up_device(self, reason: str) -> None:
        """What the device did counts for nothing: begin again without it."""
        self.with_device = False
        self.device_failure = reason
        self.report = ffmpeg_process.Report()
        self.meter = SoundMeter(on_progress=self.progress.tick)


def read_headers(task: Task) -> Source:
    """Which streams are taken, and how.

    Raises:
        UnsupportedMediaError: and its kin; see :func:`~pipeline.media.containers.open_container`.
    """
    with open_container(task.limits) as container:
        start = start_seconds(container)
        picture = preferred_video(video_streams(container)) if task.wants_video else None
        sound = choose_audio(audio_streams(container), task.params, task.notes)
        if sound is None and container.streams.audio:
            task.notes.append("the sound cannot be decoded: its header does not say how")
        if picture is None and sound is None:
            raise UnsupportedMediaError("the file holds no video or sound that can be decoded")
        subtitles = subtitle_streams(container)
        audio = None
        if sound is not None:
            title = clean_text(sound.metadata.get("title"))
            audio = (sound.index, normalise_language(sound.language), title)
        look = FirstLook() if picture is None else first_looks(container, [picture])[picture.index]
        return Source(
            start=start,
            may_jump=bool(Flags.ts_discont & Flags(container.format.flags)),
            video=None if picture is None else plan_video(picture, start, look, task.params),
            look=look,
            stream_end_pts=None if picture is None else _stream_end(picture),
            file_end_pts=None if picture is None else _file_end(container, picture, start),
            frame_rate=None if picture is None else packets.frame_rate(picture, task.limits),
            audio=audio,
            subtitles=subtitles,
            has_captions=picture is not None and carries_captions(container, picture),
        )


def _stream_end(stream: VideoStream) -> int | None:
    if not stream.duration or stream.start_time is None:
        return None
    return stream.start_time + stream.duration


def _file_end(container: InputContainer, stream: VideoStream, start: Fraction) -> int | None:
    if not container.duration:
        return None
    end = start + Fraction(container.duration, av.time_base)
    return round(end / Fraction(stream.time_base or 1))


def end_of_video(task: Task, source: Source, plan: VideoPlan, last_pts: int, step: int) -> int:
    """Where the last frame ends, which begins at ``last_pts``: as a header states it, if that is
    plausible or the frame's packet says the same; else it lasts like the one before it, a ``step``,
    but not beyond the end of the file.
    """
    is_sync = task.params.decode == "sync"
    stream_end, file_end = source.stream_end_pts, source.file_end_pts
    if not is_sync:
        if stream_end is not None and last_pts < stream_end <= last_pts + 2 * step:
            return stream_end
        usual = last_pts + step
        if file_end is None or abs(file_end - usual) * plan.time_base <= _NEAR_SECONDS:
            return usual
    end = packets.end_of_frames(task.limits, plan.stream_index, last_pts, also_later=is_sync)
    if end is not None and (
        is_sync
        or any(
            stated is not None and abs(stated - end) * plan.time_base <= _SAME_SECONDS
            for stated in (stream_end, file_end)
        )
    ):
        return end
    if file_end is not None and last_pts < file_end < last_pts + step:
        # The last of some slides need not stand as long as the one before it.
        return file_end
    return last_pts + step


@contextmanager
def running(
    task: Task,
    source: Source,
    *,
    with_video: bool,
    with_sound: bool,
    between: tuple[float, float | None] | None = None,
) -> Iterator[ffmpeg_process.Process]:
    """ffmpeg for the time of the block. ``between``: see
    :func:`pipeline.media.ffmpeg_command.build_command`.

    Raises as :func:`pipeline.media.ffmpeg_process.running` does.
    """
    audio = None
    if with_sound and source.audio is not None:
        audio = AudioPlan(stream_index=source.audio[0], measures_fd=_listen(task))
    command = ffmpeg_command.build_command(
        task.ffmpeg,
        start=source.start,
        video=source.video if with_video else None,
        audio=audio,
        params=task.params,
        limits=task.limits,
        may_jump=source.may_jump,
        between=between,
        with_device=task.with_device and with_video,
    )
    own_fds = () if audio is None else (audio.measures_fd,)
    with ffmpeg_process.running(
        command,
        task.report,
        task.limits,
        own_fds=own_fds,
        with_device=task.with_device and with_video,
    ) as process:
        yield process
    task.meter.join()
    if audio is not None and task.meter.begin_count > 1:
        _take_uneven_sound(task, source, audio)


def _take_uneven_sound(task: Task, source: Source, audio: AudioPlan) -> None:
    """Channels or rate change on the way: in two steps, of which the second sees one kind."""
    command = ffmpeg_command.build_even_sound_command(
        task.ffmpeg, audio, start=source.start, params=task.params, limits=task.limits
    )
    # What it has to say was said before.
    with ffmpeg_process.running(command, ffmpeg_process.Report(), task.limits):
        pass
    task.meter = SoundMeter(on_progress=task.progress.tick)
    measures_fd = _listen(task)
    command = ffmpeg_command.build_sound_command(
        task.ffmpeg, measures_fd=measures_fd, params=task.params, limits=task.limits
    )
    with ffmpeg_process.running(command, task.report, task.limits, own_fds=(measures_fd,)):
        pass
    task.meter.join()
    Path(ffmpeg_command.EVEN_NAME).unlink(missing_ok=True)


def _listen(task: Task) -> int:
    """An open pipe for measurements, which the meter reads."""
    read_fd, write_fd = os.pipe()
    task.meter.listen(read_fd)
    return write_fd
