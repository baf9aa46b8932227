"""The published schema of the job message says what the code does."""

import json
from importlib.resources import files
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from pipeline.errors import InvalidMessageError
from pipeline.runner.intake import read_message
from schemas.export import EXAMPLE, JOB_MESSAGE_FILE, as_text, job_message_schema

VALIDATOR = Draft202012Validator(job_message_schema())


def test_the_file_is_what_the_model_says() -> None:
    assert JOB_MESSAGE_FILE.read_text(encoding="utf-8") == as_text(job_message_schema()), (
        "run `python -m schemas.export`"
    )
    packaged = files("schemas").joinpath("json/job-message.v1.json")
    assert json.loads(packaged.read_text(encoding="utf-8")) == job_message_schema()


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(job_message_schema())
    assert job_message_schema()["examples"] == [EXAMPLE]
    assert "$id" not in job_message_schema()


GOOD: list[dict[str, Any]] = [
    EXAMPLE,
    {"sources": ["s3://bucket/prefix"]},
    {"version": 1, "sources": ["/media"] * 10_000},
    {"sources": ["x"], "profile": None, "name": None, "labels": None, "webhook": None},
    {"sources": ["x"], "priority": -100, "labels": [], "parameters": {}, "only_new": True},
    {"sources": ["x"], "job_key": "k" * 200, "label_set": "étiquettes"},
]
BAD: list[Any] = [
    None,
    [],
    "s3://bucket/prefix",
    {},
    {"sources": []},
    {"sources": [""]},
    {"sources": [1]},
    {"sources": "s3://bucket/prefix"},
    {"sources": ["x"] * 10_001},
    {"sources": ["x" * 4097]},
    {"sources": ["x"], "version": 2},
    {"sources": ["x"], "version": None},
    {"sources": ["x"], "colour": "red"},
    {"sources": ["x"], "priority": 101},
    {"sources": ["x"], "priority": 0.5},
    {"sources": ["x"], "job_key": ""},
    {"sources": ["x"], "name": " \t "},
    {"sources": ["x"], "job_key": "k" * 201},
    {"sources": ["x"], "labels": [""]},
    {"sources": ["x"], "parameters": {"split": 3}},
    {"sources": ["x"], "only_new": None},
    {"sources": ["x"], "webhook": "ftp://host/"},
    {"sources": ["x"], "webhook": "https://"},
]


@pytest.mark.parametrize("message", GOOD)
def test_good_messages_are_good_for_both(message: dict[str, Any]) -> None:
    assert VALIDATOR.is_valid(message)
    assert read_message(json.dumps(message)).sources == tuple(message["sources"])


@pytest.mark.parametrize("message", BAD)
def test_bad_messages_are_bad_for_both(message: Any) -> None:
    assert not VALIDATOR.is_valid(message)
    with pytest.raises(InvalidMessageError):
        read_message(json.dumps(message))


#: Without NUL, which a schema cannot forbid in texts at any depth; its description does.
_TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=5)
_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    _TEXTS,
    st.lists(_TEXTS, max_size=3),
    st.dictionaries(_TEXTS, st.dictionaries(_TEXTS, st.integers())),
)
_FIELDS = sorted(job_message_schema()["properties"])


@given(st.dictionaries(st.sampled_from(_FIELDS), _VALUES, max_size=4), _TEXTS)
def test_what_follows_the_schema_is_taken(fields: dict[str, Any], source: str) -> None:
    message = {"sources": [source], **fields}
    if VALIDATOR.is_valid(message):
        assert list(read_message(json.dumps(message)).sources) == message["sources"]
