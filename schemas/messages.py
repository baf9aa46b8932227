"""Messages from outside: what a job submission looks like, whatever carries it."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Name = Annotated[str, StringConstraints(min_length=1, max_length=200, strip_whitespace=True)]
Source = Annotated[str, StringConstraints(min_length=1, max_length=4096)]
Webhook = Annotated[str, StringConstraints(max_length=2048, pattern=r"^https?://[^\s]+$")]


class JobMessage(BaseModel):
    """A job: analyse these sources under this profile. No text in it holds a NUL (U+0000)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = Field(1, description="Version of this schema.")
    sources: tuple[Source, ...] = Field(
        min_length=1,
        max_length=10_000,
        description="Files, folders or s3://bucket/prefix; a folder or prefix is listed whole.",
    )
    profile: Name | None = Field(None, description="Profile name; the settings' own if absent.")
    name: Name | None = Field(None, description="A name for people; made of the sources if absent.")
    job_key: Name | None = Field(
        None, description="Submitting the same key again returns the job there is."
    )
    priority: int = Field(0, ge=-100, le=100, description="Higher goes first.")
    labels: tuple[Name, ...] | None = Field(
        None, max_length=10_000, description="The user's own labels to classify against."
    )
    label_set: Name | None = Field(
        None, description="Name under which the labels' classes are stored; `custom` if absent."
    )
    parameters: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description='Overrides of stage parameters, by stage: {"split": {"min_shot_ms": 500}}.',
    )
    only_new: bool = Field(
        False, description="Leave out files that were submitted before in their present version."
    )
    rule: Name | None = Field(
        None,
        description="Sweep: the sources are prefixes, of which what this rule of the settings "
        "takes is submitted; what is known and not there any more is marked as gone.",
    )
    webhook: Webhook | None = Field(
        None, description="Called when the job ends; its host must be allowed by the settings."
    )
