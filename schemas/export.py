"""Writes the JSON Schemas of messages and events: ``python -m schemas.export``."""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from schemas.events import AssetFinished, JobFinished
from schemas.messages import JobMessage

FOLDER = Path(__file__).parent / "json"
JOB_MESSAGE_FILE = FOLDER / "job-message.v1.json"
EVENT_FILES: dict[Path, type[BaseModel]] = {
    FOLDER / "asset-finished.v1.json": AssetFinished,
    FOLDER / "job-finished.v1.json": JobFinished,
}

EXAMPLE: dict[str, Any] = {
    "version": 1,
    "sources": ["s3://archive/2024/", "s3://archive/specials/opening.mov"],
    "job_key": "archive-2024",
    "name": "The archive of 2024",
    "priority": 10,
    "labels": ["interview", "landscape", "crowd"],
    "parameters": {"split": {"min_shot_ms": 500}},
    "webhook": "https://hooks.example/mediaweave",
}


class MessageSchema(GenerateJsonSchema):
    """pydantic's schema; texts that are stripped before they are measured are not all blank."""

    def str_schema(self, schema: core_schema.StringSchema) -> JsonSchemaValue:
        made = super().str_schema(schema)
        if schema.get("strip_whitespace") and schema.get("min_length"):
            made.setdefault("pattern", r"\S")
        return made


def job_message_schema() -> dict[str, Any]:
    """The schema of version 1 of the job message."""
    schema = JobMessage.model_json_schema(schema_generator=MessageSchema)
    return {
        "$schema": GenerateJsonSchema.schema_dialect,
        **schema,
        "title": "mediaweave job message, version 1",
        "examples": [EXAMPLE],
    }


def event_schema(event: type[BaseModel]) -> dict[str, Any]:
    """The schema of an event's body."""
    return {
        "$schema": GenerateJsonSchema.schema_dialect,
        **event.model_json_schema(mode="serialization"),
    }


def as_text(schema: dict[str, Any]) -> str:
    """The schema as it is written to a file."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    JOB_MESSAGE_FILE.parent.mkdir(exist_ok=True)
    JOB_MESSAGE_FILE.write_text(as_text(job_message_schema()), encoding="utf-8")
    for file, event in EVENT_FILES.items():
        file.write_text(as_text(event_schema(event)), encoding="utf-8")


if __name__ == "__main__":
    main()
