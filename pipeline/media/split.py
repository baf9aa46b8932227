"""Splitting a file with streams into shots, keyframes, sound and cues. Runs in the child only."""

import os
from fractions import Fraction
from typing import Any

from av.container import InputContainer

from pipeline.errors import InvalidMediaError
from pipeline.media import decoding, ffmpeg_command
from pipeline.media.containers import (
    TEXT_SUBTITLES,
    audio_streams,
    open_container,
    orientations,
    preferred,
    start_seconds,
    stored_size,
    video_streams,
)
from pipeline.media.ffmpeg_command import VideoPlan
from pipeline.media.limits import MediaLimits
from pipeline.media.params import AUDIO_RATE_HZ, SplitParams
from pipeline.media.video import VideoSplitter, plan_video

#: A file whose decoder reports errors and that holds less than this share of its stated duration
#: is cut off; one that holds more is used as far as it goes, with a note.
_ENOUGH = 0.95


def split(
    request: dict[str, Any], limits: MediaLimits, *, startup_cpu_seconds: float
) -> dict[str, Any]:
    """Decode once; the fields of a :class:`~pipeline.media.results.SplitResult`.

    Raises:
        InvalidMediaError: nothing can be decoded, or the file is cut off.
        MediaLimitError: it lasts longer than allowed.
    """
    params = SplitParams(**request["params"])
    notes: list[str] = []
    with open_container(limits) as container:
        start = start_seconds(container)
        pictures = preferred(video_streams(container)) if request["kind"] == "video" else None
        sound = preferred(audio_streams(container))
        subtitles = _subtitle_streams(container, notes)
        plan = None
        turn = None
        if pictures is not None:
            plan = plan_video(pictures, start, params)
            turn = orientations(container, [pictures])[pictures.index]
    if plan is None and sound is None:
        raise InvalidMediaError("the file holds no video or sound that can be decoded")
    report = decoding.Report()
    command = ffmpeg_command.build_command(...)
