"""Running ffmpeg, and what it has to say. Runs in the child only."""

import os
import re
import resource
import signal
import subprocess
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from pipeline.errors import InvalidMediaError, ResourceExhaustedError
from pipeline.media import bounds
from pipeline.media.confine import prepare_program, prepare_program_with_device
from pipeline.media.limits import MediaLimits
from pipeline.media.messages import signal_name, useful_line

Process = subprocess.Popen[bytes]

_CHUNK_BYTES = 65536
_KEPT_BYTES = 8192
#: Said when the next message comes, which may be long after.
_REPEATED = b"    Last message repeated"
#: A thread that cannot be started has no room for its stack.
_EXHAUSTED = re.compile(
    r"Cannot allocate memory|No space left on device|File too large|"
    r"pthread_create\(\) failed|ff_frame_thread_encoder_init failed"
)


@dataclass(slots=True)
class Report:
    """What ffmpeg had to say, in all its runs; complete once it ended."""

    #: Lines, each about one error.
    error_count: int = 0
    byte_count: int = 0
    tail: bytes = b""

    def add(self, error_count: int, last_lines: Iterable[str]) -> None:
        """What another ffmpeg had to say of the same file."""
        self.error_count += error_count
        more = "".join(f"{line}\n" for line in last_lines).encode()
        self.tail = (self.tail + more)[-_KEPT_BYTES:]

    @property
    def last_lines(self) -> list[str]:
        return self.tail.decode("utf-8", "replace").splitlines()

    @property
    def reason(self) -> str:
        """The most useful line, for the inside of a sentence."""
        return useful_line(self.last_lines) or "ffmpeg gave no reason"


@contextmanager
def running(
    command: list[str],
    report: Report,
    limits: MediaLimits,
    *,
    own_fds: Sequence[int] = (),
    with_device: bool = False,
) -> Iterator[Process]:
    """ffmpeg for the time of the block; its standard error fills the report.

    ``own_fds`` are inherited by ffmpeg and closed here.

    Raises:
        ResourceExhaustedError: it was killed for CPU time, or ran out of memory or disk.
        MediaLimitError: it wrote too many messages.
        InvalidMediaError: it crashed.
    """
    before = decoder_cpu_seconds()
    prepare = prepare_program_with_device if with_device else prepare_program
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=own_fds,
        preexec_fn=prepare,  # noqa: PLW1509 - other threads here only read pipes
    ) as process:
        for descriptor in own_fds:
            os.close(descriptor)
        listener = threading.Thread(target=_listen, args=(process, report, limits), daemon=True)
        listener.start()
        try:
            yield process
            if process.stdout is not None:
                # What nobody reads any more must not keep it waiting.
                process.stdout.close()
            code = process.wait()
        finally:
            process.kill()
            listener.join()
    if report.byte_count > limits.max_message_bytes:
        raise bounds.too_many_messages(limits)
    if code < 0:
        raise _killed(-code, decoder_cpu_seconds() - before, report, limits)
    if code > 0 and any(_EXHAUSTED.search(line) for line in report.last_lines):
        raise ResourceExhaustedError(f"ffmpeg ran out of memory or disk: {report.reason}")


def _killed(
    killer: int, cpu_seconds: float, report: Report, limits: MediaLimits
) -> InvalidMediaError | ResourceExhaustedError:
    allowed, _ = resource.getrlimit(resource.RLIMIT_CPU)
    if killer == signal.SIGKILL and cpu_seconds >= allowed:
        return ResourceExhaustedError(
            f"decoding needed more CPU time than the limit of {allowed} s; split the media or "
            "raise cpu_seconds"
        )
    if killer == signal.SIGKILL:
        return ResourceExhaustedError(
            "ffmpeg was killed, most likely because the machine ran out of memory; run fewer at a "
            "time"
        )
    if killer == signal.SIGXFSZ:
        return bounds.too_many_bytes(limits)
    return InvalidMediaError(f"the media crashed ffmpeg ({signal_name(killer)}): {report.reason}")


def _listen(process: Process, report: Report, limits: MediaLimits) -> None:
    if process.stderr is None:
        return
    # In large pieces: a flood of short lines must not cost more than ffmpeg's own time.
    while data := process.stderr.read1(_CHUNK_BYTES):  # type: ignore[attr-defined]
        report.byte_count += len(data)
        report.error_count += data.count(b"\n") - data.count(_REPEATED)
        report.tail = (report.tail + data)[-_KEPT_BYTES:]
        if report.byte_count > limits.max_message_bytes:
            process.kill()
            return
    if report.tail and not report.tail.endswith(b"\n"):
        report.error_count += 1


def decoder_cpu_seconds() -> float:
    """CPU time of the ffmpegs that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
