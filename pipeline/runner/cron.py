"""When a cron expression fires, in its time zone. Asks no clock: now is always given."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from pipeline.errors import ConfigurationError, ContractError

_HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cron:
    """Five fields: minute, hour, day of month, month, day of week.

    At a fixed hour it fires once a day whatever the clocks do: a time that a change of clocks
    leaves out fires at the end of the gap, a time that comes twice fires the first time. With a
    ``*`` in the minute or hour it follows the time that passes.
    """

    expression: str
    zone: ZoneInfo

    @classmethod
    def parse(cls, expression: str, time_zone: str) -> Self:
        """Raises ConfigurationError: no cron expression, or no such time zone."""
        try:
            zone = ZoneInfo(time_zone)
        except (KeyError, ValueError, OSError) as error:
            raise ConfigurationError(
                f"there is no time zone {time_zone!r}; write one such as Europe/Berlin or UTC"
            ) from error
        try:
            if len(expression.split()) != 5:
                raise CronSimError("it does not have five fields")
            found = next(CronSim(expression, datetime(2000, 1, 1, tzinfo=zone)), None)
        except CronSimError as error:
            raise ConfigurationError(
                f"{expression!r} is no cron expression ({error}); write minute, hour, day of "
                'month, month and day of week, such as "30 2 * * *"'
            ) from error
        if found is None:
            raise ConfigurationError(f"the time of the cron expression {expression!r} never comes")
        return cls(expression=expression, zone=zone)

    def after(self, moment: datetime) -> datetime:
        """The first time after ``moment`` (aware), in UTC."""
        # Python compares two times of the same zone by what its clocks show: not exact.
        moment = moment.astimezone(UTC)
        for found in CronSim(self.expression, moment.astimezone(self.zone)):
            # In an hour that comes twice cronsim may begin with the first of the two.
            if found > moment:
                return found.astimezone(UTC)
        raise ContractError(f"{self.expression!r} has no time after {moment}, but had one in 2000")

    def next_times(self, moment: datetime, count: int) -> list[datetime]:
        """The first ``count`` times after ``moment``, in the time zone of the expression."""
        times: list[datetime] = []
        for _ in range(count):
            moment = self.after(moment)
            times.append(moment.astimezone(self.zone))
        return times

    def latest(self, *, since: datetime, until: datetime) -> datetime:
        """The last time after ``since`` and up to ``until``, in UTC; ``since`` itself if there is
        none."""
        since, until = since.astimezone(UTC), until.astimezone(UTC)
        window = _HOUR
        while True:
            start = max(since, until - window)
            found, moment = None, self.after(start)
            while moment <= until:
                found, moment = moment, self.after(moment)
            if found is not None:
                return found
            if start == since:
                return since
            window *= 4
