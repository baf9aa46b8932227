"""A message that is not valid is refused with the reason."""

from typing import Any

import pytest

from pipeline.errors import InvalidMessageError
from workers.cli.run import parse_message


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"sources": []}, "sources"),
        ({"sources": [""]}, r"sources\.0"),
        ({"sources": ["x"], "priority": 1000}, "priority"),
        ({"sources": ["x"], "labels": ["a", " "]}, r"labels\.1"),
        ({"sources": ["x"], "parameters": {"split": 3}}, r"parameters\.split"),
        ({"sources": ["x"], "colour": "red"}, "colour: Extra inputs are not permitted"),
        ({}, "sources: Field required"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidMessageError, match=f"the job is not valid: {sentence}"):
        parse_message(**fields)


def test_a_valid_message_is_taken_as_it_is() -> None:
    message = parse_message(sources=["s3://b/p"], labels=["cat"], job_key="k")
    assert message.sources == ("s3://b/p",)
    assert message.labels == ("cat",)
    assert message.profile is None
