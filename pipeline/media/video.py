"""What to take from a video stream, and how. Runs in the child only."""

from fractions import Fraction

from av.video.stream import VideoStream

from pipeline.media.ffmpeg_command import PLAIN_FORMATS, VideoPlan
from pipeline.media.first_look import FirstLook, stored_size
from pipeline.media.params import SplitParams
from pipeline.media.scanner import WAITED_MS
from pipeline.media.shots import delay_ms, transnet_delay_ms

#: Small frames of extreme shapes stay small in both directions.
_MAX_SMALL_RATIO = 4
#: Codecs whose pictures may be interlaced although the first is not.
_MAY_BE_INTERLACED = frozenset({"h264", "mpeg2video", "vc1"})
#: The filter takes no smaller pictures.
_LEAST_INTERLACED = 4
#: Decoders of transparency, which lies beside the picture where ffmpeg's own do not look.
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
#: Candidates that wait for their shot to be known take no more than this.
_MAX_WAITING_BYTES = 272 * 1024**2


def plan_video(
    stream: VideoStream, start: Fraction, look: FirstLook, params: SplitParams
) -> VideoPlan:
    """Sizes, colours and clock of what ffmpeg is to send of this stream."""
    width, height = stored_size(stream)
    small = params.analysis_width
    small_height = min(max(2, round(small * height / width)), small * _MAX_SMALL_RATIO)
    shrink = min(Fraction(1), Fraction(params.keyframe_max_side_px, max(width, height)))
    keyframe_size = _even(width * shrink), _even(height * shrink)
    time_base = Fraction(stream.time_base or Fraction(1, 90_000))
    context = stream.codec_context
    is_deep = look.transfer != "sdr"
    frame_bytes = keyframe_size[0] * keyframe_size[1] * 3 // 2 * (2 if is_deep else 1)
    delay = delay_ms if params.shot_detector == "content" else transnet_delay_ms
    most_waiting = max(1, _MAX_WAITING_BYTES // frame_bytes)
    fewest_ms = (delay(params) + WAITED_MS) // most_waiting
    has_alpha = context.format is not None and any(c.is_alpha for c in context.format.components)
    decoder, pixel_format = None, context.pix_fmt or "yuv420p"
    if stream.metadata.get("alpha_mode") == "1" and pixel_format == "yuv420p":
        decoder = _ALPHA_DECODERS.get(context.codec.canonical_name)
    if decoder is not None:
        has_alpha, pixel_format = True, "yuva420p"
    return VideoPlan(
        stream_index=stream.index,
        decoder=decoder,
        time_base=time_base,
        origin_pts=start // time_base,
        coded_size=(context.width, context.height),
        pixel_format=pixel_format,
        has_alpha=has_alpha,
        may_be_interlaced=min(context.width, context.height) >= _LEAST_INTERLACED
        and (
            look.is_interlaced
            or (
                context.codec.canonical_name in _MAY_BE_INTERLACED and pixel_format in PLAIN_FORMATS
            )
        ),
        matrix=look.matrix,
        small_size=(small, small_height),
        keyframe_size=keyframe_size,
        is_deep=is_deep,
        candidate_every_ms=max(min(params.candidate_interval_ms, params.min_shot_ms), fewest_ms),
        is_sparse=params.decode == "sync",
    )


def _even(length: Fraction) -> int:
    """Halves of chroma planes must be whole."""
    return max(2, 2 * round(length / 2))
