"""The plan of a job, as stored with it: which models and parameters every stage uses."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class ModelRef(BaseModel):
    """A model by name and revision."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    revision: str


class StagePlan(BaseModel):
    """One stage of a plan: all of its parameters, and its models by role."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    parameters: dict[str, Any] = Field(default_factory=dict)
    models: dict[str, ModelRef] = Field(default_factory=dict)


class JobPlan(BaseModel):
    """What a job does to every asset."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    profile: str
    stages: dict[str, StagePlan]
