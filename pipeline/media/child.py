"""What a media child does: one JSON request on standard input, one JSON reply on standard output.

Forked from :mod:`pipeline.media.forkserver`, which has imported this and what it needs; nothing of
the media is read before limits and sandbox are in force.
"""

import errno
import json
import mmap
import os
import time
from pathlib import Path
from typing import Any

import cv2

from pipeline.errors import (
    ContractError,
    InvalidMediaError,
    PipelineError,
    ResourceExhaustedError,
)
from pipeline.media import bounds, pictures, probe, sandbox, scan, split
from pipeline.media.confine import set_rlimits
from pipeline.media.limits import MediaLimits
from pipeline.media.params import SplitParams
from pipeline.media.pictures import animation
from pipeline.media.progress import Progress
from pipeline.media.sandbox import Sandbox
from pipeline.media.sniff import ANIMATED_FORMATS, reject_text, sniff_picture

#: The media's name inside the child's directory: names as submitted are part of the attack.
INPUT_NAME = "input"
_SNIFFED_BYTES = 4096
#: Libraries crash where what they take for granted cannot be allocated: a limit that leaves less
#: than this above what they reserve themselves is told before they are used.
_LEAST_ROOM_BYTES = 32 * 1024**2
_FULL = {errno.EFBIG, errno.ENOSPC, errno.EDQUOT}


def main() -> None:
    """Read the request, confine this process, do the task, reply."""
    with open(0, "rb", closefd=False) as question:
        request = json.load(question)
    limits = MediaLimits(**request["limits"])
    set_rlimits(
        limits,
        cpu_seconds=request["cpu_seconds"],
        with_device=request.get("with_device", False),
    )
    Path(INPUT_NAME).symlink_to(request["input"])
    inputs = [request["input"], *request.get("scans", ())]
    inputs += [sidecar["path"] for sidecar in request.get("sidecars", ())]
    in_force = sandbox.enter(ffmpeg=request["ffmpeg"], inputs=inputs)
    # Libraries that print must not print into the reply.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answer:
        os.dup2(2, 1)
        try:
            _require_room()
            reply = json.dumps(_work(request, limits, in_force))
            if len(reply) > limits.max_reply_bytes:
                raise bounds.too_large_reply(limits)
        except PipelineError as error:
            reply = _reported(error)
        except MemoryError:
            reply = _reported(_no_memory(limits))
        except OSError as error:
            if error.errno not in _FULL:
                raise
            reply = _reported(
                ResourceExhaustedError(
                    f"what the media is split into cannot be written: {error.strerror}"
                )
            )
        answer.write(reply)


def _require_room() -> None:
    try:
        mmap.mmap(-1, _LEAST_ROOM_BYTES).close()
    except OSError as error:
        raise MemoryError from error


def _reported(error: PipelineError) -> str:
    return json.dumps({"error": {"class": type(error).__name__, "message": str(error)}})


def _no_memory(limits: MediaLimits) -> PipelineError:
    return ResourceExhaustedError(
        f"the media needed more memory than the limit of {limits.memory_bytes // 1024**2} MiB"
    )


def _work(request: dict[str, Any], limits: MediaLimits, in_force: Sandbox) -> dict[str, Any]:
    if request["task"] == "check":
        from pipeline.media.sandbox_check import try_everything

        return try_everything(request, limits, in_force)
    progress = Progress(request["progress_descriptor"])
    with Path(INPUT_NAME).open("rb") as file:
        head = file.read(_SNIFFED_BYTES)
    if not head:
        raise InvalidMediaError("the file is empty")
    picture_format = sniff_picture(head)
    if request["task"] == "scan" or (request["task"] == "split" and request["kind"] != "image"):
        if picture_format in ANIMATED_FORMATS:
            return _split_animation(picture_format, request, limits, progress)
        return _decode_streams(request, limits, progress)
    if picture_format is not None:
        if request["task"] == "split":
            # Limits set twice only become narrower.
            set_rlimits(limits, cpu_seconds=min(request["cpu_seconds"], limits.picture_seconds))
            return pictures.split(
                picture_format,
                params=SplitParams(**request["params"]),
                limits=limits,
                ffmpeg=request["ffmpeg"],
                progress=progress,
                startup_cpu_seconds=time.process_time(),
            )
        startup = time.process_time()
        info = pictures.probe(picture_format, limits=limits, ffmpeg=request["ffmpeg"])
        return {"info": info, "startup_cpu_seconds": startup}
    if request["task"] != "probe":
        raise ContractError(f"expected a picture, the file starts with {head[:8]!r}")
    reject_text(head)
    startup = time.process_time()
    return {"info": probe.probe(limits), "startup_cpu_seconds": startup}


def _split_animation(
    picture_format: str, request: dict[str, Any], limits: MediaLimits, progress: Progress
) -> dict[str, Any]:
    params = SplitParams(**request["params"])
    notes, cpu_seconds = animation.unroll(picture_format, params, limits, progress)
    reply = _decode_streams(request, limits, progress)
    reply["notes"] = [*notes, *reply["notes"]]
    reply["decoder_cpu_seconds"] += cpu_seconds
    reply["startup_cpu_seconds"] -= cpu_seconds
    return reply


def _decode_streams(
    request: dict[str, Any], limits: MediaLimits, progress: Progress
) -> dict[str, Any]:
    decode = scan.scan if request["task"] == "scan" else split.split
    try:
        return decode(request, limits, progress, startup_cpu_seconds=time.process_time())
    except cv2.error as error:
        if error.code != cv2.Error.StsNoMem:
            raise
        raise _no_memory(limits) from error
