"""What the parent does while its child works: reads what it writes, within bounds."""

import os
import select
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import ResourceExhaustedError
from pipeline.media import bounds
from pipeline.media.limits import MediaLimits

_CHUNK_BYTES = 65536
_KEPT_MESSAGE_BYTES = 4096
_LOOK_EVERY_SECONDS = 1.0
#: What ``st_blocks`` counts in, on any file system.
_BLOCK_BYTES = 512
#: Space can be taken beyond the end of a file. File systems by themselves give one that grows up to
#: as much again.
_SPACE_PER_BYTE = 2
#: Looking through a large folder takes at most this share of the time.
_LOOK_SHARE = 0.02


@dataclass(slots=True)
class Written:
    """What a child wrote on its standard output, and the end of what it wrote on standard error."""

    reply: bytearray = field(default_factory=bytearray)
    last_messages: bytes = b""
    message_bytes: int = 0


class Watch:
    """Watches one child; the descriptors stay the caller's.

    ``is_waited_for``: whether the child now waits for the caller.
    """

    def __init__(
        self,
        *,
        reply: int,
        messages: int,
        progress: int,
        folder: Path,
        limits: MediaLimits,
        is_waited_for: Callable[[], bool] = lambda: False,
    ) -> None:
        self.written = Written()
        self._reply = reply
        self._messages = messages
        self._progress = progress
        self._folder = folder
        self._limits = limits
        self._is_waited_for = is_waited_for
        self._folder_bytes = 0
        self._open = {reply, messages}
        for descriptor in (reply, messages, progress):
            os.set_blocking(descriptor, False)

    def until_end(self, process: int, wall_seconds: float) -> None:
        """Return when the process (a pidfd) has ended; it is not reaped.

        Raises:
            ResourceExhaustedError: it takes too long, stands still, or fills the disk.
            MediaLimitError: it writes too much on its pipes.
        """
        poller = select.poll()
        for descriptor in (process, *self._open):
            poller.register(descriptor, select.POLLIN)
        stall_seconds = self._limits.stall_seconds
        now = time.monotonic()
        deadline, moved_at = now + wall_seconds, now
        pause = min(_LOOK_EVERY_SECONDS, stall_seconds / 4)
        look_at = now + pause
        while True:
            for descriptor, _ in poller.poll(max(0.0, min(deadline, look_at) - now) * 1000):
                if descriptor == process:
                    return
                self._read(descriptor)
                if descriptor not in self._open:
                    poller.unregister(descriptor)
            now = time.monotonic()
            if now >= deadline:
                raise ResourceExhaustedError(
                    f"opening the media took longer than {wall_seconds:g} s and was stopped; "
                    "raise the time limit if the media is that long"
                )
            if now < look_at:
                continue
            if self._has_ticked() | self._folder_has_changed() | self._is_waited_for():
                moved_at = now
            elif now - moved_at >= stall_seconds:
                raise ResourceExhaustedError(
                    f"opening the media made no progress for {stall_seconds} s and was stopped; "
                    "the file keeps the decoder from going on, or its disk does not answer"
                )
            took = time.monotonic() - now
            now += took
            look_at = now + max(pause, took / _LOOK_SHARE)

    def finish(self) -> None:
        """Read what is left in the pipes, and count the files, now that everything has ended.

        Raises:
            ResourceExhaustedError, MediaLimitError: as :meth:`until_end`.
        """
        while self._open:
            for descriptor in list(self._open):
                self._read(descriptor, is_last=True)
        self._folder_has_changed()

    def _read(self, descriptor: int, *, is_last: bool = False) -> None:
        try:
            data = os.read(descriptor, _CHUNK_BYTES)
        except BlockingIOError:
            data = b""
            if not is_last:
                return
        if not data:
            self._open.discard(descriptor)
            return
        written, limits = self.written, self._limits
        if descriptor == self._reply:
            written.reply += data
            if len(written.reply) > limits.max_reply_bytes:
                raise bounds.too_large_reply(limits)
            return
        written.last_messages = (written.last_messages + data)[-_KEPT_MESSAGE_BYTES:]
        written.message_bytes += len(data)
        if written.message_bytes > limits.max_message_bytes:
            raise bounds.too_many_messages(limits)

    def _has_ticked(self) -> bool:
        try:
            return bool(os.read(self._progress, _CHUNK_BYTES))
        except BlockingIOError:
            return False

    def _folder_has_changed(self) -> bool:
        """Whether files grew, as sound and subtitles do while there are no frames."""
        limits = self._limits
        count = total = blocks = 0
        with os.scandir(self._folder) as entries:
            for entry in entries:
                count += 1
                if count > limits.max_output_files:
                    raise bounds.too_many_files(limits)
                with suppress(FileNotFoundError):  # removed meanwhile
                    found = entry.stat(follow_symlinks=False)
                    total += found.st_size
                    blocks += found.st_blocks
        if max(total, blocks * _BLOCK_BYTES / _SPACE_PER_BYTE) > limits.output_bytes:
            raise bounds.too_many_bytes(limits)
        has_changed = total != self._folder_bytes
        self._folder_bytes = total
        return has_changed
