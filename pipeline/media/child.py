"""The child process: one JSON request on standard input, one JSON reply on standard output.

Run as ``python -m pipeline.media.child`` by :mod:`pipeline.media.launcher`, never by hand. Nothing
of the media is read before the limits are set. Libraries are imported for the task at hand only:
starting is what a short clip costs most.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from pipeline.errors import (
    ContractError,
    InvalidMediaError,
    PipelineError,
    ResourceExhaustedError,
)
from pipeline.media.confine import die_with_parent, exit_if_orphaned, set_rlimits
from pipeline.media.limits import MediaLimits
from pipeline.media.params import SplitParams

#: The media's name inside the child's directory: names as submitted are part of the attack.
INPUT_NAME = "input"
_SNIFFED_BYTES = 4096


def main() -> None:
    """Read the request, confine this process, do the task, reply."""
    die_with_parent()
    request = json.load(sys.stdin)
    exit_if_orphaned(request["parent_pid"])
    limits = MediaLimits(**request["limits"])
    set_rlimits(limits, cpu_seconds=request["cpu_seconds"])
    # Libraries that print must not print into the reply.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answer:
        os.dup2(2, 1)
        try:
            reply = _work(request, limits)
        except PipelineError as error:
            reply = {"error": {"class": type(error).__name__, "message": str(error)}}
        except MemoryError:
            reply = {
                "error": {
                    "class": ResourceExhaustedError.__name__,
                    "message": "the media needed more memory than the limit of "
                    f"{limits.memory_bytes // 1024**2} MiB",
                }
            }
        json.dump(reply, answer)


def _work(request: dict[str, Any], limits: MediaLimits) -> dict[str, Any]:
    from pipeline.media.sniff import reject_text, sniff_picture

    media = Path(INPUT_NAME)
    media.symlink_to(request["input"])
    with media.open("rb") as file:
        head = file.read(_SNIFFED_BYTES)
    if not head:
        raise InvalidMediaError("the file is empty")
    picture_format = sniff_picture(head)
    if request["task"] == "split" and request["kind"] != "image":
        return _split_streams(request, limits)
    if picture_format is not None:
        from pipeline.media import pictures

        if request["task"] == "split":
            return pictures.split(
                picture_format,
                params=SplitParams(**request["params"]),
                limits=limits,
                ffmpeg=request["ffmpeg"],
                startup_cpu_seconds=time.process_time(),
            )
        startup = time.process_time()
        info = pictures.probe(picture_format, limits=limits, ffmpeg=request["ffmpeg"])
        if info is not None:
            return {"info": info, "startup_cpu_seconds": startup}
    if request["task"] != "probe":
        raise ContractError(f"expected a picture, the file starts with {head[:8]!r}")
    reject_text(head)
    from pipeline.media import probe

    startup = time.process_time()
    return {"info": probe.probe(limits), "startup_cpu_seconds": startup}


def _split_streams(request: dict[str, Any], limits: MediaLimits) -> dict[str, Any]:
    from pipeline.media import split

    return split.split(request, limits, startup_cpu_seconds=time.process_time())


if __name__ == "__main__":
    main()
