"""How it ends: a result, or one clear sentence; and what is left behind."""

import re
from collections.abc import Iterator

from conformance.outcomes import LIMITS, MAX_CHILD_BYTES, Case

from pipeline.errors import InvalidMediaError, ResourceExhaustedError

_MAX_SENTENCE_CHARS = 400
#: What only a programmer would understand, and folders of this machine.
_INTERNAL = re.compile(r"Traceback|Errno|0x[0-9a-f]{6}|/tmp/|pytest-|<class|object at")
_SAYS_SO = {
    "encrypted": re.compile("encrypt", re.IGNORECASE),
    "unsupported": re.compile(
        "not supported|unsupported|does not (open|read)|no decoder|cannot read this kind",
        re.IGNORECASE,
    ),
}


def check_ending(case: Case) -> Iterator[str]:
    """By ``expect``."""
    error, expect = case.outcome.error, case.entry.expect
    if error is None:
        yield from _succeeded(case, expect)
        return
    if expect == "decode":
        yield f"cannot be split: {type(error).__name__}: {error}"
    allowed = (InvalidMediaError,)
    if expect == "bounded":
        allowed = (InvalidMediaError, ResourceExhaustedError)
    if expect != "decode" and not isinstance(error, allowed):
        yield f"ends with {type(error).__name__}: {error}"
    yield from _unclear(str(error))
    if expect in _SAYS_SO and not _SAYS_SO[expect].search(str(error)):
        yield f"does not say that it is {expect}: {error}"


def _succeeded(case: Case, expect: str) -> Iterator[str]:
    result = case.outcome.result
    if expect in {"reject", "unsupported", "encrypted"}:
        yield f"counts as media, but is to be refused ({expect})"
    if expect == "partial" and result is not None and not result.notes:
        yield "is damaged, but no note says so"
    for note in result.notes if result is not None else ():
        yield from _unclear(note)


def _unclear(sentence: str) -> Iterator[str]:
    if not sentence.strip() or not sentence.isprintable():
        yield f"no printable sentence: {sentence!r}"
    if len(sentence) > _MAX_SENTENCE_CHARS:
        yield f"a sentence of {len(sentence)} characters: {sentence}"
    if _INTERNAL.search(sentence):
        yield f"a sentence that only a programmer understands: {sentence}"


def check_bounds(case: Case) -> Iterator[str]:
    """Time, memory, and the work directory."""
    outcome = case.outcome
    if outcome.left:
        yield f"left in the work directory: {outcome.left}"
    if outcome.seconds > LIMITS.probe_seconds + LIMITS.wall_seconds:
        yield f"took {outcome.seconds:.0f} s, more than the limits allow"
    if outcome.child_bytes > MAX_CHILD_BYTES:
        yield f"a child took {outcome.child_bytes // 1024**2} MiB while this file was worked on"
    if outcome.result is not None and len(outcome.result.cues) > LIMITS.max_cues:
        yield f"{len(outcome.result.cues)} cues, more than the limit"
