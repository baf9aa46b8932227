"""The one ffmpeg command that splits a file: decode once, write everything.

Standard output carries NUT with two raw video streams in BGR: every frame, small, and the
candidates for keyframes; NUT carries their exact times. Sound and subtitles go to files.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import ffmpeg

from pipeline.media.limits import MediaLimits
from pipeline.media.params import AUDIO_RATE_HZ, SplitParams
from pipeline.media.sniff import ALLOWED_DEMUXERS, ALLOWED_PROTOCOLS

AUDIO_NAME = "audio.flac"
#: Added to all times in the pipe: NUT holds no negative ones.
PIPE_OFFSET_SECONDS = 60
#: Distance of two frames whose times go back.
_STEP_BACK_SECONDS = 0.04
#: Decoding goes a little beyond the limit, so that reaching it can be seen.
_SECONDS_BEYOND_LIMIT = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoPlan:
    """What to take from a video stream. Sizes are before turning upright."""

    stream_index: int
    time_base: Fraction
    #: PTS of the start of the presentation, rounded down: subtracted in the pipe.
    origin_pts: int
    small_size: tuple[int, int]
    keyframe_size: tuple[int, int]
    #: Every frame is a sync frame (ProRes, JPEG), so being one means nothing.
    is_intra_only: bool
    #: Candidates only, at this distance: for the second look at short shots.
    only_candidates_every_ms: int | None = None

    @property
    def pipe_offset_pts(self) -> int:
        """What the pipe's PTS are ahead of the stream's own."""
        return int(PIPE_OFFSET_SECONDS / self.time_base) - self.origin_pts


def subtitle_name(stream_index: int) -> str:
    """The file that the cues of a subtitle stream are written to."""
    return f"subtitles-{stream_index}.srt"


def build_command(
    binary: str,
    *,
    start: Fraction,
    video: VideoPlan | None,
    audio_index: int | None,
    subtitle_indexes: Sequence[int],
    params: SplitParams,
    limits: MediaLimits,
) -> list[str]:
    """The argument list. Times stay on the container's clock (``-copyts``), except in the sound,
    which begins at ``start`` with silence where it comes late."""
    source = ffmpeg.input(
        "file:input",
        threads=params.decoder_threads,
        format_whitelist=ALLOWED_DEMUXERS,
        protocol_whitelist=ALLOWED_PROTOCOLS,
        max_pixels=limits.max_pixels,
        noautorotate=None,
        # A picture that changes its shape on the way must not start the clock below again.
        **{"reinit_filter:v": 0},
    )
    outputs = []
    if video is not None:
        outputs.append(_video_output(source, video, params))
    if audio_index is not None:
        outputs.append(_audio_output(source, audio_index, start, limits))
    outputs += [
        ffmpeg.output(source[str(index)], subtitle_name(index), f="srt", c="srt")
        for index in subtitle_indexes
    ]
    head = [binary, "-nostdin", "-hide_banner", "-loglevel", "error", "-copyts", "-y"]
    # How many errors are too many is decided by what comes out.
    head += ["-filter_complex_threads", "1", "-max_error_rate", "1"]
    command: list[str] = ffmpeg.merge_outputs(*outputs).compile(cmd=head)
    return command


def _video_output(
    source: ffmpeg.nodes.Stream, plan: VideoPlan, params: SplitParams
) -> ffmpeg.nodes.Stream:
    clock = _forward(f"PTS+{plan.pipe_offset_pts}", f"round({_STEP_BACK_SECONDS}/TB)")
    frames = source[str(plan.stream_index)].filter("setpts", clock)
    rate = {
        "f": "nut",
        "c": "rawvideo",
        "fps_mode": "passthrough",
        "enc_time_base": f"{plan.time_base.numerator}/{plan.time_base.denominator}",
    }
    if plan.only_candidates_every_ms is not None:
        candidates = _candidates(frames, plan, _every(plan.only_candidates_every_ms))
        return ffmpeg.output(candidates, "pipe:1", **rate)
    both = frames.filter_multi_output("split")
    small = both[0].filter("scale", *plan.small_size, flags="area").filter("format", "bgr24")
    when = _every(params.candidate_interval_ms)
    if not plan.is_intra_only:
        # Encoders put sync frames on cuts, so short shots get a candidate too.
        when += "+eq(pict_type,I)"
    return ffmpeg.output(small, _candidates(both[1], plan, when), "pipe:1", **rate)


def _forward(first: str, step_back: str) -> str:
    """A clock that goes on where a stream's own times start again (joined broadcasts). Without
    such a step it is the stream's own, moved by a constant."""
    step = f"if(gt(PTS,PREV_INPTS),PTS-PREV_INPTS,{step_back})"
    return f"if(isnan(PREV_INPTS),{first},PREV_OUTPTS+{step})"


def _every(milliseconds: int) -> str:
    return f"isnan(prev_selected_t)+gte(t-prev_selected_t,{milliseconds / 1000})"


def _candidates(frames: ffmpeg.nodes.Stream, plan: VideoPlan, when: str) -> ffmpeg.nodes.Stream:
    chosen = frames.filter("select", when)
    scaled = chosen.filter("scale", *plan.keyframe_size, flags="area")
    return scaled.filter("format", "bgr24")


def _audio_output(
    source: ffmpeg.nodes.Stream, index: int, start: Fraction, limits: MediaLimits
) -> ffmpeg.nodes.Stream:
    clock = _forward(f"PTS-({float(start):.6f})/TB", "S/SR/TB")
    sound = source[str(index)].filter("asetpts", clock)
    sound = sound.filter("aresample", AUDIO_RATE_HZ, **{"async": 1, "first_pts": 0})
    sound = sound.filter("aformat", sample_fmts="s16", channel_layouts="mono")
    return ffmpeg.output(
        sound,
        AUDIO_NAME,
        f="flac",
        c="flac",
        t=limits.max_duration_seconds + _SECONDS_BEYOND_LIMIT,
        map_metadata=-1,
        fflags="+bitexact",
        flags="+bitexact",
    )
