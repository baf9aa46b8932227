"""Where shots begin, and the keyframes that stand for them."""

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from typing import Any

import av
from conformance.outcomes import Case
from PIL import Image as PillowImage

from pipeline.media import SplitParams
from schemas.records import Shot

#: Cuts that a person found on contact sheets may be meant one frame off.
_BY_EYE_FRAMES = 1
#: JPEGs and streams of other time bases round.
_ROUNDING_MS = 2


def check_shots(case: Case) -> Iterator[str]:
    """Cuts at their frames, gradual transitions with a boundary inside, and no boundary else."""
    result = case.outcome.result
    stated = _stated(case)
    if result is None or stated is None:
        return
    edges = _edges(case, result.shots[1:])
    cuts, tolerance = _cuts(case, stated)
    spans = _gradual(case, stated)
    for cut in cuts:
        if not any(abs(edge - cut) <= tolerance for edge in edges):
            yield f"no shot begins at the cut {_shown(cut, case)}"
    for low, high in spans:
        if not any(low - tolerance <= edge <= high + tolerance for edge in edges):
            yield f"no shot begins within the transition {_shown(low, case)}-{_shown(high, case)}"
    for edge in edges:
        is_cut = any(abs(edge - cut) <= tolerance for cut in cuts)
        is_gradual = any(low - tolerance <= edge <= high + tolerance for low, high in spans)
        if not is_cut and not is_gradual:
            yield f"a shot begins at {_shown(edge, case)}, where nothing changes"
    wanted = stated.get("shots")
    if wanted is not None and len(result.shots) != wanted:
        yield f"{len(result.shots)} shots, not {wanted}"


def _stated(case: Case) -> Mapping[str, Any] | None:
    truth = case.entry.truth
    if "same_content_as" in truth:
        truth = case.room.entries[truth["same_content_as"]].truth
    stated: Mapping[str, Any] | None = truth.get("shots")
    return stated


def _by_time(case: Case) -> bool:
    """Frame numbers count in one stream; where the shots are of another, only times compare."""
    return "same_content_as" in case.entry.truth or len(case.entry.streams("video")) > 1


def _shown(value: float, case: Case) -> str:
    return f"{value:.0f} ms" if _by_time(case) else f"frame {value:g}"


def _edges(case: Case, starts: tuple[Shot, ...]) -> list[float]:
    if _by_time(case):
        return [float(shot.start_ms) for shot in starts]
    times = _frame_times(case)
    return [float(bisect_left(times, shot.start_pts or 0)) for shot in starts]


def _frame_times(case: Case) -> list[int]:
    """PTS of the frames in order of presentation, from the packets: nothing is decoded."""
    with av.open(str(case.path)) as container:
        packets = container.demux(container.streams.video[0])
        return sorted(p.pts for p in packets if p.pts is not None and not p.is_discard)


def _cuts(case: Case, stated: Mapping[str, Any]) -> tuple[list[float], float]:
    is_by_eye = "by eye" in stated.get("annotation", "")
    tolerance = float(_BY_EYE_FRAMES if is_by_eye else 0)
    if not _by_time(case):
        return [float(cut["frame"]) for cut in stated["shot_cuts"]], tolerance
    frame_ms = 1000 / (case.outcome.info.frame_rate or 25) if case.outcome.info else 40
    tolerance = _ROUNDING_MS + frame_ms * (tolerance + 1)
    return [cut["time"] * 1000 for cut in stated["shot_cuts"]], tolerance


def _gradual(case: Case, stated: Mapping[str, Any]) -> list[tuple[float, float]]:
    ends, factor = ("frame_start", "frame_end"), 1
    if _by_time(case):
        ends, factor = ("time_start", "time_end"), 1000
    return [(g[ends[0]] * factor, g[ends[1]] * factor) for g in stated.get("gradual", ())]


def check_keyframes(case: Case) -> Iterator[str]:
    """Every shot has one, from inside it, in the shape of the display."""
    result, info = case.outcome.result, case.outcome.info
    if result is None or info is None:
        return
    notes = " ".join(result.notes)
    with_keyframe = {keyframe.shot_index for keyframe in result.keyframes}
    without = [s.shot_index for s in result.shots if s.shot_index not in with_keyframe]
    if without and info.kind != "audio" and "no keyframe" not in notes:
        yield f"shots {without[:5]} have no keyframe"
    for keyframe in result.keyframes:
        shot = result.shots[keyframe.shot_index]
        is_inside = shot.start_ms <= keyframe.at_ms < max(shot.end_ms, shot.start_ms + 1)
        if not is_inside:
            yield f"a keyframe at {keyframe.at_ms} ms of the shot {shot.start_ms}-{shot.end_ms}"
        with PillowImage.open(keyframe.path) as picture:
            size, form = picture.size, picture.format
        if form != "JPEG" or size != (keyframe.width_px, keyframe.height_px):
            yield f"a keyframe is {form} of {size}, not {keyframe.width_px}x{keyframe.height_px}"
        if case.entry.expect == "decode":
            yield from _misshapen(size, (info.width_px or 1, info.height_px or 1))


def _misshapen(size: tuple[int, int], displayed: tuple[int, int]) -> Iterator[str]:
    shrink = min(1.0, SplitParams().keyframe_max_side_px / max(displayed))
    wanted = [max(1, round(side * shrink)) for side in displayed]
    if any(abs(found - side) > 1 for found, side in zip(size, wanted, strict=True)):
        yield f"a keyframe is {size[0]}x{size[1]}, the display {displayed[0]}x{displayed[1]}"
