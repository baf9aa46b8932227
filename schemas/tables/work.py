"""Work: ``job`` → ``job_item`` → ``location`` → ``asset`` → ``stage_run``.

``head`` says which run of a stage analysts see.
"""

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from schemas.tables.base import id_column, metadata, run_key_column
from schemas.types import Id, Json, UtcDateTime, utc_now

STAGE_RUN_STATES = ("waiting", "queued", "running", "succeeded", "failed", "cancelled")
JOB_STATES = ("expanding", "running", "done", "failed", "cancelled")
ITEM_STATES = ("pending", "running", "done", "failed", "cancelled")

#: The stages before there is an asset: from a job to its places, from a place to its asset.
EXPAND, INGEST = "expand", "ingest"


def _one_of(column: str, values: tuple[str, ...], name: str) -> CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=name)


asset = Table(
    "asset",
    metadata,
    id_column(),
    Column("sha256", String(64), nullable=False, unique=True),
    Column("kind", String(16), nullable=False),
    Column("container", Text, nullable=False),
    Column("size_bytes", Id, nullable=False),
    Column("duration_ms", Id),
    Column("width_px", Integer),
    Column("height_px", Integer),
    Column("frame_rate", Float),
    Column("has_audio", Boolean, nullable=False),
    # How often it was locked: pipeline.db.assets.
    Column("lock_count", Integer, nullable=False, server_default="0"),
    Column("ingested_at", UtcDateTime, nullable=False, default=utc_now()),
    CheckConstraint("kind IN ('video', 'image', 'audio')", name="kind"),
)

location = Table(
    "location",
    metadata,
    id_column(),
    Column("uri", Text, nullable=False),
    # Empty where a listing gives none, so that the unique constraint holds on every database.
    Column("etag", Text, nullable=False, default=""),
    # The store's version of the bytes that were ingested.
    Column("version", Text),
    Column("size_bytes", Id),
    Column("is_current", Boolean, nullable=False, default=True),
    Column("asset_id", Id, ForeignKey("asset.id"), index=True),
    # The ingest whose findings (asset, sidecars) hold now. No foreign key: the run refers to us.
    Column("ingest_run_id", Id),
    Column("first_seen_at", UtcDateTime, nullable=False, default=utc_now()),
    UniqueConstraint("uri", "etag"),
)

sidecar = Table(
    "sidecar",
    metadata,
    Column("location_id", Id, ForeignKey("location.id"), primary_key=True),
    Column("uri", Text, primary_key=True),
    Column("name", Text, nullable=False),
    # The content is stored as the artifact of this digest.
    Column("sha256", String(64), nullable=False),
)

stream = Table(
    "stream",
    metadata,
    Column("asset_id", Id, ForeignKey("asset.id"), primary_key=True),
    Column("stream_index", Integer, primary_key=True, autoincrement=False),
    Column("kind", String(16), nullable=False),
    Column("codec", Text),
    Column("language", Text),
    Column("title", Text),
    Column("is_default", Boolean, nullable=False),
    Column("width_px", Integer),
    Column("height_px", Integer),
    Column("frame_rate", Float),
    Column("sample_rate_hz", Integer),
    Column("channels", Integer),
    Column("time_base_num", Integer),
    Column("time_base_den", Integer),
)

job = Table(
    "job",
    metadata,
    id_column(),
    Column("job_key", Text, unique=True),
    Column("name", Text, nullable=False),
    Column("priority", Integer, nullable=False, default=0),
    Column("profile", Text, nullable=False),
    Column("sources", Json, nullable=False),
    # The resolved plan (models and parameters of every stage), so that a later change of the
    # profile does not change a job under way.
    Column("plan", Json, nullable=False),
    Column("state", String(16), nullable=False),
    # How it came in: command, client, queue, http, event, sweep or schedule.
    Column("origin", String(16), nullable=False, server_default="command"),
    # What is told to the world when something of it ends: none, jobs or assets; and whom besides.
    Column("events", String(8), nullable=False, server_default="none"),
    Column("webhook", Text),
    Column("files_skipped", Id, nullable=False, default=0),
    Column("submitted_at", UtcDateTime, nullable=False, default=utc_now()),
    Column("finished_at", UtcDateTime),
    # Nothing of a paused job, or of one that is being cancelled, is started.
    Column("paused_at", UtcDateTime),
    Column("cancelled_at", UtcDateTime),
    # Why its sources could not be listed.
    Column("error_class", String(64)),
    Column("error_text", Text),
    _one_of("state", JOB_STATES, "state"),
    Index(
        "ix_job_running",
        "id",
        sqlite_where=text("state = 'running'"),
        postgresql_where=text("state = 'running'"),
    ),
    Index(
        "ix_job_paused_at",
        "paused_at",
        sqlite_where=text("state IN ('expanding', 'running') AND paused_at IS NOT NULL"),
        postgresql_where=text("state IN ('expanding', 'running') AND paused_at IS NOT NULL"),
    ),
    Index(
        "ix_job_cancelled_at",
        "cancelled_at",
        sqlite_where=text("state IN ('expanding', 'running') AND cancelled_at IS NOT NULL"),
        postgresql_where=text("state IN ('expanding', 'running') AND cancelled_at IS NOT NULL"),
    ),
)

job_item = Table(
    "job_item",
    metadata,
    Column("job_id", Id, ForeignKey("job.id"), primary_key=True),
    Column("location_id", Id, ForeignKey("location.id"), primary_key=True),
    Column("asset_id", Id, ForeignKey("asset.id")),
    # The ingest that this item waits for, and the run that it failed with.
    Column("ingest_run_id", Id, ForeignKey("stage_run.id"), nullable=False),
    Column("failed_run_id", Id, ForeignKey("stage_run.id")),
    Column("state", String(16), nullable=False),
    # Of that run as it was: another job may have brought it to an end since.
    Column("error_class", String(64)),
    Column("error_text", Text),
    _one_of("state", ITEM_STATES, "state"),
    Index("ix_job_item_job_id_state", "job_id", "state"),
    Index("ix_job_item_location_id", "location_id"),
    Index("ix_job_item_asset_id", "asset_id"),
    Index("ix_job_item_ingest_run_id", "ingest_run_id"),
)

model = Table(
    "model",
    metadata,
    id_column(),
    Column("name", Text, nullable=False),
    Column("revision", Text, nullable=False),
    Column("task", Text, nullable=False),
    Column("licence", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("sha256", String(64)),
    UniqueConstraint("name", "revision"),
)

stage_run = Table(
    "stage_run",
    metadata,
    id_column(),
    # The listing of a job's sources has neither; an ingest run starts from a location, and its
    # asset is known when it has succeeded.
    Column("asset_id", Id, ForeignKey("asset.id")),
    Column("location_id", Id, ForeignKey("location.id")),
    Column("job_id", Id, ForeignKey("job.id")),
    Column("stage", String(32), nullable=False),
    Column("queue", String(16), nullable=False),
    Column("fingerprint", String(64), nullable=False),
    Column("code_version", Integer, nullable=False),
    Column("params", Json, nullable=False),
    # What went in, by digest. With stage, code_version, params and models: the fingerprint.
    Column("inputs", Json, nullable=False),
    # The model whose output the rows are; all models a run used are in stage_run_model.
    Column("model_id", Id, ForeignKey("model.id")),
    # Lower goes first: minus the job's priority, so that a plain ascending index serves.
    Column("dispatch_rank", Integer, nullable=False, default=0),
    Column("state", String(16), nullable=False),
    Column("attempt", Integer, nullable=False, default=0),
    Column("lease_token", String(36)),
    Column("lease_owner", Text),
    Column("lease_expires_at", UtcDateTime),
    # When a waiting run is due again.
    Column("not_before", UtcDateTime),
    # When its id was given to the broker, and how often again since the last claim.
    Column("published_at", UtcDateTime),
    Column("republished", Integer, nullable=False, server_default="0"),
    Column("created_at", UtcDateTime, nullable=False, default=utc_now()),
    Column("started_at", UtcDateTime),
    Column("finished_at", UtcDateTime),
    Column("seconds", Float),
    Column("device_seconds", Float),
    # CPU seconds by kind (decoder, model, start-up, all); what make bench adds up.
    Column("cpu_seconds", Json),
    Column("error_class", String(64)),
    Column("error_text", Text),
    # Digest of each output, by name: what the fingerprints of the next stages are made of.
    Column("outputs", Json),
    Column("notes", Json),
    _one_of("state", STAGE_RUN_STATES, "state"),
    UniqueConstraint("asset_id", "stage", "fingerprint"),
    UniqueConstraint("location_id", "stage", "fingerprint"),
    # What the dispatcher may publish: exactly the rows of this index.
    Index(
        "ix_stage_run_due",
        "queue",
        "dispatch_rank",
        "job_id",
        "id",
        sqlite_where=text("state = 'queued' AND published_at IS NULL"),
        postgresql_where=text("state = 'queued' AND published_at IS NULL"),
    ),
    Index(
        "ix_stage_run_published",
        "queue",
        "published_at",
        sqlite_where=text("state = 'queued' AND published_at IS NOT NULL"),
        postgresql_where=text("state = 'queued' AND published_at IS NOT NULL"),
    ),
    Index(
        "ix_stage_run_lease_expires_at",
        "lease_expires_at",
        sqlite_where=text("state = 'running'"),
        postgresql_where=text("state = 'running'"),
    ),
    Index(
        "ix_stage_run_not_before",
        "not_before",
        sqlite_where=text("state = 'waiting'"),
        postgresql_where=text("state = 'waiting'"),
    ),
    Index(
        "ix_stage_run_error_class",
        "error_class",
        sqlite_where=text("state = 'failed'"),
        postgresql_where=text("state = 'failed'"),
    ),
    Index("ix_stage_run_job_id_stage_state", "job_id", "stage", "state"),
)

stage_run_input = Table(
    "stage_run_input",
    metadata,
    run_key_column(),
    Column("input_run_id", Id, ForeignKey("stage_run.id"), primary_key=True),
)

stage_run_model = Table(
    "stage_run_model",
    metadata,
    run_key_column(),
    Column("role", String(32), primary_key=True),
    Column("model_id", Id, ForeignKey("model.id"), nullable=False),
    # What the run had of it; NULL until it succeeded, or where nothing was asked.
    Column("items", Integer),
    Column("device_seconds", Float),
)

head = Table(
    "head",
    metadata,
    Column("asset_id", Id, ForeignKey("asset.id"), primary_key=True),
    Column("stage", String(32), primary_key=True),
    Column("stage_run_id", Id, ForeignKey("stage_run.id"), nullable=False, index=True),
    Column("flipped_at", UtcDateTime, nullable=False, default=utc_now()),
)
