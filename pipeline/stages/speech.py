"""speech: 16 kHz sound → cues of what was said."""

from dataclasses import dataclass

from pipeline.errors import ConfigurationError
from pipeline.models.base import Transcript
from pipeline.stages.base import Models, StageInputs, StageOutput, StageSpec
from schemas.records import Cue


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechParams:
    """``min_confidence``: segments recognised with less (0-1) are dropped."""

    min_confidence: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.min_confidence <= 1:
            raise ConfigurationError(
                f"speech.min_confidence is {self.min_confidence}: give a number from 0 to 1"
            )


def run(inputs: StageInputs, params: SpeechParams, models: Models) -> StageOutput:
    samples = inputs.audio()
    if samples is None or samples.size == 0:
        return StageOutput(records={"cues": ()})
    transcript: Transcript = models.infer("speech", [samples])[0]
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
                for segment in transcript.segments
                if segment.confidence >= params.min_confidence
            ]
        }
    )


SPEC = StageSpec(
    name="speech",
    queue="device",
    code_version=1,
    kinds=frozenset({"video", "audio"}),
    inputs=("audio",),
    outputs=("cues",),
    roles=("speech",),
    credited_role="speech",
    needs_audio=True,
    params=SpeechParams,
    run=run,
)
