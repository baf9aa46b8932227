"""``mediaweave sweep RULE``."""

import dataclasses
import json

import pytest
from command import Cli


@pytest.fixture
def ruled(cli: Cli) -> Cli:
    rules = {"films": {"bucket": "b", "prefix": "in/", "priority": 4}}
    return dataclasses.replace(cli, settings={"MEDIAWEAVE_RULES": json.dumps(rules)})


def test_a_sweep_is_a_job(ruled: Cli) -> None:
    made = ruled("sweep", "films", "--json")
    assert made.code == 0, made.err
    job = made.json
    assert (job["name"], job["priority"], job["state"]) == ("sweep of films", 4, "expanding")
    again = ruled("sweep", "films")
    assert again.out == "job 2: sweep of films, s3://b/in/, expanding\n"


def test_an_unknown_rule_is_said(ruled: Cli) -> None:
    result = ruled("sweep", "flims")
    assert result.code == 2
    assert result.err == (
        "mediaweave: there is no rule 'flims' in the settings (there are: films)\n"
    )
