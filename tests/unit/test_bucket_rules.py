"""Which rule takes a key."""

import pytest

from pipeline.config import RuleOptions
from pipeline.errors import ConfigurationError
from pipeline.runner.bucket_rules import rule_for, rule_message
from pipeline.runner.sweep import sweep_message
from schemas.messages import JobMessage

RULES = {
    "all": RuleOptions(bucket="films"),
    "news": RuleOptions(bucket="films", prefix="news/"),
    "masters": RuleOptions(bucket="films", prefix="news/", suffixes=("_master.MOV",)),
    "raw": RuleOptions(bucket="films", prefix="raw-", suffixes=(".r3d", ".mov")),
}


@pytest.mark.parametrize(
    ("key", "rule"),
    [
        ("a.mp4", "all"),
        ("deep/er/a.MP4", "all"),
        ("a.txt", None),
        ("a.srt", None),
        ("mp4", None),
        (".hidden.mp4", None),
        ("deep/.trash/a.mp4", None),
        ("news/a.mp4", "news"),
        ("news/.a.mp4", None),
        ("newspaper.mp4", "all"),
        ("news/x_MASTER.mov", "masters"),
        ("news/x.mov", "news"),
        ("raw-1/a.r3d", "raw"),
        ("raw-1.R3D", "raw"),
        # What follows the prefix may be the middle of a name, and is not hidden then.
        ("raw-.r3d", "raw"),
        ("raw-/.a.r3d", None),
        ("raw-1/a.mp4", "all"),
    ],
)
def test_the_most_specific_rule_takes_a_key(key: str, rule: str | None) -> None:
    taker = rule_for(RULES, "films", key)
    assert (taker and taker[0]) == rule
    assert rule_for(RULES, "other", key) is None


def test_of_equals_the_first_takes() -> None:
    rules = {name: RuleOptions(bucket="films", profile=name) for name in ("b", "a")}
    assert rule_for(rules, "films", "x.mp4") == ("b", rules["b"])


def test_a_rule_makes_a_sweep() -> None:
    rule = RuleOptions(
        bucket="films", prefix="news/", profile="hub", priority=7, labels=("cat", "dog")
    )
    assert sweep_message("news", rule) == JobMessage(
        version=1,
        sources=("s3://films/news/",),
        name="sweep of news",
        profile="hub",
        priority=7,
        labels=("cat", "dog"),
        only_new=True,
        rule="news",
    )


def test_a_rule_that_makes_no_valid_job_is_named() -> None:
    rule = RuleOptions(bucket="films", labels=("x" * 1000,))
    with pytest.raises(ConfigurationError, match=r"rule news makes no valid job: labels\.0"):
        rule_message("news", rule, "s3://films/a.mp4", title="a")
