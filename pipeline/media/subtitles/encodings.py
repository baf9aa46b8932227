"""From the bytes of a subtitle file to text."""

import codecs
import re
from collections.abc import Callable
from itertools import pairwise

from pipeline.media.subtitles.language import identifier

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
#: Text in Latin letters, line ends and digits gives UTF-16 at least this share of zero bytes.
_UTF16_ZERO_SHARE = 0.05
#: Enough to tell an encoding by.
_SAMPLE_BYTES = 256 * 1024
_SAMPLE_CHARS = 2000

#: What subtitles in these languages were written in before UTF-8; where two fit a text equally
#: well, the earlier one is taken.
_USUAL = {
    "cp1252": "ca da de en es eu fi fr ga gl is it nb nl nn no pt sv",
    "cp932": "ja",
    "cp949": "ko",
    "gb18030": "zh",
    "big5": "zh-TW zh-HK zh-Hant",
    "cp1250": "bs cs hr hu pl ro sk sl sq sr",
    "cp1251": "be bg mk ru sr uk",
    "cp1253": "el",
    "cp1254": "tr",
    "cp1255": "he",
    "cp1256": "ar fa ur",
    "cp1257": "et lt lv",
    "koi8-r": "ru",
}
_USUAL_OF = {
    language: name for name, languages in reversed(_USUAL.items()) for language in languages.split()
}
_LANGUAGES = {
    name: {language.partition("-")[0] for language in languages.split()}
    for name, languages in _USUAL.items()
}
#: Spoken Chinese is written in the same encodings; the identifier tells it apart.
for _name in ("gb18030", "big5"):
    _LANGUAGES[_name] |= {"wuu", "yue"}
#: A later encoding must fit by so much better.
_CLEARLY_BETTER = 0.005
#: What is common in the languages of an encoding that gives sense to almost any bytes.
_COMMON: dict[str, Callable[[str], bool]] = {
    "cp949": lambda character: "\uac00" <= character <= "\ud7a3" or not character.isalpha(),
    "gb18030": lambda character: bool(character.encode("gb2312", "ignore")),
}
_MARKUP = re.compile(r"<[^>]{0,200}>|\{[^}]{0,200}\}|[0-9:.,>-]{3,}")


def decode_text(data: bytes, language: str | None = None) -> tuple[str, str]:
    """The text and the name of its encoding: by its byte order mark, else UTF-8, else UTF-16 by its
    zeros, else what the language was usually written in, else the encoding in which the text reads
    most like one of the languages that it was used for.

    Never fails: bytes that fit nothing become U+FFFD.
    """
    for mark, name in _MARKS:
        if data.startswith(mark):
            return data.decode(name, "replace"), name
    zeros = data.count(0)
    if zeros > _UTF16_ZERO_SHARE * len(data):
        is_little = data[1::2].count(0) > zeros / 2
        name = "utf-16-le" if is_little else "utf-16-be"
        return data.decode(name, "replace"), name
    for fitting in ("utf-8", _usual(language)):
        if fitting is not None and _fits(data, fitting):
            return data.decode(fitting), fitting
    name = _likeliest(data)
    return data.decode(name, "replace"), name


def _usual(language: str | None) -> str | None:
    if language is None:
        return None
    return _USUAL_OF.get(language) or _USUAL_OF.get(language.split("-")[0])


def _fits(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _likeliest(data: bytes) -> str:
    as_utf8 = data.decode("utf-8", "replace")
    wrong = as_utf8.count("\ufffd")
    beyond_ascii = sum(character > "\x7f" for character in as_utf8)
    if wrong * 10 < beyond_ascii:
        # UTF-8 with a few damaged bytes.
        return "utf-8"
    lines = [line for line in data[:_SAMPLE_BYTES].splitlines() if not line.isascii()]
    sample = b"\n".join(lines)[:_SAMPLE_CHARS]
    best, most = "cp1252", 0.0
    for name in _USUAL:
        likeness = _likeness(sample, name)
        if likeness > most + _CLEARLY_BETTER:
            best, most = name, likeness
    return best


def _likeness(sample: bytes, encoding: str) -> float:
    """How sure it is that the bytes are a text in one of the encoding's languages, 0-1."""
    text = sample.decode(encoding, "replace")
    if len(sample) == _SAMPLE_CHARS:
        # Cut, maybe in the middle of a character.
        text = text[:-2]
    wrong = sum(c == "\ufffd" or not (c.isprintable() or c.isspace()) for c in text)
    if wrong * 50 > len(text):
        return 0.0
    text = _MARKUP.sub(" ", text)
    likely = dict(identifier().rank(text))
    sure = sum(likely.get(language, 0.0) for language in _LANGUAGES[encoding])
    wide = [character for character in text if character > "\x7f"]
    common = _COMMON.get(encoding)
    if common is not None:
        sure *= sum(map(common, wide)) / max(1, len(wide))
    # Words of two alphabets, or with capitals within, come from reading another encoding.
    words = [word for word in text.split() if not word.isascii()]
    sure *= 1 - sum(map(_is_mixed, words)) / max(1, len(words))
    return float(sure)


def _is_mixed(word: str) -> bool:
    if any(one.islower() and other.isupper() for one, other in pairwise(word)):
        return True
    latin = any(character.isascii() and character.isalpha() for character in word)
    return latin and any("\u0370" <= character <= "\u06ff" for character in word)
