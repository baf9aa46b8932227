"""Sends events from the outbox: to the broker's exchange, and to webhooks.

Any number of relays may run, in any process: rows are taken, never shared. Each has one thread for
the exchange and one for webhooks, so that a slow receiver delays no other reader of events.
"""

import threading
import time

import structlog

from pipeline.db import outbox
from pipeline.errors import BrokerUnavailableError, ConfigurationError, DatabaseUnavailableError
from pipeline.runner.runtime import Runtime
from workers.confirmed import Published
from workers.event_publishers import make_event_publisher
from workers.outage import Outage
from workers.webhooks import WebhookSender

log = structlog.get_logger()

#: How often a relay looks for events to publish.
POLL_SECONDS = 0.5
#: Events per transaction, and per wait for the broker's confirmation.
BATCH = 200
#: On SQLite the transaction keeps all other writers waiting.
SQLITE_BATCH = 50
#: A queue that took no more is tried again after so long.
REFUSED_SECONDS = 30
#: Sent events are kept for so long, for people who look for one.
KEEP_SENT_DAYS = 7
FORGET_EVERY_SECONDS = 3600
JOIN_SECONDS = 15


class Relay:
    """The threads that empty the outbox."""

    def __init__(self, runtime: Runtime) -> None:
        """Raises ConfigurationError: webhooks are allowed, but there is nothing to sign with."""
        self._database = runtime.database
        self._stop = threading.Event()
        self._publisher = make_event_publisher(runtime.settings)
        self._outage = Outage()
        self._batch = SQLITE_BATCH if runtime.database.is_sqlite else BATCH
        self._threads = [threading.Thread(target=self._run, name="relay", daemon=True)]
        if runtime.settings.events.webhook_hosts:
            # Without, webhooks are left to the processes that may call them.
            sender = WebhookSender(runtime.database, runtime.settings, self._stop)
            self._threads.append(threading.Thread(target=sender.run, name="webhooks", daemon=True))

    @property
    def alive(self) -> bool:
        return all(thread.is_alive() for thread in self._threads)

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Take nothing more; calls under way are waited for, a few seconds."""
        self._stop.set()
        for thread in self._threads:
            if thread.is_alive():
                # No longer: a lookup of a host name cannot be interrupted.
                thread.join(JOIN_SECONDS)
        if not self._threads[0].is_alive():
            self._publisher.close()

    def _run(self) -> None:
        forgot_at = -float(FORGET_EVERY_SECONDS)
        while not self._stop.is_set():
            pause = POLL_SECONDS
            try:
                if time.monotonic() - forgot_at >= FORGET_EVERY_SECONDS:
                    self.forget()
                    forgot_at = time.monotonic()
                if self.publish_batch() == self._batch:
                    pause = 0
                self._outage.over()
            except DatabaseUnavailableError as error:
                pause = self._outage.met("database_away", error)
            except (BrokerUnavailableError, ConfigurationError) as error:
                pause = self._outage.met("events_wait_for_the_broker", error)
            except Exception:
                # A bug must be loud, and must not end the relay.
                log.exception("relay_bug")
            self._stop.wait(pause)

    def publish_batch(self) -> int:
        """Publish what is due, up to a batch; gives how many events were taken.

        Raises:
            BrokerUnavailableError: what the broker did not confirm stays due.
        """
        with self._database.reading() as connection:
            if not outbox.any_due(connection, "exchange"):
                return 0
        # Connecting may take long: no transaction waits for it.
        self._publisher.connect()
        with self._database.transaction() as connection:
            events = outbox.take_batch(connection, self._batch, "exchange")
            published = self._publisher.publish(events) if events else Published()
            outbox.mark_sent(connection, published.confirmed)
            for event in events:
                if event.id in published.refused:
                    reason = published.refused[event.id]
                    outbox.mark_failed(connection, event, reason, retry_in=REFUSED_SECONDS)
        if published.refused:
            log.warning("events_refused", count=len(published.refused))
        if published.error is not None:
            raise published.error
        return len(events)

    def forget(self) -> None:
        """Delete events that were sent long ago."""
        while not self._stop.is_set():
            with self._database.transaction() as connection:
                if not outbox.forget_sent(connection, older_than_days=KEEP_SENT_DAYS):
                    return
