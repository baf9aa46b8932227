"""Jobs that survive: pause and cancel, events, schedules that fire once, workers by name

Revision: 0002, after 0001.
"""

import sqlalchemy as sa
from alembic import op

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "bucket_event",
        sa.Column("uri", sa.Text(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("sequencer", sa.Text(), nullable=True),
        sa.Column("version", sa.Text(), nullable=True),
        sa.Column("etag", sa.Text(), nullable=True),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("uri", name=op.f("pk_bucket_event")),
    )
    op.create_table(
        "dead_letter",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("origin", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dead_letter")),
    )
    op.create_index(
        op.f("ix_dead_letter_received_at"), "dead_letter", ["received_at"], unique=False
    )
    op.create_table(
        "worker",
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("queues", sa.Text(), nullable=False),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.Column("version", sa.String(length=32), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("owner", name=op.f("pk_worker")),
    )
    op.create_index(op.f("ix_worker_seen_at"), "worker", ["seen_at"], unique=False)
    op.create_table(
        "schedule_fire",
        sa.Column("schedule_id", ID, nullable=False),
        sa.Column("fire_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("fired_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("job_id", ID, nullable=True),
        sa.Column("error_text", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_schedule_fire_job_id")),
        sa.ForeignKeyConstraint(
            ["schedule_id"],
            ["schedule.id"],
            name=op.f("fk_schedule_fire_schedule_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("schedule_id", "fire_at", name=op.f("pk_schedule_fire")),
    )
    op.add_column(
        "job", sa.Column("origin", sa.String(length=16), server_default="command", nullable=False)
    )
    op.add_column(
        "job", sa.Column("events", sa.String(length=8), server_default="none", nullable=False)
    )
    op.add_column("job", sa.Column("webhook", sa.Text(), nullable=True))
    op.add_column("job", sa.Column("paused_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("job", sa.Column("cancelled_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("job", sa.Column("error_class", sa.String(length=64), nullable=True))
    op.add_column("job", sa.Column("error_text", sa.Text(), nullable=True))
    op.add_column("job_item", sa.Column("error_class", sa.String(length=64), nullable=True))
    op.add_column("job_item", sa.Column("error_text", sa.Text(), nullable=True))
    # Whose run another job has brought to an end since, has lost its reason.
    op.execute(
        "UPDATE job_item SET "
        "error_class = coalesce((SELECT error_class FROM stage_run r WHERE r.id = failed_run_id), "
        "'PipelineError'), "
        "error_text = coalesce((SELECT error_text FROM stage_run r WHERE r.id = failed_run_id), "
        "'not known any more: another job has tried the file since') "
        "WHERE state = 'failed'"
    )
    op.create_index(
        "ix_job_running",
        "job",
        ["id"],
        unique=False,
        sqlite_where=sa.text("state = 'running'"),
        postgresql_where=sa.text("state = 'running'"),
    )
    op.create_index(
        "ix_job_paused_at",
        "job",
        ["paused_at"],
        unique=False,
        sqlite_where=sa.text("state IN ('expanding', 'running') AND paused_at IS NOT NULL"),
        postgresql_where=sa.text("state IN ('expanding', 'running') AND paused_at IS NOT NULL"),
    )
    op.create_index(op.f("ix_keyframe_sha256"), "keyframe", ["sha256"], unique=False)
    op.create_index(
        "ix_job_cancelled_at",
        "job",
        ["cancelled_at"],
        unique=False,
        sqlite_where=sa.text("state IN ('expanding', 'running') AND cancelled_at IS NOT NULL"),
        postgresql_where=sa.text("state IN ('expanding', 'running') AND cancelled_at IS NOT NULL"),
    )
    op.add_column("outbox", sa.Column("webhook", sa.Text(), nullable=True))
    op.add_column("outbox", sa.Column("attempt", sa.Integer(), server_default="0", nullable=False))
    op.add_column("outbox", sa.Column("not_before", sa.DateTime(timezone=True), nullable=True))
    op.add_column("outbox", sa.Column("error_text", sa.Text(), nullable=True))
    op.add_column("outbox", sa.Column("failed_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "ix_outbox_unsent",
        "outbox",
        ["id"],
        unique=False,
        sqlite_where=sa.text("sent_at IS NULL AND failed_at IS NULL"),
        postgresql_where=sa.text("sent_at IS NULL AND failed_at IS NULL"),
    )
    op.create_index(
        "ix_outbox_unsent_webhook",
        "outbox",
        ["id"],
        unique=False,
        sqlite_where=sa.text("webhook IS NOT NULL AND sent_at IS NULL AND failed_at IS NULL"),
        postgresql_where=sa.text("webhook IS NOT NULL AND sent_at IS NULL AND failed_at IS NULL"),
    )
    op.add_column(
        "stage_run", sa.Column("republished", sa.Integer(), server_default="0", nullable=False)
    )
    op.drop_index(
        op.f("ix_stage_run_due"), table_name="stage_run", sqlite_where=sa.text("state = 'queued'")
    )
    op.create_index(
        "ix_stage_run_due",
        "stage_run",
        ["queue", "dispatch_rank", "job_id", "id"],
        unique=False,
        sqlite_where=sa.text("state = 'queued' AND published_at IS NULL"),
        postgresql_where=sa.text("state = 'queued' AND published_at IS NULL"),
    )
    op.create_index(
        "ix_stage_run_error_class",
        "stage_run",
        ["error_class"],
        unique=False,
        sqlite_where=sa.text("state = 'failed'"),
        postgresql_where=sa.text("state = 'failed'"),
    )
    op.create_index(
        "ix_stage_run_not_before",
        "stage_run",
        ["not_before"],
        unique=False,
        sqlite_where=sa.text("state = 'waiting'"),
        postgresql_where=sa.text("state = 'waiting'"),
    )
    # Listings were not work that survives before; whoever began one has to submit again.
    op.execute(
        "UPDATE job_item SET state = 'cancelled' WHERE state IN ('pending', 'running') "
        "AND job_id IN (SELECT id FROM job WHERE state = 'expanding')"
    )
    op.execute("UPDATE job SET state = 'cancelled' WHERE state = 'expanding'")


def downgrade() -> None:
    op.drop_index("ix_stage_run_not_before", table_name="stage_run")
    op.drop_index("ix_stage_run_error_class", table_name="stage_run")
    op.drop_index("ix_stage_run_due", table_name="stage_run")
    op.create_index(
        "ix_stage_run_due",
        "stage_run",
        ["queue", "dispatch_rank", "id"],
        sqlite_where=sa.text("state = 'queued'"),
        postgresql_where=sa.text("state = 'queued'"),
    )
    op.drop_column("stage_run", "republished")
    op.drop_index("ix_outbox_unsent_webhook", table_name="outbox")
    op.drop_index("ix_outbox_unsent", table_name="outbox")
    for name in ("failed_at", "error_text", "not_before", "attempt", "webhook"):
        op.drop_column("outbox", name)
    op.drop_index(op.f("ix_keyframe_sha256"), table_name="keyframe")
    op.drop_index("ix_job_running", table_name="job")
    op.drop_column("job_item", "error_text")
    op.drop_column("job_item", "error_class")
    op.drop_index("ix_job_paused_at", table_name="job")
    op.drop_index("ix_job_cancelled_at", table_name="job")
    for name in (
        "error_text", "error_class", "cancelled_at", "paused_at", "webhook", "events", "origin",
    ):  # fmt: skip
        op.drop_column("job", name)
    op.drop_table("schedule_fire")
    op.drop_table("worker")
    op.drop_table("dead_letter")
    op.drop_table("bucket_event")
