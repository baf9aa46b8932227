"""DVB teletext: decoded by ffmpeg where it was built for that (libzvbi); PyAV has no decoder.

A process of its own, for broadcasts with such streams only: what ffmpeg refuses here must not take
picture and sound down. Runs in the child only.
"""

import subprocess
from fractions import Fraction
from pathlib import Path

import ffmpeg

from pipeline.errors import InvalidMediaError
from pipeline.media import ffmpeg_process
from pipeline.media.limits import MediaLimits
from pipeline.media.sniff import ALLOWED_DEMUXERS, ALLOWED_PROTOCOLS
from pipeline.media.subtitles.parsing import ParsedText, UnreadableSubtitleError, parse

_DECODER = b"libzvbi_teletextdec"
_LIST_SECONDS = 60
_MAX_SHOWN_MS = 10_000


def decode_teletext(binary: str, index: int, start: Fraction, limits: MediaLimits) -> ParsedText:
    """The subtitle pages of a stream of teletext.

    Raises:
        UnreadableSubtitleError: this ffmpeg cannot decode teletext, or not this one.
        ResourceExhaustedError: it took too much.
    """
    command = [binary, "-hide_banner", "-loglevel", "error", "-decoders"]
    known = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_LIST_SECONDS, check=False
    )
    if _DECODER not in known.stdout:
        raise UnreadableSubtitleError("this ffmpeg decodes no teletext (it needs libzvbi)")
    path = Path(f"teletext-{index}.srt")
    source = ffmpeg.input(
        "file:input",
        format_whitelist=ALLOWED_DEMUXERS,
        protocol_whitelist=ALLOWED_PROTOCOLS,
        # A page stands until the next, at most this long.
        fix_sub_duration=None,
        **{
            f"txt_format:{index}": "text",
            f"txt_page:{index}": "subtitle",
            f"txt_duration:{index}": _MAX_SHOWN_MS,
        },
    )
    output = ffmpeg.output(source[str(index)], str(path), f="srt", c="srt")
    head = [binary, "-nostdin", "-hide_banner", "-loglevel", "error", "-copyts", "-y"]
    report = ffmpeg_process.Report()
    try:
        with ffmpeg_process.running(output.compile(cmd=head), report, limits) as process:
            if process.stdout is not None:
                process.stdout.read()
    except InvalidMediaError as error:
        raise UnreadableSubtitleError(str(error)) from error
    if not path.exists():
        raise UnreadableSubtitleError(report.reason)
    with path.open("rb") as file:
        text = file.read(limits.max_sidecar_bytes).decode("utf-8", "replace")
    return parse(text, "srt", limits).moved(round(start * 1000))
