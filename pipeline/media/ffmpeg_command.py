"""The one ffmpeg command that splits a file: decode once, write everything.

Standard output carries NUT with two raw video streams and their exact times: every frame, small,
in BGR; and candidates for keyframes, in YUV 4:2:0. Sound goes to a file, its measurements to a
pipe; subtitles are read apart (:mod:`pipeline.media.subtitles`).
"""

from dataclasses import dataclass
from fractions import Fraction

import ffmpeg

from pipeline.media.first_look import Matrix
from pipeline.media.limits import MediaLimits
from pipeline.media.params import AUDIO_RATE_HZ, SplitParams
from pipeline.media.sniff import ALLOWED_DEMUXERS, ALLOWED_PROTOCOLS

AUDIO_NAME = "audio.flac"
#: Sound on its way, where the file's own is uneven.
EVEN_NAME = "even.nut"
_EVEN_RATE_HZ = 32_000
_READING = {"format_whitelist": ALLOWED_DEMUXERS, "protocol_whitelist": ALLOWED_PROTOCOLS}
#: Added to all times in the pipe: NUT holds no negative ones.
PIPE_OFFSET_SECONDS = 60
#: Distance of two frames whose times go back.
_STEP_BACK_SECONDS = 0.04
#: Times that stand, or go back by less, are a slip, and right again soon: not when it is more in a
#: row than these.
_SLIP = "-0.1/TB"
_MOST_SLIPS = 3
#: Of streams whose times may jump (broadcasts): a longer step forward is such a jump.
_LONGEST_STEP_SECONDS = 60
#: Decoding goes a little beyond the limit, so that reaching it can be seen.
_SECONDS_BEYOND_LIMIT = 10
#: Shortest silence that is measured; what is shorter than wanted is left out later.
_SILENCE_SECONDS = 0.1
#: Pixel formats of most video, which filters take as they are.
PLAIN_FORMATS = frozenset({"yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p"})


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoPlan:
    """What to take from a video stream. Sizes are before turning upright."""

    stream_index: int
    #: Another decoder than ffmpeg's own choice.
    decoder: str | None
    time_base: Fraction
    #: PTS of the start of the presentation, rounded down: subtracted in the pipe.
    origin_pts: int
    coded_size: tuple[int, int]
    pixel_format: str
    has_alpha: bool
    may_be_interlaced: bool
    matrix: Matrix
    small_size: tuple[int, int]
    keyframe_size: tuple[int, int]
    #: Candidates come with 10 bits per sample, else with 8.
    is_deep: bool
    #: Least distance of candidates.
    candidate_every_ms: int
    #: Only sync frames come.
    is_sparse: bool

    @property
    def pipe_offset_pts(self) -> int:
        """What the pipe's PTS are ahead of the stream's own."""
        return int(PIPE_OFFSET_SECONDS / self.time_base) - self.origin_pts

    @property
    def candidate_time_base(self) -> Fraction:
        """In the pipe: of the grid that candidates lie on."""
        return self.time_base if self.is_sparse else Fraction(self.candidate_every_ms, 1000)

    @property
    def candidate_bytes(self) -> int:
        """Size of a candidate in the pipe: its sides are even."""
        width, height = self.keyframe_size
        return width * height * 3 // 2 * (2 if self.is_deep else 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioPlan:
    """What to take from an audio stream. ``measures_fd``: an open pipe for its measurements."""

    stream_index: int
    measures_fd: int


def build_command(
    binary: str,
    *,
    start: Fraction,
    video: VideoPlan | None,
    audio: AudioPlan | None,
    params: SplitParams,
    limits: MediaLimits,
    may_jump: bool,
    between: tuple[float, float | None] | None = None,
    with_device: bool = False,
) -> list[str]:
    """The argument list. Times stay on the container's clock (``-copyts``), except in the sound,
    which begins at ``start`` with silence where it comes late.

    ``may_jump``: the container is one whose times may go on elsewhere at any place.
    ``between``: seconds of the presentation; begin with the sync frame before the first, end not
    before the second. ``with_device``: decode on a CUDA device.
    """
    options = {
        "threads": params.decoder_threads,
        **_READING,
        "max_pixels": limits.max_pixels,
        "noautorotate": None,
        # A picture that changes its shape on the way must not start the clock below again.
        "reinit_filter:v": 0,
    }
    if with_device:
        options["hwaccel"] = "cuda"
    if video is not None and video.decoder is not None:
        options[f"c:{video.stream_index}"] = video.decoder
    if params.decode == "sync":
        options["skip_frame"] = "nokey"
    if between is not None:
        options |= {"ss": f"{between[0]:.3f}", "noaccurate_seek": None}
    source = ffmpeg.input("file:input", **options)
    outputs = []
    if video is not None:
        until = None if between is None or between[1] is None else float(start) + between[1]
        outputs.append(_video_output(source, video, until, may_jump=may_jump))
    if audio is not None:
        outputs.append(_audio_output(source, audio, start, params, limits, may_jump=may_jump))
    return _compile(binary, *outputs)


def build_even_sound_command(
    binary: str, plan: AudioPlan, *, start: Fraction, params: SplitParams, limits: MediaLimits
) -> list[str]:
    """Sound whose channels or rate change on the way, brought to one kind, in :data:`EVEN_NAME`.

    At each change the filters begin anew, and what they remember is lost: none here has a memory.
    The clock is kept beyond them, in the packets of the encoder.
    """
    options = {"threads": params.decoder_threads, **_READING}
    source = ffmpeg.input("file:input", **options)
    step = _step("max(1,DURATION)", may_jump=True, least="0").replace(",", "\\,")
    output = ffmpeg.output(
        source[str(plan.stream_index)],
        EVEN_NAME,
        af=f"asetpts='{_presented(start)}',aresample={_EVEN_RATE_HZ},"
        "aformat=sample_fmts=s16:channel_layouts=stereo",
        f="nut",
        c="flac",
        t=limits.max_duration_seconds + _SECONDS_BEYOND_LIMIT,
        bsf=f"setts=ts=if(N\\,PREV_OUTPTS+{step}\\,PTS)",
        flush_packets=1,
    )
    return _compile(binary, output)


def build_sound_command(
    binary: str, *, measures_fd: int, params: SplitParams, limits: MediaLimits
) -> list[str]:
    """The sound and its measurements from :data:`EVEN_NAME`."""
    source = ffmpeg.input(f"file:{EVEN_NAME}", **_READING)
    plan = AudioPlan(stream_index=0, measures_fd=measures_fd)
    output = _audio_output(source, plan, Fraction(0), params, limits, may_jump=False)
    return _compile(binary, output)


def _compile(binary: str, *outputs: ffmpeg.nodes.Stream) -> list[str]:
    head = [binary, "-nostdin", "-hide_banner", "-loglevel", "error", "-copyts", "-y"]
    # How many errors are too many is decided by what comes out.
    head += ["-filter_complex_threads", "1", "-max_error_rate", "1"]
    command: list[str] = ffmpeg.merge_outputs(*outputs).compile(cmd=head)
    return command


def _video_output(
    source: ffmpeg.nodes.Stream, plan: VideoPlan, until: float | None, *, may_jump: bool
) -> ffmpeg.nodes.Stream:
    """``until``: seconds on the container's clock."""
    # Only the first scale sees another size or format than the stream began with: the filters
    # after it count on one. It costs nothing where nothing changes.
    frames = source[str(plan.stream_index)].filter("scale", *plan.coded_size)
    frames = frames.filter("format", plan.pixel_format)
    if until is not None:
        # The option -t would count from the sync frame, which may lie seconds before.
        frames = frames.filter("trim", end=f"{until:.3f}")
    frames = frames.filter("setpts", _rising(plan.pipe_offset_pts, may_jump=may_jump))
    if plan.has_alpha:
        frames = _on_white(frames, plan)
    both = frames.filter_multi_output("split")
    # Rounded to a coarse time base, a candidate would count as the frame after the one it shows.
    time_bases = (plan.time_base, plan.candidate_time_base)
    return ffmpeg.output(
        _small(both[0], plan),
        _candidates(both[1], plan),
        "pipe:1",
        f="nut",
        c="rawvideo",
        fps_mode="passthrough",
        map_metadata=-1,
        map_chapters=-1,
        # Else both ends keep an entry for every frame, for seeking that a pipe knows nothing of.
        syncpoints="none",
        strict="experimental",
        **{
            f"enc_time_base:v:{n}": f"{base.numerator}/{base.denominator}"
            for n, base in enumerate(time_bases)
        },
    )


def _forward(first: str, usual: str, *, may_jump: bool) -> str:
    """A clock that goes on where a stream's own times start again (joined broadcasts), or leap
    (one damaged packet). Without such a step it is the stream's own, moved by a constant."""
    step = _step(usual, may_jump=may_jump, least=_SLIP)
    return f"if(isnan(PREV_OUTPTS),{first},PREV_OUTPTS+{step})"


def _rising(offset_pts: int, *, may_jump: bool) -> str:
    """Such a clock for pictures, whose times must rise. Where their own do not for a moment, it is
    ahead of them by as little as can be, and theirs again after that.

    Its variables: by how much it is ahead (0), the step it owes (1), slips in a row (2).
    """
    usual = f"max(1,round({_STEP_BACK_SECONDS}/TB))"
    owed = f"st(1,{_step(f'{usual}+st(0,0)', may_jump=may_jump, least=_SLIP)}-ld(0))"
    slips = f"if(gt(st(2,ld(2)+1),{_MOST_SLIPS}),{usual}+st(0,0),1+0*st(0,1-ld(1)))"
    step = f"if(gt({owed},0),ld(1)+st(0,0)+st(2,0),{slips})"
    return f"if(isnan(PREV_OUTPTS),PTS+{offset_pts},PREV_OUTPTS+{step})"


def _presented(start: Fraction) -> str:
    return f"PTS-({float(start):.6f})/TB"


def _step(usual: str, *, may_jump: bool, least: str) -> str:
    step = "PTS-PREV_INPTS"
    is_step = f"gt({step},{least})"
    if may_jump:
        is_step += f"*lt({step},{_LONGEST_STEP_SECONDS}/TB)"
    return f"if({is_step},{step},{usual})"


def _on_white(frames: ffmpeg.nodes.Stream, plan: VideoPlan) -> ffmpeg.nodes.Stream:
    # In RGB, where white is the same for all; drawbox would crash older ffmpegs here.
    frames = frames.filter("scale", in_color_matrix=plan.matrix).filter("format", "rgba")
    both = frames.filter_multi_output("split")
    white = both[0].filter("lutrgb", r=255, g=255, b=255, a=255)
    return ffmpeg.filter([white, both[1]], "overlay", format="auto")


def _small(frames: ffmpeg.nodes.Stream, plan: VideoPlan) -> ffmpeg.nodes.Stream:
    width, height = plan.small_size
    lines = plan.coded_size[1]
    while lines >= 8 * height:
        # Every second line is left out, which copies nothing: enough are left to average over.
        frames = frames.filter("field", "top")
        lines //= 2
    return frames.filter("scale", width, height, flags="area").filter("format", "bgr24")


def _candidates(frames: ffmpeg.nodes.Stream, plan: VideoPlan) -> ffmpeg.nodes.Stream:
    every_ms = plan.candidate_every_ms
    if plan.is_sparse:
        # The first frame after each line of a fixed grid.
        line = f"floor({{}}*1000/{every_ms})"
        is_next = f"gt({line.format('t')},{line.format('prev_selected_t')})"
        frames = frames.filter("select", f"isnan(prev_selected_t)+{is_next}")
    else:
        # What is shown at each time of a fixed grid: so a single frame that stands for long is
        # among them. The last frame is shown until the grid has seen it.
        seconds = 2 * every_ms / 1000
        frames = frames.filter("tpad", stop_mode="clone", stop_duration=seconds)
        frames = frames.filter("fps", f"1000/{every_ms}", round="up")
        if plan.pixel_format in PLAIN_FORMATS:
            # Exact repetitions are dropped.
            frames = frames.filter("mpdecimate", hi=0, lo=0, frac=0)
    if plan.may_be_interlaced:
        frames = frames.filter("estdif", mode="frame", deint="interlaced")
    frames = frames.filter(
        "scale", *plan.keyframe_size, flags="area",
        in_color_matrix=plan.matrix, out_color_matrix=plan.matrix, out_range="tv",
    )  # fmt: skip
    return frames.filter("format", "yuv420p10le" if plan.is_deep else "yuv420p")


def _audio_output(
    source: ffmpeg.nodes.Stream,
    plan: AudioPlan,
    start: Fraction,
    params: SplitParams,
    limits: MediaLimits,
    *,
    may_jump: bool,
) -> ffmpeg.nodes.Stream:
    clock = _forward(_presented(start), "S/SR/TB", may_jump=may_jump)
    # Not in one graph with the video: where the sound changes its kind, its graph begins anew.
    filters = (
        f"asetpts='{clock}'",
        # Damaged packets decode to any float: what is beyond full scale is cut off.
        "aformat=sample_fmts=s16",
        "ebur128=metadata=1:peak=sample",
        # Where nothing was sent, it is silent.
        "aresample=async=1:first_pts=0",
        f"silencedetect=noise={params.silence_dbfs}dB:d={_SILENCE_SECONDS}",
        f"ametadata=mode=print:file='pipe\\:{plan.measures_fd}'",
        f"aresample={AUDIO_RATE_HZ}",
        "aformat=sample_fmts=s16:channel_layouts=mono",
    )
    return ffmpeg.output(
        source[str(plan.stream_index)],
        AUDIO_NAME,
        af=",".join(filters),
        f="flac",
        c="flac",
        t=limits.max_duration_seconds + _SECONDS_BEYOND_LIMIT,
        # FLAC knows no times, but times that go back would end everything.
        bsf="setts=ts=if(N\\,PREV_OUTPTS+max(1\\,DURATION)\\,0)",
        # The file's growth is the sign of life of media without pictures.
        flush_packets=1,
        map_metadata=-1,
        fflags="+bitexact",
        flags="+bitexact",
    )
