"""The tables around the work: who is at it, what comes in, what goes out, what is due when."""

from sqlalchemy import Boolean, Column, ForeignKey, Index, Integer, String, Table, Text, text

from schemas.tables.base import id_column, metadata
from schemas.types import Id, Json, UtcDateTime, utc_now

_UNSENT_WEBHOOK = "webhook IS NOT NULL AND sent_at IS NULL AND failed_at IS NULL"


worker = Table(
    "worker",
    metadata,
    # As in stage_run.lease_owner.
    Column("owner", Text, primary_key=True),
    # The queues it takes from, by comma; empty for a process that only dispatches.
    Column("queues", Text, nullable=False),
    # Stage runs it works on at once.
    Column("slots", Integer, nullable=False),
    Column("version", String(32), nullable=False),
    Column("started_at", UtcDateTime, nullable=False, default=utc_now()),
    Column("seen_at", UtcDateTime, nullable=False, default=utc_now(), index=True),
)

dead_letter = Table(
    "dead_letter",
    metadata,
    id_column(),
    # queue, http or event.
    Column("origin", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    # The message as it came; bytes that are no UTF-8 are escaped.
    Column("body", Text, nullable=False),
    Column("received_at", UtcDateTime, nullable=False, default=utc_now(), index=True),
)

bucket_event = Table(
    "bucket_event",
    metadata,
    # The newest event known of an object: an older one that comes later changes nothing.
    Column("uri", Text, primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("sequencer", Text),
    Column("version", Text),
    Column("etag", Text),
    Column("received_at", UtcDateTime, nullable=False, default=utc_now()),
)

schedule = Table(
    "schedule",
    metadata,
    id_column(),
    Column("name", Text, nullable=False, unique=True),
    Column("cron", Text, nullable=False),
    Column("time_zone", Text, nullable=False),
    Column("message", Json, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("next_fire_at", UtcDateTime, index=True),
)

schedule_fire = Table(
    "schedule_fire",
    metadata,
    # The key is what makes a schedule fire once, however many schedulers run.
    Column("schedule_id", Id, ForeignKey("schedule.id", ondelete="CASCADE"), primary_key=True),
    Column("fire_at", UtcDateTime, primary_key=True),
    Column("fired_at", UtcDateTime, nullable=False, default=utc_now()),
    Column("job_id", Id, ForeignKey("job.id")),
    Column("error_text", Text),
)

campaign = Table(
    "campaign",
    metadata,
    id_column(),
    Column("name", Text, nullable=False, unique=True),
    Column("plan", Json, nullable=False),
    Column("state", String(16), nullable=False),
    Column("created_at", UtcDateTime, nullable=False, default=utc_now()),
    Column("switched_at", UtcDateTime),
)

outbox = Table(
    "outbox",
    metadata,
    id_column(),
    Column("topic", Text, nullable=False),
    Column("body", Json, nullable=False),
    # The URL to call; NULL: the broker's exchange.
    Column("webhook", Text),
    Column("created_at", UtcDateTime, nullable=False, default=utc_now()),
    Column("sent_at", UtcDateTime, index=True),
    Column("attempt", Integer, nullable=False, server_default="0"),
    Column("not_before", UtcDateTime),
    Column("error_text", Text),
    # Given up: only a webhook that never answered is.
    Column("failed_at", UtcDateTime),
    Index(
        "ix_outbox_unsent",
        "id",
        sqlite_where=text("sent_at IS NULL AND failed_at IS NULL"),
        postgresql_where=text("sent_at IS NULL AND failed_at IS NULL"),
    ),
    Index(
        "ix_outbox_unsent_webhook",
        "id",
        sqlite_where=text(_UNSENT_WEBHOOK),
        postgresql_where=text(_UNSENT_WEBHOOK),
    ),
)
