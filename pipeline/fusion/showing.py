"""What a vision-language model is shown of a span: a few keyframes, and the words found there."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.fusion.evidence import overlap_weight
from schemas.records import Cue, Keyframe, Shot

#: More characters of either text are cut: beyond what any prompt has room for.
MAX_CHARACTERS = 8000


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanText:
    """``transcript``: what is said; ``screen_text``: what is written. ``None``: nothing."""

    transcript: str | None
    screen_text: str | None


def text_of_span(start_ms: int, end_ms: int, cues: Sequence[Cue]) -> SpanText:
    """The words of the cues that touch a span.

    Speech and subtitles, in all their languages, mostly say the same: the source that says most
    is the transcript. Lines on screen count once each, in the order in which they appear.
    """
    span = Shot(shot_index=0, start_ms=start_ms, end_ms=end_ms)
    touching = sorted(
        (cue for cue in cues if overlap_weight(span, cue) > 0.0),
        key=lambda cue: (cue.start_ms, cue.end_ms, cue.text),
    )
    sources: dict[tuple[str, int | None, str | None], list[str]] = defaultdict(list)
    written: dict[str, None] = {}
    for cue in touching:
        line = " ".join(cue.text.split())
        if line and cue.origin == "ocr":
            written[line] = None
        elif line:
            sources[cue.origin, cue.stream_index, cue.sidecar].append(line)
    said = max(map(" ".join, sources.values()), key=len, default="")
    on_screen = " ".join(written)
    return SpanText(
        transcript=said[:MAX_CHARACTERS] or None, screen_text=on_screen[:MAX_CHARACTERS] or None
    )


def keyframes_to_show(keyframes: Sequence[Keyframe], count: int) -> list[Keyframe]:
    """At most ``count`` (1 or more) keyframes in order of time, one of each picture.

    The most typical of the first shot is always there; the others lie as far from it, and from
    each other, as they can.
    """
    by_typicality = sorted(keyframes, key=lambda k: (k.keyframe_index, k.at_ms, k.shot_index))
    different: dict[tuple[str, int | str], Keyframe] = {}
    for keyframe in by_typicality:
        number = keyframe.picture_index
        key = ("sha", keyframe.sha256) if number is None else ("picture", number)
        different.setdefault(key, keyframe)
    left = list(different.values())
    chosen = left[:1]
    left = left[1:]
    while left and len(chosen) < count:
        farthest = max(left, key=lambda k: min(abs(k.at_ms - c.at_ms) for c in chosen))
        chosen.append(farthest)
        left.remove(farthest)
    return sorted(chosen, key=lambda k: (k.at_ms, k.shot_index))
