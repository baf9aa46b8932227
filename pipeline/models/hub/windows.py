"""Cutting long sound into windows a speech model can read, and its tokens into timed segments."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.models.base import SpokenSegment
from schemas.records import FloatArray

SAMPLE_RATE_HZ = 16_000
#: Whisper reads exactly this much at once.
WINDOW_SECONDS = 30
#: Cuts are aimed at equal windows of at most this much, which leaves room to move each cut.
_TARGET_SECONDS = 28
#: A cut moves up to this far to the quietest place, so that few words are cut in two.
_CUT_SLACK_SECONDS = 1
_QUIET_SECONDS = 0.1
#: One step of Whisper's timestamp tokens.
TIMESTAMP_MS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Samples ``[start, end)`` of one sound."""

    start: int
    end: int


def cut_windows(samples: FloatArray) -> list[Window]:
    """Cover the sound with windows of at most 30 s, without gaps, cut where it is quiet."""
    total = len(samples)
    if total == 0:
        return []
    count = math.ceil(total / (_TARGET_SECONDS * SAMPLE_RATE_HZ))
    if total <= WINDOW_SECONDS * SAMPLE_RATE_HZ:
        count = 1
    cuts = [_quietest_near(samples, total * index // count) for index in range(1, count)]
    edges = [0, *cuts, total]
    return [Window(start=a, end=b) for a, b in itertools.pairwise(edges)]


def _quietest_near(samples: FloatArray, at: int) -> int:
    """The middle of the quietest tenth of a second around sample ``at``."""
    slack = _CUT_SLACK_SECONDS * SAMPLE_RATE_HZ
    width = int(_QUIET_SECONDS * SAMPLE_RATE_HZ)
    around = samples[at - slack : at + slack].astype(np.float64)
    energy = np.convolve(around**2, np.ones(width), mode="valid")
    return at - slack + int(energy.argmin()) + width // 2


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSpan:
    """Text tokens between two timestamps; ``log_prob``: mean over the text tokens.

    ``token_log_probs`` and ``token_ends_ms`` are those of each token, the latter where the model
    was asked for them.
    """

    start_ms: int
    end_ms: int | None
    tokens: tuple[int, ...]
    log_prob: float
    token_log_probs: tuple[float, ...] = ()
    token_ends_ms: tuple[int, ...] = ()


def spans_of_tokens(
    tokens: Sequence[int],
    log_probs: Sequence[float],
    *,
    first_timestamp: int,
    end_token: int,
    ends_ms: Sequence[int] | None = None,
) -> list[TokenSpan]:
    """Split ``<|t0|> text <|t1|><|t1|> text <|t2|> …`` at the timestamps.

    Tokens from ``first_timestamp`` on are times in steps of 20 ms from the start of the window.
    ``end_ms`` is ``None`` where decoding stopped before the closing timestamp. ``ends_ms``: when
    each token ends.
    """
    spans: list[TokenSpan] = []
    start_ms = 0
    text: list[int] = []
    scores: list[float] = []
    ends: list[int] = []

    def close(end_ms: int | None) -> None:
        if text:
            spans.append(
                TokenSpan(
                    start_ms=start_ms,
                    end_ms=end_ms,
                    tokens=tuple(text),
                    log_prob=sum(scores) / len(scores),
                    token_log_probs=tuple(scores),
                    token_ends_ms=tuple(ends),
                )
            )
        text.clear()
        scores.clear()
        ends.clear()

    for index, (token, score) in enumerate(zip(tokens, log_probs, strict=True)):
        if token == end_token:
            break
        if token >= first_timestamp:
            at_ms = (token - first_timestamp) * TIMESTAMP_MS
            close(at_ms)
            start_ms = at_ms
        else:
            text.append(token)
            scores.append(score)
            if ends_ms is not None:
                ends.append(ends_ms[index])
    close(None)
    return spans


def place_segment(span: TokenSpan, text: str, window: Window) -> SpokenSegment | None:
    """The span on the clock of the whole sound; ``None`` for one that says nothing.

    Whisper pads a short window with silence and may set times there: ends are clipped to the
    window, and what starts after its end was made up.
    """
    offset_ms = window.start * 1000 // SAMPLE_RATE_HZ
    length_ms = (window.end - window.start) * 1000 // SAMPLE_RATE_HZ
    if not text or span.start_ms >= length_ms:
        return None
    end_ms = length_ms if span.end_ms is None else span.end_ms
    end_ms = min(max(end_ms, span.start_ms + TIMESTAMP_MS), length_ms)
    return SpokenSegment(
        start_ms=offset_ms + span.start_ms,
        end_ms=offset_ms + end_ms,
        text=text,
        confidence=math.exp(span.log_prob),
    )
