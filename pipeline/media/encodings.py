"""From the bytes of a subtitle file to text."""

import codecs

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
#: Enough to tell an encoding by; detection is slow.
_SAMPLE_BYTES = 64 * 1024
#: Text in Latin letters, line ends and digits gives UTF-16 at least this share of zero bytes.
_UTF16_ZERO_SHARE = 0.05


#: What subtitles in these languages were written in before UTF-8.
_USUAL = {
    "cp1250": "bs cs hr hu pl ro sk sl sq",
    "cp1251": "be bg mk ru sr uk",
    "cp1252": "ca da de en es eu fi fr ga gl is it nb nl nn no pt sv",
    "cp1253": "el",
    "cp1254": "tr",
    "cp1255": "he",
    "cp1256": "ar fa ur",
    "cp1257": "et lt lv",
    "cp932": "ja",
    "cp949": "ko",
    "gb18030": "zh",
    "big5": "zh-TW zh-HK zh-Hant",
}
_USUAL_OF = {language: name for name, languages in _USUAL.items() for language in languages.split()}
_LATIN = ["cp1252", "cp1250", "cp1254", "cp1257"]
#: In Latin script letters beyond ASCII are fewer than this share of all letters.
_LATIN_SHARE = 0.25


def decode_text(data: bytes, language: str | None = None) -> str:
    """By its byte order mark, else UTF-8, else UTF-16 by its zeros, else what the language was
    usually written in, else the likeliest charset.

    Never fails: bytes that fit nothing become U+FFFD.
    """
    for mark, name in _MARKS:
        if data.startswith(mark):
            return data.decode(name, "replace")
    zeros = data.count(0)
    if zeros > _UTF16_ZERO_SHARE * len(data):
        is_little = data[1::2].count(0) > zeros / 2
        return data.decode("utf-16-le" if is_little else "utf-16-be", "replace")
    for fitting in ("utf-8", _usual(language)):
        if fitting is not None and _fits(data, fitting):
            return data.decode(fitting)
    return data.decode(_likeliest(data), "replace")


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
    from charset_normalizer import from_bytes

    high = sum(byte > 0x7F for byte in data)
    letters = sum(chr(byte).isalpha() for byte in data if byte <= 0x7F)
    # Short texts in Latin script look like CJK to a detector.
    isolation = _LATIN if high < _LATIN_SHARE * (high + letters) else None
    best = from_bytes(data[:_SAMPLE_BYTES], cp_isolation=isolation).best()
    return "cp1252" if best is None or best.encoding == "ascii" else best.encoding
