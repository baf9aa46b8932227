"""A plan of stages that do nothing: what is left is the machinery."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from pipeline.plan.graph import STAGES
from pipeline.stages.base import InputName, Models, OutputName, StageInputs, StageOutput, StageSpec
from schemas.plans import JobPlan, StagePlan

#: What each stage of the chain hands to the next one.
OUTPUTS: tuple[OutputName, ...] = ("shots", "keyframes", "cues", "tags")
NAMES = tuple(f"nothing-{number}" for number in range(1, len(OUTPUTS) + 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Nothing:
    """``is_live``: stages of live jobs never sleep."""

    is_live: bool = False


def chain(sleep_seconds: float = 0) -> dict[str, StageSpec]:
    """Stages one after another; those of bulk jobs sleep for so long."""
    specs = {}
    before: InputName = "media"
    for name, output in zip(NAMES, OUTPUTS, strict=True):
        specs[name] = StageSpec(
            name=name,
            queue="cpu",
            code_version=1,
            kinds=frozenset({"image"}),
            inputs=(before,),
            outputs=(output,),
            roles=(),
            params=Nothing,
            run=_run(output, sleep_seconds),
        )
        before = output
    return specs


def _run(
    output: OutputName, sleep_seconds: float
) -> Callable[[StageInputs, Any, Models], StageOutput]:
    def run(inputs: StageInputs, params: Nothing, models: Models) -> StageOutput:
        if sleep_seconds and not params.is_live:
            time.sleep(sleep_seconds)
        return StageOutput(records={output: ()})

    return run


def install(sleep_seconds: float = 0) -> None:
    """Put the chain in the place of the real stages, for every module of this process."""
    stages = cast("dict[str, StageSpec]", STAGES)
    stages.clear()
    stages.update(chain(sleep_seconds))


def plan(*, is_live: bool) -> JobPlan:
    """The plan of a job over the chain."""
    stage = StagePlan(parameters={"is_live": is_live})
    return JobPlan(profile="bench", stages=dict.fromkeys(NAMES, stage))
