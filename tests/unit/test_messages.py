"""A message that is not valid is refused with the reason."""

from typing import Any

import pytest

from pipeline.errors import InvalidMessageError
from pipeline.runner.intake import read_message


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
        read_message(fields)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        ("[" * 100_000, "nested too deeply"),
        ("[1]", "not an object"),
        ('{"sources": ["a\\u0000b"]}', "NUL"),
        ('{"sources": ["a"], "version": 2}', "version"),
    ],
)
def test_a_body_that_is_no_message_is_refused(body: str | bytes, sentence: str) -> None:
    with pytest.raises(InvalidMessageError, match=sentence):
        read_message(body)


def test_a_valid_message_is_taken_as_it_is() -> None:
    message = read_message('{"sources": ["s3://b/p"], "labels": ["cat"], "job_key": "k"}')
    assert message.sources == ("s3://b/p",)
    assert read_message('{"sources": ["a\\\\u0000"]}').sources == ("a\\u0000",)
    assert message.labels == ("cat",)
    assert message.profile is None
