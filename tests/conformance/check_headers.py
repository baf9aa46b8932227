"""What probing says: kind, streams, size, frame rate, length, number of frames."""

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

from conformance.outcomes import Case
from PIL import ExifTags
from PIL import Image as PillowImage

from schemas.records import MediaInfo, StreamRecord

#: Containers round to whole milliseconds or audio frames.
_DURATION_TOLERANCE_MS = 60
#: Of durations known roughly only.
_ROUGHLY = 0.1
_RATE_TOLERANCE = 0.01
#: A rate beyond this is a time base.
_MAX_FRAME_RATE = 300
#: Decoders' names → codecs' names.
_CODEC_OF_DECODER = {
    "libdav1d": "av1",
    "mp3float": "mp3",
    "srt": "subrip",
    "ssa": "ass",
    "pgssub": "hdmv_pgs_subtitle",
    "amrnb": "amr_nb",
}


def check_headers(case: Case) -> Iterator[str]:
    """Of whatever was probed."""
    info = case.outcome.info
    if info is None or case.entry.is_sidecar:
        return
    yield from _check_counts(info, case.entry.truth)
    if case.entry.expect == "decode":
        yield from _check_kind(case, info)
        yield from _check_streams(case, info)
        yield from _check_size(case, info)
        yield from _check_frame_rate(case, info)
    if case.outcome.result is not None:
        yield from _check_duration(case)
        yield from _check_frame_count(case)


def _check_kind(case: Case, info: MediaInfo) -> Iterator[str]:
    entry, notes = case.entry, " ".join(case.outcome.result.notes if case.outcome.result else ())
    is_animation = entry.truth.get("animated") or (entry.observed.get("n_frames") or 1) > 1
    if "n_frames" in entry.observed:
        wanted = "video" if is_animation and info.container != "tiff" else "image"
    else:
        wanted = "video" if entry.streams("video") else "audio"
    # Where only the first picture of several is taken, a note is to say so.
    is_told = is_animation and any(word in notes for word in ("animat", "first", "pages"))
    if info.kind != wanted and not is_told:
        yield f"is {wanted}, not {info.kind}"


def _check_counts(info: MediaInfo, truth: Mapping[str, Any]) -> Iterator[str]:
    for kind in ("video", "audio", "subtitle"):
        wanted = truth.get(f"n_{kind}")
        found = len([stream for stream in info.streams if stream.kind == kind])
        if wanted is not None and found != wanted:
            yield f"{found} {kind} streams, not {wanted}"


def _check_streams(case: Case, info: MediaInfo) -> Iterator[str]:
    for kind in ("video", "audio", "subtitle"):
        theirs = case.entry.streams(kind)
        ours = [stream for stream in info.streams if stream.kind == kind]
        if "streams" in case.entry.observed and len(theirs) > len(ours):
            yield f"{len(ours)} {kind} streams, another decoder finds {len(theirs)}"
        for one, other in zip(ours, theirs, strict=False):
            yield from _compare_streams(one, other)


def _compare_streams(ours: StreamRecord, theirs: Mapping[str, Any]) -> Iterator[str]:
    codec = _CODEC_OF_DECODER.get(theirs["codec"], theirs["codec"])
    pairs = [
        ("codec", ours.codec, codec),
        ("sample rate", ours.sample_rate_hz, theirs.get("rate")),
        ("channels", ours.channels, theirs.get("channels")),
    ]
    for what, found, wanted in pairs:
        if wanted is not None and found != wanted:
            yield f"{what} of stream {ours.stream_index} is {wanted}, not {found}"


def _displayed_size(case: Case) -> tuple[int, int] | None:
    """As the manifest states it, or as stored and turned."""
    truth, observed = case.entry.truth, case.entry.observed
    for name in ("display_size", "upright_size"):
        if name in truth:
            return truth[name][0], truth[name][1]
    size = truth.get("size") or observed.get("size")
    if "best_video_stream" in truth:
        best = observed["streams"][truth["best_video_stream"]]
        size = (best["w"], best["h"])
    elif size is None and (streams := case.entry.streams("video")):
        size = (streams[0]["w"], streams[0]["h"])
    if not isinstance(size, list | tuple):
        return None
    is_turned = truth.get("rotation_tag") in {90, -90} or _is_sideways(case)
    return (size[1], size[0]) if is_turned else (size[0], size[1])


def _is_sideways(case: Case) -> bool:
    if case.entry.observed.get("format") not in {"JPEG", "WEBP"}:
        return False
    with PillowImage.open(case.path) as picture:
        return picture.getexif().get(ExifTags.Base.Orientation, 1) in {5, 6, 7, 8}


def _check_size(case: Case, info: MediaInfo) -> Iterator[str]:
    wanted, found = _displayed_size(case), (info.width_px, info.height_px)
    if wanted is None:
        return
    # Some change their size on the way.
    any_of = [tuple(size) for size in case.entry.truth.get("sizes", [wanted])]
    if found not in any_of:
        yield f"is {any_of}, not {found}"


def _check_frame_rate(case: Case, info: MediaInfo) -> Iterator[str]:
    wanted = _frame_rate(case)
    if wanted is None or case.entry.truth.get("vfr"):
        return
    if info.frame_rate is None or abs(info.frame_rate / wanted - 1) > _RATE_TOLERANCE:
        yield f"has {wanted:.3f} frames a second, not {info.frame_rate}"


def _frame_rate(case: Case) -> float | None:
    if "fps" in case.entry.truth:
        return float(Fraction(case.entry.truth["fps"]))
    streams = case.entry.streams("video")
    if not streams:
        return None
    if "best_video_stream" in case.entry.truth:
        stream = case.entry.observed["streams"][case.entry.truth["best_video_stream"]]
    else:
        stream = streams[0]
    if stream["avg_rate"] != "None" and Fraction(stream["avg_rate"]) <= _MAX_FRAME_RATE:
        return float(Fraction(stream["avg_rate"]))
    span = stream["last"] - stream["first"]
    rate = (stream["frames"] - 1) / span if span > 0 else 0
    return rate if 0 < rate <= _MAX_FRAME_RATE else None


def _check_duration(case: Case) -> Iterator[str]:
    truth, observed = case.entry.truth, case.entry.observed
    result = case.outcome.result
    end_ms = result.shots[-1].end_ms if result is not None else 0
    tolerance_ms = float(_DURATION_TOLERANCE_MS)
    roughly = truth.get("real_seconds", truth.get("real_seconds_about"))
    seconds = truth.get("duration", roughly)
    if roughly is not None:
        tolerance_ms = max(tolerance_ms, roughly * 1000 * _ROUGHLY)
    rate = None if truth.get("vfr") else _frame_rate(case)
    if seconds is None and "frames" in truth and rate:
        seconds = truth["frames"] / rate
    elif seconds is None and case.entry.expect == "decode":
        seconds = observed.get("duration")
        if observed.get("format") == "GIF" and observed["n_frames"] > 1:
            seconds = _gif_seconds(case)
    if seconds is not None and abs(end_ms - seconds * 1000) > tolerance_ms:
        yield f"lasts {seconds * 1000:.0f} ms, not {end_ms}"


def _gif_seconds(case: Case) -> float:
    total_ms = 0
    with PillowImage.open(case.path) as picture:
        for number in range(picture.n_frames):
            picture.seek(number)
            total_ms += picture.info["duration"]
    return total_ms / 1000


def _check_frame_count(case: Case) -> Iterator[str]:
    truth = case.entry.truth
    shots = case.outcome.result.shots if case.outcome.result is not None else ()
    rate = _frame_rate(case)
    if "frames" not in truth or truth.get("vfr") or rate is None or not shots:
        return
    first, last = shots[0], shots[-1]
    if last.end_pts is None:
        return
    ticks = last.end_pts - (first.start_pts or 0)
    seconds = Fraction(ticks * (last.time_base_num or 0), last.time_base_den or 1)
    found = round(float(seconds) * rate)
    if found != truth["frames"]:
        yield f"holds {truth['frames']} frames, the shots span {found}"
