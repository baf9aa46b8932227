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


def decode_text(data: bytes) -> str:
    """By its byte order mark, else UTF-8, else UTF-16 by its zeros, else the likeliest charset.

    Never fails: bytes that fit nothing become U+FFFD.
    """
    for mark, name in _MARKS:
        if data.startswith(mark):
            return data.decode(name, "replace")
    zeros = data.count(0)
    if zeros > _UTF16_ZERO_SHARE * len(data):
        is_little = data[1::2].count(0) > zeros / 2
        return data.decode("utf-16-le" if is_little else "utf-16-be", "replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode(_likeliest(data), "replace")


def _likeliest(data: bytes) -> str:
    as_utf8 = data.decode("utf-8", "replace")
    wrong = as_utf8.count("\ufffd")
    beyond_ascii = sum(character > "\x7f" for character in as_utf8)
    if wrong * 10 < beyond_ascii:
        # UTF-8 with a few damaged bytes.
        return "utf-8"
    from charset_normalizer import from_bytes

    best = from_bytes(data[:_SAMPLE_BYTES]).best()
    return "cp1252" if best is None or best.encoding == "ascii" else best.encoding
