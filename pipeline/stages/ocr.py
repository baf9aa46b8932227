"""ocr: keyframes → cues of the text that stands in the picture, timed by its shot; pictures of
subtitles → cues of what they say."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from pipeline.errors import ConfigurationError
from pipeline.media import cue_pictures
from pipeline.models.base import TextRegion
from pipeline.stages.base import (
    Models,
    StageInputs,
    StageOutput,
    StageSpec,
    distinct_pictures,
)
from schemas.records import Cue, Keyframe, Shot


@dataclass(frozen=True, slots=True, kw_only=True)
class OcrParams:
    """``min_confidence``: lines read with less (0-1) are dropped as noise."""

    min_confidence: float = 0.7

    def __post_init__(self) -> None:
        if not 0 <= self.min_confidence <= 1:
            raise ConfigurationError(
                f"ocr.min_confidence is {self.min_confidence}: give a number from 0 to 1"
            )


def run(inputs: StageInputs, params: OcrParams, models: Models) -> StageOutput:
    keyframes = sorted(inputs.keyframes(), key=lambda frame: (frame.shot_index, frame.at_ms))
    pictures, place_of = distinct_pictures(keyframes)
    pages = list(models.map("ocr", (inputs.image(picture) for picture in pictures)))
    cues: list[Cue] = []
    # Text → place of its newest cue, among the cues of the shot.
    seen: dict[str, int] = {}
    for place, span in zip(place_of, _spans(inputs.shots(), keyframes), strict=True):
        if span.is_first:
            seen.clear()
        for text, region in _best_regions(pages[place], params.min_confidence).items():
            cue = Cue(
                origin="ocr",
                start_ms=span.start_ms,
                end_ms=span.end_ms,
                text=text,
                confidence=region.confidence,
                box=region.box,
            )
            at = seen.get(text)
            if at is not None and cues[at].end_ms == cue.start_ms:
                cues[at] = _joined(cues[at], cue)
            else:
                seen[text] = len(cues)
                cues.append(cue)
    return StageOutput(records={"cues": [*cues, *_subtitles(inputs, params, models)]})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Span:
    """While a keyframe's text counts as being there. ``is_first``: of its shot."""

    start_ms: int
    end_ms: int
    is_first: bool


def _spans(shots: Sequence[Shot], keyframes: Sequence[Keyframe]) -> Iterator[_Span]:
    """From each keyframe to the next one of its shot; the first from the shot's beginning."""
    by_index = {shot.shot_index: shot for shot in shots}
    for at, keyframe in enumerate(keyframes):
        shot = by_index[keyframe.shot_index]
        is_first = at == 0 or keyframes[at - 1].shot_index != keyframe.shot_index
        later = keyframes[at + 1] if at + 1 < len(keyframes) else None
        is_last = later is None or later.shot_index != keyframe.shot_index
        yield _Span(
            start_ms=shot.start_ms if is_first else keyframe.at_ms,
            end_ms=shot.end_ms if later is None or is_last else later.at_ms,
            is_first=is_first,
        )


def _best_regions(page: Sequence[TextRegion], least: float) -> dict[str, TextRegion]:
    """Of equal lines in one picture the one that was read best."""
    best: dict[str, TextRegion] = {}
    for region in page:
        other = best.get(region.text)
        if region.confidence >= least and (other is None or other.confidence < region.confidence):
            best[region.text] = region
    return best


def _joined(earlier: Cue, later: Cue) -> Cue:
    better = max(earlier, later, key=lambda cue: cue.confidence or 0)
    return replace(better, start_ms=earlier.start_ms, end_ms=later.end_ms)


def _subtitles(inputs: StageInputs, params: OcrParams, models: Models) -> Iterator[Cue]:
    """The subtitles that are pictures; equal ones are read once."""
    pictures = cue_pictures(inputs.arrays("cue_pictures"))
    distinct = {picture.png: picture for picture in pictures}
    pages = models.map("ocr", (picture.pixels() for picture in distinct.values()))
    said = dict(zip(distinct, pages, strict=True))
    for picture in pictures:
        regions = [r for r in said[picture.png] if r.confidence >= params.min_confidence]
        if regions:
            yield Cue(
                origin="subtitle",
                start_ms=picture.start_ms,
                end_ms=picture.end_ms,
                text=_lines(regions),
                stream_index=picture.stream_index,
                sidecar=picture.sidecar,
                language=picture.language,
                confidence=min(region.confidence for region in regions),
            )


def _lines(regions: Sequence[TextRegion]) -> str:
    """The text of a subtitle; what stands side by side is one line."""
    lines: list[list[TextRegion]] = []
    for region in sorted(regions, key=lambda region: region.box.top):
        middle = region.box.top + region.box.height / 2
        if lines and middle < lines[-1][0].box.top + lines[-1][0].box.height:
            lines[-1].append(region)
        else:
            lines.append([region])
    return "\n".join(
        " ".join(r.text for r in sorted(line, key=lambda region: region.box.left)) for line in lines
    )


SPEC = StageSpec(
    name="ocr",
    queue="device",
    code_version=2,
    kinds=frozenset({"video", "image"}),
    inputs=("shots", "keyframes", "cue_pictures"),
    outputs=("cues",),
    roles=("ocr",),
    credited_role="ocr",
    params=OcrParams,
    run=run,
)
