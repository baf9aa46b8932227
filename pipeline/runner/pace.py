"""How long stages take in this process."""

import threading

#: Weight of the latest run in the mean.
_WEIGHT = 0.2


class Pace:
    """Moving means of the seconds of each stage's runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds: dict[str, float] = {}

    def note(self, stage: str, seconds: float) -> None:
        """A run of it has ended."""
        with self._lock:
            mean = self._seconds.get(stage, seconds)
            self._seconds[stage] = mean + _WEIGHT * (seconds - mean)

    def slower_than(self, seconds: float) -> frozenset[str]:
        """Stages of which that is known."""
        with self._lock:
            return frozenset(name for name, mean in self._seconds.items() if mean >= seconds)
