"""Rules of the settings: which one takes an object, and what its jobs look like."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from pipeline.config import RuleOptions
from pipeline.errors import ConfigurationError
from pipeline.storage.sources import has_media_extension
from schemas.messages import JobMessage


def rule_for(
    rules: Mapping[str, RuleOptions], bucket: str, key: str
) -> tuple[str, RuleOptions] | None:
    """The most specific rule that takes the key, by name: the longest prefix, then the longest
    suffix, then the first in the settings."""
    taking = [
        ((len(rule.prefix), suffix), name, rule)
        for name, rule in rules.items()
        if (suffix := _taken_by(rule, bucket, key)) is not None
    ]
    if not taking:
        return None
    _, name, rule = max(taking, key=lambda entry: entry[0])
    return name, rule


def rule_message(
    name: str, rule: RuleOptions, source: str, /, *, title: str, **fields: Any
) -> JobMessage:
    """A job of a rule; ``fields`` are further ones of the message.

    Raises:
        ConfigurationError: the rule is wrong; the message says where.
    """
    try:
        return JobMessage(
            version=1,
            sources=(source,),
            name=title[:200],
            profile=rule.profile,
            priority=rule.priority,
            labels=rule.labels,
            **fields,
        )
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise ConfigurationError(
            f"the rule {name} makes no valid job: {where}: {problem['msg']}"
        ) from error


def _taken_by(rule: RuleOptions, bucket: str, key: str) -> int | None:
    """The length of the suffix by which a rule takes the key; ``None`` where it does not."""
    if bucket != rule.bucket or not key.startswith(rule.prefix) or _is_hidden(key, rule.prefix):
        return None
    if not rule.suffixes:
        return 0 if has_media_extension(key) else None
    name = key.lower()
    return max(
        (len(suffix) for suffix in rule.suffixes if name.endswith(suffix.lower())), default=None
    )


def _is_hidden(key: str, prefix: str) -> bool:
    """Whether a name below the prefix starts with a dot: listings leave such out, so do events."""
    names = key.removeprefix(prefix).split("/")
    below = names if not prefix or prefix.endswith("/") else names[1:]
    return any(name.startswith(".") and name not in {".", ".."} for name in below)
