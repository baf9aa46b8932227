"""In which language a text is. The model (py3langid, in the package) is loaded when first asked."""

from collections.abc import Iterable
from functools import cache

from py3langid.langid import MODEL_FILE, LanguageIdentifier

from pipeline.media.languages import normalise_language

#: Fewer letters than this, counted in bytes of UTF-8, are not judged.
_ENOUGH_BYTES = 60
_SAMPLE_CHARS = 6000
_SURE = 0.95
_CODE_CHARS = 2


@cache
def identifier() -> LanguageIdentifier:
    """Gives languages with probabilities."""
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def language_of_texts(texts: Iterable[str]) -> str | None:
    """The language of the texts together; ``None`` where there are few, or none is likely."""
    sample, length = [], 0
    for text in texts:
        sample.append(text)
        length += len(text)
        if length > _SAMPLE_CHARS:
            break
    joined = " ".join(sample)[:_SAMPLE_CHARS]
    letters = "".join(character for character in joined if character.isalpha())
    if len(letters.encode("utf-8", "replace")) < _ENOUGH_BYTES:
        return None
    language, sure = identifier().classify(joined)
    # Longer codes are of languages that are seldom subtitled and close to ones that often are.
    if sure < _SURE or len(language) != _CODE_CHARS:
        return None
    return normalise_language(language)
