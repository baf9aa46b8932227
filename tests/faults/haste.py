"""What production does every few seconds or minutes is done every moment: a night in seconds.

Nothing here changes what is done, only how long it is waited for.
"""

from typing import Any

from tenacity import wait_random_exponential


def install() -> None:
    """Shorten the pauses of this process."""
    from pipeline.runner import attempt, expand, patience
    from workers import app, confirmed, dispatcher, host, outage, supervisor
    from workers.intake import redis_stream

    # Several batches in a listing of a few files.
    expand.BATCH = 3
    dispatcher.RECOVER_EVERY_SECONDS = 0.5
    dispatcher.LOST_SECONDS = 2.0
    host.DEAF_SECONDS = 6.0
    app.BROKER_SECONDS = 3
    confirmed.CONFIRM_SECONDS = 2
    attempt.NEWER_PAUSE_SECONDS = 0.5
    patience.WAIT = wait_random_exponential(multiplier=0.2, max=1)
    outage.MAX_PAUSE_SECONDS = 1
    supervisor.Times.__init__.__kwdefaults__ |= {"first_pause": 0.1, "longest_pause": 0.5}
    redis_stream.RedisStreamListener.__init__.__kwdefaults__["reclaim_seconds"] = 1.5
    transport_options = app._transport_options

    def hasty_options(broker: str) -> dict[str, Any]:
        options = transport_options(broker)
        if "visibility_timeout" in options:
            options |= {
                "visibility_timeout": 3,
                "unacked_restore_interval": 1,
                "unacked_restore_throttle": 1,
                # Held by whoever restores, and for so long by one that was killed meanwhile.
                "unacked_mutex_expire": 2,
            }
        return options

    app._transport_options = hasty_options
