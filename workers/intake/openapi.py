"""The OpenAPI document of the HTTP intake, made of the models that the code itself uses."""

from datetime import UTC, datetime
from importlib import metadata
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.json_schema import models_json_schema

from schemas.export import EXAMPLE, MessageSchema
from schemas.messages import JobMessage

Document = dict[str, Any]


def _in_utc(moment: datetime) -> datetime:
    # SQLite's views give UTC without saying so, PostgreSQL's give the session's zone.
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


Moment = Annotated[datetime, AfterValidator(_in_utc)]


class JobAnswer(BaseModel):
    """A job that is in the database."""

    job_id: int
    is_new: bool = Field(description="False: this key was submitted before; nothing was changed.")


class JobState(BaseModel):
    """The job as `v_jobs` shows it; versions to come may add fields."""

    model_config = ConfigDict(extra="allow")

    job_id: int
    name: str
    priority: int
    submitted_at: Moment
    finished_at: Moment | None
    assets_total: int
    assets_done: int
    assets_failed: int
    state: str = Field(
        description="`expanding` (its sources are being listed), `running`, `paused`, "
        "`cancelling`, `done`, `failed` or `cancelled`."
    )


class Problem(BaseModel):
    """Why the request was not fulfilled, in one sentence."""

    error: str


class Health(BaseModel):
    """The process is there and listens."""

    status: str


#: What a POST on ``/v1/jobs/{job_id}/…`` does.
ACTIONS = {
    "cancel": "End the job: nothing more of it is started.",
    "pause": "Start nothing more of the job until it is resumed.",
    "resume": "Go on with a paused job.",
    "retry": "Queue what failed in the job again.",
}


def openapi_document() -> Document:
    """OpenAPI 3.1."""
    _, definitions = models_json_schema(
        [
            (JobMessage, "validation"),
            *((model, "serialization") for model in (JobAnswer, JobState, Problem, Health)),
        ],
        ref_template="#/components/schemas/{model}",
        schema_generator=MessageSchema,
    )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "mediaweave intake",
            "description": "Submit jobs of media analysis, and look after them.",
            "version": metadata.version("mediaweave"),
        },
        "security": [{"token": []}],
        "paths": {
            "/v1/jobs": {"post": _submit()},
            "/v1/jobs/{job_id}": {"get": _show()},
            **{
                f"/v1/jobs/{{job_id}}/{action}": {"post": _act(action, summary)}
                for action, summary in ACTIONS.items()
            },
            "/v1/openapi.json": {"get": _open("openapi", "This document.", {"type": "object"})},
            "/healthz": {"get": _open("health", "Whether the intake is there.", _ref("Health"))},
        },
        "components": {
            "schemas": definitions["$defs"],
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _submit() -> Document:
    location = {"description": "Where the job is.", "schema": {"type": "string"}}
    return {
        "operationId": "submitJob",
        "summary": "Submit a job.",
        "parameters": [
            {
                "name": "Idempotency-Key",
                "in": "header",
                "description": "Stands in for a `job_key` that the message does not give: the "
                "same key again returns the job there is.",
                "schema": {"type": "string", "minLength": 1},
            }
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": _ref("JobMessage"), "example": EXAMPLE},
            },
        },
        "responses": {
            "202": {
                **_answer("A new job.", _ref("JobAnswer")),
                "headers": {"Location": location},
            },
            "200": {
                **_answer("The job that this key was submitted for before.", _ref("JobAnswer")),
                "headers": {"Location": location},
            },
            **_problems(
                {
                    "400": "The message is not valid.",
                    "408": "The body took too long.",
                    "413": "The message is too long.",
                    "415": "The body is not announced as JSON.",
                }
            ),
        },
    }


def _show() -> Document:
    return {
        "operationId": "showJob",
        "summary": "The state of a job.",
        "parameters": [_job_id()],
        "responses": {
            "200": _answer("The job.", _ref("JobState")),
            **_problems({"404": "There is no such job."}),
        },
    }


def _act(action: str, summary: str) -> Document:
    return {
        "operationId": f"{action}Job",
        "summary": summary,
        "parameters": [_job_id()],
        "responses": {
            "200": _answer("The job as it is now.", _ref("JobState")),
            **_problems({"404": "There is no such job."}),
        },
    }


def _open(operation: str, summary: str, schema: Document) -> Document:
    return {
        "operationId": operation,
        "summary": summary,
        "security": [],
        "responses": {"200": _answer(summary, schema)},
    }


def _problems(own: dict[str, str]) -> Document:
    every = {
        "401": "No token, or one that is not known.",
        "503": "The database is away; try again after `Retry-After` seconds.",
    }
    return {code: _answer(text, _ref("Problem")) for code, text in sorted((own | every).items())}


def _job_id() -> Document:
    return {"name": "job_id", "in": "path", "required": True, "schema": {"type": "integer"}}


def _answer(description: str, schema: Document) -> Document:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _ref(name: str) -> Document:
    return {"$ref": f"#/components/schemas/{name}"}
