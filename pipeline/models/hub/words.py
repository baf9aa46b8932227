"""Tokens of a spoken segment as words with times."""

import math
import unicodedata
from collections.abc import Callable, Sequence

from pipeline.models.base import SpokenSegment, SpokenWord
from pipeline.models.hub.windows import TokenSpan

#: Written without spaces between words: there every sign is timed by itself.
_WITHOUT_SPACES = frozenset({"zh", "yue", "ja", "th", "lo", "my"})
#: What a tokenizer of bytes shows for a sign that is not complete yet.
_INCOMPLETE = "\ufffd"


def words_of_span(
    span: TokenSpan,
    segment: SpokenSegment,
    *,
    offset_ms: int,
    language: str,
    decode: Callable[[Sequence[int]], str],
) -> tuple[SpokenWord, ...]:
    """The words of ``segment``, which is ``span`` on the clock of the whole sound.

    ``offset_ms``: where the span's window begins. Words follow each other and stay within the
    segment; a word begins where the one before it ends.
    """
    words: list[SpokenWord] = []
    start_ms = segment.start_ms
    for text, indices in _words(span.tokens, language=language, decode=decode):
        end_ms = offset_ms + span.token_ends_ms[indices[-1]]
        end_ms = min(max(end_ms, start_ms), segment.end_ms)
        log_prob = sum(span.token_log_probs[index] for index in indices) / len(indices)
        words.append(
            SpokenWord(start_ms=start_ms, end_ms=end_ms, text=text, confidence=math.exp(log_prob))
        )
        start_ms = end_ms
    return tuple(words)


def _words(
    tokens: Sequence[int], *, language: str, decode: Callable[[Sequence[int]], str]
) -> list[tuple[str, list[int]]]:
    """Texts and the indices of their tokens; punctuation stays with the word it follows."""
    found: list[tuple[str, list[int]]] = []
    open_indices: list[int] = []
    for index in range(len(tokens)):
        open_indices.append(index)
        text = decode([tokens[at] for at in open_indices])
        if _INCOMPLETE in text and index < len(tokens) - 1:
            continue
        if not found or _begins_word(text, language):
            found.append((text, open_indices))
        else:
            before, indices = found[-1]
            found[-1] = (before + text, indices + open_indices)
        open_indices = []
    return [(text.strip(), indices) for text, indices in found if text.strip()]


def _begins_word(text: str, language: str) -> bool:
    if text.startswith(" "):
        return True
    is_punctuation = all(unicodedata.category(sign).startswith("P") for sign in text.strip())
    return language in _WITHOUT_SPACES and not is_punctuation
