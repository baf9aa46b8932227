"""Stages that take no time, of files whose content says what they are ("video 1", "image 7")."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest

from pipeline.media.results import ChildUsage, ProbeResult
from pipeline.plan.graph import STAGES
from pipeline.runner import ingest
from pipeline.stages.base import Models, StageInputs, StageOutput, StageSpec
from schemas.records import Caption, Cue, MediaInfo, Shot

SPAN = {"shot_index": 0, "start_ms": 0, "end_ms": 1000}


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """The parameters of every tiny stage."""

    words: str = "plain"


def _specs() -> dict[str, StageSpec]:
    """split → ocr and, of videos, speech → fuse. The split makes the same of other sidecars."""

    def stage(
        name: str,
        inputs: Any,
        outputs: Any,
        make: Callable[[StageInputs, Words], Any],
        kinds: Any = ("video", "image"),
    ) -> StageSpec:
        def run(stage_inputs: StageInputs, params: Words, models: Models) -> StageOutput:
            return StageOutput(records={outputs[0]: [make(stage_inputs, params)]})

        return StageSpec(
            name=name,
            queue="device" if name == "ocr" else "cpu",
            code_version=1,
            kinds=frozenset(kinds),
            inputs=inputs,
            outputs=outputs,
            roles=(),
            params=Words,
            run=run,
        )

    def cue(origin: Any) -> Callable[[StageInputs, Words], Cue]:
        return lambda inputs, params: Cue(
            origin=origin, start_ms=0, end_ms=inputs.shots()[0].end_ms, text=params.words
        )

    def shot(inputs: StageInputs, params: Words) -> Shot:
        return Shot(shot_index=0, start_ms=0, end_ms=100 * len(params.words))

    def caption(inputs: StageInputs, params: Words) -> Caption:
        return Caption(**SPAN, text=" ".join(c.text for c in inputs.cues()), language="en")

    specs = (
        stage("split", ("media", "sidecars"), ("shots",), shot),
        stage("ocr", ("shots",), ("cues",), cue("ocr")),
        stage("speech", ("shots",), ("cues",), cue("speech"), kinds=("video",)),
        stage("fuse", ("cues",), ("captions",), caption),
    )
    return {spec.name: spec for spec in specs}


def probe(path: Path, work_dir: Path, limits: Any) -> ProbeResult:
    kind: Any = path.read_text().partition(" ")[0]
    return ProbeResult(
        info=MediaInfo(
            kind=kind,
            container="mp4",
            duration_ms=1000,
            width_px=64,
            height_px=36,
            frame_rate=25.0,
            streams=(),
        ),
        usage=ChildUsage(cpu_seconds=0, decoder_cpu_seconds=0, startup_cpu_seconds=0),
    )


@contextmanager
def tiny_stages(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, StageSpec]]:
    """They are the stages, for every module; gives them, to be changed."""
    stages = cast("dict[str, StageSpec]", STAGES)
    real = dict(stages)
    monkeypatch.setattr(ingest, "probe_media", probe)
    stages.clear()
    stages.update(_specs())
    yield stages
    stages.clear()
    stages.update(real)


def meanwhile(stages: dict[str, StageSpec], stage: str, happens: Callable[[], object]) -> None:
    """Let something happen once while a run of the stage is at work."""
    real, times = stages[stage].run, iter([happens])

    def run(inputs: StageInputs, params: Any, models: Models) -> StageOutput:
        output = real(inputs, params, models)
        for each in times:
            each()
        return output

    stages[stage] = replace(stages[stage], run=run)
