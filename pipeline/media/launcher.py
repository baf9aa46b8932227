"""Starting the child that opens media, watching it, and saying what became of it."""

import json
import os
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

from pipeline import errors
from pipeline.errors import ContractError, InvalidMediaError, PipelineError, ResourceExhaustedError
from pipeline.media.children import CRASHES, Children
from pipeline.media.limits import MediaLimits
from pipeline.media.messages import NO_MEMORY, one_line, signal_name, useful_line
from pipeline.media.watch import Watch
from pipeline.media.windows import WindowServer

#: What a child may report; anything else is a :class:`ContractError`.
_REPORTABLE = (
    errors.InvalidMediaError,
    errors.UnsupportedMediaError,
    errors.MediaLimitError,
    errors.ResourceExhaustedError,
    errors.ConfigurationError,
)
_ENDINGS: dict[int, str] = {
    signal.SIGXCPU: "it needed more CPU time than its limit allows",
    signal.SIGXFSZ: "it wrote a larger file than its limit allows",
    signal.SIGKILL: "most likely the machine ran out of memory; run fewer at a time",
}
_MAX_MESSAGE_CHARS = 1000
#: The child's descriptors, after the standard ones.
_PROGRESS, _SCORER = 3, (4, 5)
#: Of this process.
children = Children()


def run_child(
    request: dict[str, Any],
    *,
    work_dir: Path,
    limits: MediaLimits,
    wall_seconds: float,
    server: WindowServer | None = None,
) -> tuple[bytes, float]:
    """Run one request in a child; blocks. Returns its reply (JSON) and the CPU seconds of its tree.

    The child is the leader of its own process group in ``work_dir``; the whole group is killed
    before this returns or raises, whatever happened. ``server`` answers it meanwhile.

    Raises:
        InvalidMediaError: and its kin, as the child reported them, or because it crashed.
        ResourceExhaustedError: it went beyond time, memory or disk, or made no progress.
        ContractError: it failed in a way that is no fault of the media.
    """
    with ExitStack() as stack:
        reply, replying = _pipe(stack)
        messages, telling = _pipe(stack)
        progress, ticking = _pipe(stack, os.O_NONBLOCK)
        given = () if server is None else server.child_fds
        with replying, telling, ticking, os.fdopen(os.memfd_create("request"), "w+b") as question:
            whose = {"progress_descriptor": _PROGRESS, "scorer": _SCORER if given else None}
            question.write(json.dumps(request | whose).encode())
            question.seek(0)
            inherited = [each.fileno() for each in (question, replying, telling, ticking)]
            try:
                child = children.start(work_dir, [*inherited, *given])
            finally:
                if server is not None:
                    server.start()
        try:
            watch = Watch(
                reply=reply,
                messages=messages,
                progress=progress,
                folder=work_dir,
                limits=limits,
                is_waited_for=(lambda: False) if server is None else server.is_scoring,
            )
            watch.until_end(child.ending, wall_seconds)
        finally:
            ended = child.end()
            if server is not None:
                server.join()
        watch.finish()
    if server is not None:
        server.check()
    written = watch.written
    if ended.code == 0 and written.reply:
        return _unwrap(bytes(written.reply)), ended.cpu_seconds
    raise _failure(ended.code, written.last_messages, limits)


def _pipe(stack: ExitStack, flags: int = 0) -> tuple[int, BinaryIO]:
    """Its reading end, which the stack closes, and its writing end."""
    reader, writer = os.pipe2(os.O_CLOEXEC | flags)
    stack.callback(os.close, reader)
    return reader, os.fdopen(writer, "wb")


def _unwrap(reply: bytes) -> bytes:
    """The reply itself, or the error that the child reports in its place."""
    if not reply.startswith(b'{"error"'):
        return reply
    try:
        error = json.loads(reply)["error"]
        name, message = str(error["class"]), str(error["message"])
    except (ValueError, KeyError, TypeError, RecursionError) as broken:
        raise ContractError(f"the media child replied with {reply[:200]!r}") from broken
    # A child that met hostile media may say anything, to a terminal too.
    message = one_line(message, max_chars=_MAX_MESSAGE_CHARS)
    for kind in _REPORTABLE:
        if kind.__name__ == name:
            raise kind(message)
    raise ContractError(f"the media child reported {one_line(name)}: {message}")


def _failure(code: int, messages: bytes, limits: MediaLimits) -> PipelineError:
    """What became of a child that did not reply."""
    lines = messages.decode("utf-8", "replace").splitlines()
    last = useful_line(lines) or "it wrote nothing"
    mebibytes = limits.memory_bytes // 1024**2
    if any(NO_MEMORY.search(line) for line in lines):
        return ResourceExhaustedError(
            f"the media needed more memory than the limit of {mebibytes} MiB: {last}"
        )
    if code >= 0:
        return ContractError(f"the media child ended with exit code {code}: {last}")
    killer = -code
    if killer in CRASHES:
        return InvalidMediaError(
            f"the media crashed the decoder ({signal_name(killer)}); the file is damaged or "
            f"hostile: {last}"
        )
    return ResourceExhaustedError(
        f"opening the media was stopped ({signal_name(killer)}): {_ENDINGS.get(killer, last)}"
    )
