"""Times as people write them."""

import re

from pipeline.errors import ConfigurationError

_TIME = re.compile(r"(?:(?:(\d{1,3}):)?(\d{1,2}):)?(\d{1,6})(?:\.(\d{1,3}))?", re.ASCII)


def parse_time(text: str, what: str) -> int:
    """Milliseconds of seconds (``12.5``), ``MM:SS`` or ``HH:MM:SS.mmm``.

    Raises:
        ConfigurationError: it is no such time; the message begins with ``what``.
    """
    match = _TIME.fullmatch(text.strip())
    hours, minutes, seconds = (int(part or 0) for part in match.groups()[:3]) if match else (0,) * 3
    in_parts = match is not None and match[2] is not None
    if match is None or (in_parts and seconds > 59) or (match[1] is not None and minutes > 59):
        raise ConfigurationError(
            f"{what} {text!r} is no time: write seconds (12.5), MM:SS (00:12) or HH:MM:SS.mmm"
        )
    fraction = int((match[4] or "").ljust(3, "0"))
    return ((hours * 60 + minutes) * 60 + seconds) * 1000 + fraction
