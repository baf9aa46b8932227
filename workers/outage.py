"""A dependency that is away: said once, tried again at growing intervals."""

import random

import structlog

log = structlog.get_logger()

FIRST_PAUSE_SECONDS = 0.5
MAX_PAUSE_SECONDS = 30


class Outage:
    """Of one thread, from its first failure to its next success."""

    def __init__(self) -> None:
        self._failures = 0

    def met(self, event: str, error: Exception) -> float:
        """Log ``event`` if it is news; gives the seconds to wait before the next try."""
        if self._failures == 0:
            log.warning(event, reason=str(error))
        self._failures += 1
        pause = FIRST_PAUSE_SECONDS * 2 ** min(self._failures - 1, 10)
        # So that all processes of a cluster do not come back at the same moment.
        spread = random.uniform(0.5, 1)  # noqa: S311  guards nothing
        return float(min(pause, MAX_PAUSE_SECONDS) * spread)

    def over(self) -> None:
        if self._failures:
            log.info("outage_over", tries=self._failures)
        self._failures = 0
