"""Picking the one line of a tool's chatter that tells a person something."""

import re
import signal
from collections.abc import Iterable

_ADDRESS = re.compile(r"\[([\w,:#/ .-]+?) @ 0x[0-9a-f]+\]\s*")
_PATH = re.compile(r"file:input|\binput: ")
#: What ffmpeg says after the line with the reason.
_AFTERMATH = re.compile(
    r"Conversion failed|Error opening (input|output)|Error while (filtering|decoding|opening)|"
    r"Task finished|Terminating thread|Error sending|Nothing was written|Failed to inject|"
    r"Error (submitting|binding|processing)|Error during demuxing|Could not open encoder|"
    r"Decode error rate|Invalid data found when processing input|Last message repeated|"
    r"No filtered frames|Finishing stream|Decoding error|Cannot determine format|Error marking"
)
_MAX_CHARS = 200
_MAX_METADATA_CHARS = 500
#: What libraries say of RLIMIT_AS before they give up in their own ways.
NO_MEMORY = re.compile(
    r"MemoryError|bad_alloc|[Cc]annot allocate memory|failed to map segment|"
    r"can't start new thread|[Ii]nsufficient memory"
)


def useful_line(lines: Iterable[str]) -> str | None:
    """The last line that states a reason, without addresses and our own file names."""
    cleaned = [_ADDRESS.sub(r"\1: ", _PATH.sub("", line)).strip(" :") for line in lines]
    cleaned = ["".join(c for c in line if c.isprintable())[:_MAX_CHARS] for line in cleaned if line]
    reasons = [line for line in cleaned if not _AFTERMATH.search(line)] or cleaned
    return reasons[-1] if reasons else None


def one_line(error: BaseException | str, *, max_chars: int = _MAX_CHARS) -> str:
    """A message, maybe an exception's, fit for the inside of a sentence."""
    text = " ".join(str(error).split()) or type(error).__name__
    return "".join(c for c in text if c.isprintable())[:max_chars].rstrip(".")


def signal_name(number: int) -> str:
    """Of any signal: those for programs' own use have numbers only."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def clean_text(text: str | None) -> str | None:
    """Metadata without what a database or a terminal chokes on."""
    if not text:
        return None
    return "".join(c for c in text if c.isprintable())[:_MAX_METADATA_CHARS].strip() or None
