"""speech: 16 kHz sound → cues of what was said."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.errors import ConfigurationError
from pipeline.media.languages import normalise_language, speaks
from pipeline.models.base import Transcript
from pipeline.stages.base import InputName, Models, StageInputs, StageOutput, StageSpec
from schemas.records import Cue, Word


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechParams:
    """``min_confidence``: segments recognised with less (0-1) are dropped. ``when``: ``missing``
    listens only where no subtitle in one of ``languages`` (``en``, ``pt-BR``) is there; without
    languages any subtitle does. Subtitles of some lines only (forced ones) do not count."""

    min_confidence: float = 0.0
    when: Literal["missing", "always"] = "missing"
    languages: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.min_confidence <= 1:
            raise ConfigurationError(
                f"speech.min_confidence is {self.min_confidence}: give a number from 0 to 1"
            )

        wrong = [code for code in self.languages if normalise_language(code) is None]
        if wrong:
            raise ConfigurationError(
                f"speech.languages holds {wrong[0]!r}: give language codes like en or pt-BR"
            )


def run(inputs: StageInputs, params: SpeechParams, models: Models) -> StageOutput:
    if params.when == "missing":
        there = _wanted(inputs.arrays("subtitle_languages"), params.languages)
        if there is not None:
            return StageOutput(
                records={"cues": (), "words": ()},
                notes=(f"not listened to: there are subtitles {there} (speech.when is missing)",),
            )
    samples = inputs.audio()
    if samples is None or samples.size == 0:
        return StageOutput(records={"cues": (), "words": ()})
    transcript: Transcript = models.infer("speech", [samples])[0]
    heard = [s for s in transcript.segments if s.confidence >= params.min_confidence]
    return StageOutput(
        records={
            "cues": [
                Cue(
                    origin="speech",
                    start_ms=segment.start_ms,
                    end_ms=segment.end_ms,
                    text=segment.text,
                    language=transcript.language,
                    confidence=segment.confidence,
                )
                for segment in heard
            ],
            "words": [
                Word(
                    cue_index=cue_index,
                    word_index=word_index,
                    start_ms=word.start_ms,
                    end_ms=word.end_ms,
                    text=word.text,
                    confidence=word.confidence,
                )
                for cue_index, segment in enumerate(heard)
                for word_index, word in enumerate(segment.words)
            ],
        }
    )


def _wanted(arrays: Mapping[str, Any], languages: tuple[str, ...]) -> str | None:
    """The first subtitle that makes listening needless, for the inside of a sentence."""
    found: list[str] = json.loads(arrays["json"].tobytes()) if arrays else []
    if not languages:
        return _named(found[0]) if found else None
    return next((_named(c) for c in found if any(speaks(c, one) for one in languages)), None)


def _named(language: str) -> str:
    return f"in {language}" if language else "in an unknown language"


def _unused_inputs(params: Mapping[str, Any], _roles: Collection[str]) -> frozenset[InputName]:
    return frozenset({"subtitle_languages"} if params["when"] == "always" else ())


SPEC = StageSpec(
    name="speech",
    queue="device",
    code_version=3,
    kinds=frozenset({"video", "audio"}),
    inputs=("audio", "subtitle_languages"),
    unused_inputs=_unused_inputs,
    outputs=("cues", "words"),
    roles=("speech",),
    credited_role="speech",
    needs_audio=True,
    params=SpeechParams,
    run=run,
)
