"""The sound: there or not, as long as it should be, and the right one."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from conformance.outcomes import Case

from pipeline.media import load_audio
from pipeline.media.params import AUDIO_RATE_HZ

_Samples = npt.NDArray[np.float32]
#: Encoders pad, decoders drop what was padded.
_LENGTH_TOLERANCE_MS = 100
#: What is known to speak, sing or bark is louder than this.
_AUDIBLE_RMS = 0.002
#: Pauses are quieter than speech by this factor at least.
_PAUSE_FACTOR = 4
#: Shorter pauses hold reverberation.
_MIN_PAUSE_S = 0.3
#: Correlation of a clip with its place in a film, after lossy coding; another clip has 0.1.
_SAME_SOUND = 0.7
_CLIP_SHIFT_MS = 40


def check_sound(case: Case) -> Iterator[str]:
    """Against the streams that another decoder found, and what is known to be heard."""
    result, entry = case.outcome.result, case.entry
    if result is None or entry.is_sidecar:
        return
    wanted = entry.truth.get("has_audio")
    if wanted is None and entry.expect == "decode":
        wanted = bool(entry.streams("audio"))
    if wanted is None:
        return
    if wanted != (result.audio_path is not None):
        yield "has sound, but none came out" if wanted else "has no sound, but some came out"
    if result.audio_path is None:
        return
    samples = load_audio(result.audio_path)
    yield from _check_length(case, len(samples) * 1000 / AUDIO_RATE_HZ)
    is_known = {"label", "transcript", "language", "speech", "timeline"} & set(entry.truth)
    if is_known and _rms(samples) < _AUDIBLE_RMS:
        yield f"is audible, but the sound's RMS is {_rms(samples):.5f}"
    yield from _check_speech(case, samples)
    yield from _check_pauses(case, samples)


def _check_length(case: Case, found_ms: float) -> Iterator[str]:
    """Between the start of the last audio frame and its end; sound begins with the presentation."""
    streams = case.entry.streams("audio")
    if not streams or case.entry.expect != "decode":
        return
    start = min(s["first"] for s in [*streams, *case.entry.streams("video")])
    frame = max((s["last"] - s["first"]) / max(1, s["frames"] - 1) for s in streams)
    shortest = min(s["last"] for s in streams) - start
    longest = max(s["last"] for s in streams) + frame - start
    low = shortest * 1000 - _LENGTH_TOLERANCE_MS
    high = longest * 1000 + _LENGTH_TOLERANCE_MS
    if not low <= found_ms <= high:
        yield f"the sound lasts {shortest:.3f} to {longest:.3f} s, not {found_ms:.0f} ms"


def _check_speech(case: Case, samples: _Samples) -> Iterator[str]:
    """Each clip is heard where it was put: the right stream, mixed and resampled well, in time."""
    spans = case.entry.truth.get("speech", ())
    for span in spans:
        clip_path = getattr(case.outcomes.of(span["clip"]).result, "audio_path", None)
        if clip_path is None:
            yield f"the clip {span['clip']} cannot be compared"
            continue
        likeness, shift_ms = _likeness(samples, load_audio(clip_path), span["start"])
        if likeness < _SAME_SOUND:
            yield f"{span['clip']} is not heard at {span['start']} s (correlation {likeness:.2f})"
        elif abs(shift_ms) > _CLIP_SHIFT_MS:
            yield f"{span['clip']} is heard {shift_ms:.0f} ms off"
    edges = [edge for span in spans for edge in (span["start"], span["end"])]
    loud = _spans_rms(samples, [(s["start"], s["end"]) for s in spans]) if spans else 0.0
    for end, start in zip(edges[1:-1:2], edges[2::2], strict=True):
        quiet = _spans_rms(samples, [(end + 0.05, start - 0.05)])
        if start - end >= _MIN_PAUSE_S and quiet * _PAUSE_FACTOR > loud:
            yield f"it is not quiet between {end} and {start} s"


def _likeness(film: _Samples, clip: _Samples, at: float) -> tuple[float, float]:
    """Best normalised correlation within a second around, and how far off."""
    begin = max(0, int((at - 0.5) * AUDIO_RATE_HZ))
    part = film[begin : begin + len(clip) + AUDIO_RATE_HZ]
    size = 1 << (len(part) + len(clip)).bit_length()
    products = np.fft.irfft(np.fft.rfft(part, size) * np.conj(np.fft.rfft(clip, size)), size)
    products = products[: max(1, len(part) - len(clip) + 1)]
    best = int(products.argmax())
    energy = float(np.linalg.norm(clip) * np.linalg.norm(part[best : best + len(clip)]))
    shift_ms = ((begin + best) / AUDIO_RATE_HZ - at) * 1000
    return float(products[best]) / (energy or 1.0), shift_ms


def _check_pauses(case: Case, samples: _Samples) -> Iterator[str]:
    spans = case.entry.truth.get("vad_first_2s")
    if not spans:
        return
    is_speech = np.zeros(2 * AUDIO_RATE_HZ, dtype=bool)
    for start, end in spans:
        is_speech[int(start * AUDIO_RATE_HZ) : int(end * AUDIO_RATE_HZ)] = True
    first = samples[: 2 * AUDIO_RATE_HZ]
    if _rms(first[is_speech]) < _PAUSE_FACTOR * _rms(first[~is_speech]):
        yield "speech and pauses of the first two seconds are not where they should be"


def _spans_rms(samples: _Samples, spans: list[tuple[float, float]]) -> float:
    parts = [samples[int(a * AUDIO_RATE_HZ) : int(b * AUDIO_RATE_HZ)] for a, b in spans]
    return _rms(np.concatenate(parts))


def _rms(samples: _Samples) -> float:
    return float(np.sqrt(np.mean(np.square(samples.astype(np.float64))))) if len(samples) else 0.0
