"""Choosing an audio stream, and what ffmpeg measures of it. Runs in the child only."""

import math
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from av.audio.stream import AudioStream
from av.stream import Disposition

from pipeline.media.ffmpeg_command import AUDIO_NAME
from pipeline.media.languages import normalise_language, speaks
from pipeline.media.params import AUDIO_RATE_HZ, SplitParams

#: What EBU R 128 gives where nothing is loud enough to count.
_NO_LOUDNESS_LUFS = -70.0


def choose_audio(
    streams: Sequence[AudioStream], params: SplitParams, notes: list[str]
) -> AudioStream | None:
    """The stream that was asked for; else that of the first wanted language, then the default one,
    then the one with most channels, then the first."""
    asked = params.audio_stream
    for stream in streams:
        if stream.index == asked:
            return stream
    if asked is not None:
        notes.append(f"the file has no audio stream {asked}; the best of the others was taken")

    wanted = params.audio_languages

    def order(stream: AudioStream) -> tuple[int, bool, int, int]:
        language = normalise_language(stream.language)
        return (
            next((n for n, one in enumerate(wanted) if speaks(language, one)), len(wanted)),
            not stream.disposition & Disposition.default,
            -stream.codec_context.channels,
            stream.index,
        )

    return min(streams, key=order, default=None)


@dataclass(slots=True)
class SoundMeter:
    """Reads the lines of ffmpeg's filters as they come, from a pipe of its own."""

    loudness_lufs: float | None = None
    peak: float = 0.0
    #: Seconds of the sound; the last may still be open.
    silences: list[tuple[float, float | None]] = field(default_factory=list)
    on_progress: Callable[[], None] | None = None
    #: How often the filters have begun to measure: anew where channels or rate change.
    begin_count: int = 0
    _thread: threading.Thread | None = None

    def listen(self, read_fd: int) -> None:
        """Begin to read; the descriptor is closed at the end of what is sent."""
        self._thread = threading.Thread(target=self._read, args=(read_fd,), daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Wait until everything that was sent has been read: all writing ends must be closed."""
        if self._thread is not None:
            self._thread.join()

    def peak_dbfs(self) -> float | None:
        return round(20 * math.log10(self.peak), 1) if self.peak > 0 else None

    def stretches(self, end_ms: int, min_ms: int) -> list[dict[str, Any]]:
        """The fields of silent stretches."""
        spans = [
            (max(0, round(start * 1000)), end_ms if end is None else min(round(end * 1000), end_ms))
            for start, end in self.silences
        ]
        return [
            {"kind": "silent", "start_ms": start_ms, "end_ms": stop_ms}
            for start_ms, stop_ms in spans
            if stop_ms - start_ms >= min_ms
        ]

    def _read(self, read_fd: int) -> None:
        with os.fdopen(read_fd, encoding="ascii", errors="replace") as lines:
            for line in lines:
                name, _, value = line.rstrip().partition("=")
                if name.startswith("lavfi."):
                    self._note(name, value)
                    continue
                self.begin_count += line.startswith("frame:0 ")
                if self.on_progress is not None:
                    self.on_progress()

    def _note(self, name: str, value: str) -> None:
        try:
            number = float(value)
        except ValueError:
            return
        if not math.isfinite(number):
            return
        if name == "lavfi.r128.I":
            self.loudness_lufs = number if number > _NO_LOUDNESS_LUFS else None
        elif name == "lavfi.r128.sample_peak":
            self.peak = max(self.peak, number)
        elif name == "lavfi.silence_start":
            self.silences.append((number, None))
        elif name == "lavfi.silence_end" and self.silences:
            self.silences[-1] = (self.silences[-1][0], number)


def audio_ms() -> int:
    """Length of the FLAC that was written, from its own header; 0 where there is none."""
    path = Path(AUDIO_NAME)
    if not path.exists():
        return 0
    with path.open("rb") as file:
        header = file.read(26)
    # STREAMINFO begins at byte 8; the last 36 of these bits are the number of samples.
    samples = int.from_bytes(header[18:26], "big") & (2**36 - 1)
    return samples * 1000 // AUDIO_RATE_HZ
