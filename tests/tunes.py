"""Music made of nothing: what a detector takes for music, float32 mono 16 kHz."""

import numpy as np

from schemas.records import FloatArray

RATE_HZ = 16_000
_CHORDS_HZ = ((220.0, 261.6, 329.6), (174.6, 220.0, 261.6), (261.6, 329.6, 392.0))
_NOTE_SECONDS = 0.25


def tune(seconds: float) -> FloatArray:
    """Broken chords on something like a piano."""
    samples = np.zeros(round((seconds + 1) * RATE_HZ))
    moments = np.arange(RATE_HZ) / RATE_HZ
    for number in range(int(seconds / _NOTE_SECONDS)):
        pitch = _CHORDS_HZ[number // 8 % 3][number % 3]
        tones = (np.sin(2 * np.pi * pitch * k * moments) / k for k in range(1, 7))
        start = round(number * _NOTE_SECONDS * RATE_HZ)
        samples[start : start + RATE_HZ] += 0.15 * np.exp(-3 * moments) * sum(tones)
    return samples[: round(seconds * RATE_HZ)].astype(np.float32)
