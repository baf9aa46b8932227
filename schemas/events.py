"""What mediaweave tells the world: the bodies of events, whatever carries them.

Fields may be added within a version, so that a reader must let unknown ones pass; a change that
breaks readers takes a new version and a new file in ``schemas/json``.
"""

from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

#: Where an asset, or a job, can end.
EndState = Literal["done", "failed", "cancelled"]

_JobKey = Annotated[str | None, Field(description="What the client called the job, if it did.")]
_ErrorClass = Annotated[
    str | None, Field(description="Kind of failure, as in `v_stage_runs.error_class`.")
]
_ErrorText = Annotated[str | None, Field(description="One sentence for a person.")]


class AssetFinished(BaseModel):
    """An item of a job has come to its end: everything is done for it, or will not be."""

    model_config = ConfigDict(
        frozen=True, title="asset.finished", json_schema_serialization_defaults_required=True
    )

    event: Literal["asset.finished"] = "asset.finished"
    version: Literal[1] = 1
    job_id: int
    job_key: _JobKey
    asset_id: Annotated[
        int | None, Field(description="Null where the bytes could not be ingested.")
    ]
    uri: Annotated[str, Field(description="The place that was submitted.")]
    sha256: Annotated[str | None, Field(description="Of the content, in hexadecimal.")]
    status: EndState
    error_class: _ErrorClass
    error_text: _ErrorText
    finished_at: AwareDatetime


class JobFinished(BaseModel):
    """A job has come to its end: it is listed whole, and so have all its items."""

    model_config = ConfigDict(
        frozen=True, title="job.finished", json_schema_serialization_defaults_required=True
    )

    event: Literal["job.finished"] = "job.finished"
    version: Literal[1] = 1
    job_id: int
    job_key: _JobKey
    name: str
    state: Annotated[EndState, Field(description="`failed` where an asset failed, or the listing.")]
    assets_total: int
    assets_done: int
    assets_failed: int
    assets_cancelled: int
    error_class: Annotated[
        str | None, Field(description="Kind of failure where the sources could not be listed.")
    ]
    error_text: _ErrorText
    finished_at: AwareDatetime
