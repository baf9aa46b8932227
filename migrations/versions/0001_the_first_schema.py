"""The first schema

Revision: 0001, the first.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "asset",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("container", sa.Text(), nullable=False),
        sa.Column("size_bytes", ID, nullable=False),
        sa.Column("duration_ms", ID, nullable=True),
        sa.Column("width_px", sa.Integer(), nullable=True),
        sa.Column("height_px", sa.Integer(), nullable=True),
        sa.Column("frame_rate", sa.Float(), nullable=True),
        sa.Column("has_audio", sa.Boolean(), nullable=False),
        sa.Column("ingested_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("kind IN ('video', 'image', 'audio')", name=op.f("ck_asset_kind")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_asset")),
        sa.UniqueConstraint("sha256", name=op.f("uq_asset_sha256")),
    )
    op.create_table(
        "campaign",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("plan", JSON, nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("switched_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_campaign")),
        sa.UniqueConstraint("name", name=op.f("uq_campaign_name")),
    )
    op.create_table(
        "job",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("job_key", sa.Text(), nullable=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("profile", sa.Text(), nullable=False),
        sa.Column("sources", JSON, nullable=False),
        sa.Column("plan", JSON, nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("files_skipped", ID, nullable=False),
        sa.Column("submitted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('expanding', 'running', 'done', 'failed', 'cancelled')",
            name=op.f("ck_job_state"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job")),
        sa.UniqueConstraint("job_key", name=op.f("uq_job_job_key")),
    )
    op.create_table(
        "label",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_label")),
        sa.UniqueConstraint("name", name=op.f("uq_label_name")),
    )
    op.create_table(
        "model",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("revision", sa.Text(), nullable=False),
        sa.Column("task", sa.Text(), nullable=False),
        sa.Column("licence", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model")),
        sa.UniqueConstraint("name", "revision", name=op.f("uq_model_name_revision")),
    )
    op.create_table(
        "outbox",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("body", JSON, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
    )
    with op.batch_alter_table("outbox", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_outbox_sent_at"), ["sent_at"], unique=False)

    op.create_table(
        "schedule",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("cron", sa.Text(), nullable=False),
        sa.Column("time_zone", sa.Text(), nullable=False),
        sa.Column("message", JSON, nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("next_fire_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_schedule")),
        sa.UniqueConstraint("name", name=op.f("uq_schedule_name")),
    )
    with op.batch_alter_table("schedule", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_schedule_next_fire_at"), ["next_fire_at"], unique=False
        )

    op.create_table(
        "taxonomy",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_taxonomy")),
        sa.UniqueConstraint("name", name=op.f("uq_taxonomy_name")),
    )
    op.create_table(
        "correction",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("asset_id", ID, nullable=False),
        sa.Column("start_ms", ID, nullable=True),
        sa.Column("end_ms", ID, nullable=True),
        sa.Column("label_id", ID, nullable=False),
        sa.Column("verdict", sa.String(length=16), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("verdict IN ('right', 'wrong')", name=op.f("ck_correction_verdict")),
        sa.ForeignKeyConstraint(["asset_id"], ["asset.id"], name=op.f("fk_correction_asset_id")),
        sa.ForeignKeyConstraint(["label_id"], ["label.id"], name=op.f("fk_correction_label_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_correction")),
    )
    with op.batch_alter_table("correction", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_correction_asset_id"), ["asset_id"], unique=False)

    op.create_table(
        "location",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("uri", sa.Text(), nullable=False),
        sa.Column("etag", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=True),
        sa.Column("size_bytes", ID, nullable=True),
        sa.Column("is_current", sa.Boolean(), nullable=False),
        sa.Column("asset_id", ID, nullable=True),
        sa.Column("ingest_run_id", ID, nullable=True),
        sa.Column("first_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["asset_id"], ["asset.id"], name=op.f("fk_location_asset_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_location")),
        sa.UniqueConstraint("uri", "etag", name=op.f("uq_location_uri_etag")),
    )
    with op.batch_alter_table("location", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_location_asset_id"), ["asset_id"], unique=False)

    op.create_table(
        "stream",
        sa.Column("asset_id", ID, nullable=False),
        sa.Column("stream_index", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("codec", sa.Text(), nullable=True),
        sa.Column("language", sa.Text(), nullable=True),
        sa.Column("title", sa.Text(), nullable=True),
        sa.Column("is_default", sa.Boolean(), nullable=False),
        sa.Column("width_px", sa.Integer(), nullable=True),
        sa.Column("height_px", sa.Integer(), nullable=True),
        sa.Column("frame_rate", sa.Float(), nullable=True),
        sa.Column("sample_rate_hz", sa.Integer(), nullable=True),
        sa.Column("channels", sa.Integer(), nullable=True),
        sa.Column("time_base_num", sa.Integer(), nullable=True),
        sa.Column("time_base_den", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(["asset_id"], ["asset.id"], name=op.f("fk_stream_asset_id")),
        sa.PrimaryKeyConstraint("asset_id", "stream_index", name=op.f("pk_stream")),
    )
    op.create_table(
        "sidecar",
        sa.Column("location_id", ID, nullable=False),
        sa.Column("uri", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["location_id"], ["location.id"], name=op.f("fk_sidecar_location_id")
        ),
        sa.PrimaryKeyConstraint("location_id", "uri", name=op.f("pk_sidecar")),
    )
    op.create_table(
        "stage_run",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("asset_id", ID, nullable=True),
        sa.Column("location_id", ID, nullable=True),
        sa.Column("job_id", ID, nullable=True),
        sa.Column("stage", sa.String(length=32), nullable=False),
        sa.Column("queue", sa.String(length=16), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("code_version", sa.Integer(), nullable=False),
        sa.Column("params", JSON, nullable=False),
        sa.Column("inputs", JSON, nullable=False),
        sa.Column("model_id", ID, nullable=True),
        sa.Column("dispatch_rank", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("lease_token", sa.String(length=36), nullable=True),
        sa.Column("lease_owner", sa.Text(), nullable=True),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=True),
        sa.Column("published_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("seconds", sa.Float(), nullable=True),
        sa.Column("device_seconds", sa.Float(), nullable=True),
        sa.Column("cpu_seconds", JSON, nullable=True),
        sa.Column("error_class", sa.String(length=64), nullable=True),
        sa.Column("error_text", sa.Text(), nullable=True),
        sa.Column("outputs", JSON, nullable=True),
        sa.Column("notes", JSON, nullable=True),
        sa.CheckConstraint(
            "state IN ('waiting', 'queued', 'running', 'succeeded', 'failed', 'cancelled')",
            name=op.f("ck_stage_run_state"),
        ),
        sa.ForeignKeyConstraint(["asset_id"], ["asset.id"], name=op.f("fk_stage_run_asset_id")),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_stage_run_job_id")),
        sa.ForeignKeyConstraint(
            ["location_id"], ["location.id"], name=op.f("fk_stage_run_location_id")
        ),
        sa.ForeignKeyConstraint(["model_id"], ["model.id"], name=op.f("fk_stage_run_model_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_stage_run")),
        sa.UniqueConstraint(
            "asset_id", "stage", "fingerprint", name=op.f("uq_stage_run_asset_id_stage_fingerprint")
        ),
        sa.UniqueConstraint(
            "location_id",
            "stage",
            "fingerprint",
            name=op.f("uq_stage_run_location_id_stage_fingerprint"),
        ),
    )
    with op.batch_alter_table("stage_run", schema=None) as batch_op:
        batch_op.create_index(
            "ix_stage_run_due",
            ["queue", "dispatch_rank", "id"],
            unique=False,
            sqlite_where=sa.text("state = 'queued'"),
            postgresql_where=sa.text("state = 'queued'"),
        )
        batch_op.create_index(
            "ix_stage_run_job_id_stage_state", ["job_id", "stage", "state"], unique=False
        )
        batch_op.create_index(
            "ix_stage_run_lease_expires_at",
            ["lease_expires_at"],
            unique=False,
            sqlite_where=sa.text("state = 'running'"),
            postgresql_where=sa.text("state = 'running'"),
        )
        batch_op.create_index(
            "ix_stage_run_published",
            ["queue", "published_at"],
            unique=False,
            sqlite_where=sa.text("state = 'queued' AND published_at IS NOT NULL"),
            postgresql_where=sa.text("state = 'queued' AND published_at IS NOT NULL"),
        )

    op.create_table(
        "artifact",
        sa.Column("stage_run_id", ID, nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("media_type", sa.String(length=64), nullable=False),
        sa.Column("size_bytes", ID, nullable=False),
        sa.ForeignKeyConstraint(
            ["stage_run_id"], ["stage_run.id"], name=op.f("fk_artifact_stage_run_id")
        ),
        sa.PrimaryKeyConstraint("stage_run_id", "name", name=op.f("pk_artifact")),
    )
    with op.batch_alter_table("artifact", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_artifact_sha256"), ["sha256"], unique=False)

    op.create_table(
        "caption",
        sa.Column("stage_run_id", ID, nullable=False),
        sa.Column("shot_index", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("asset_id", ID, nullable=False),
        sa.Column("start_ms", ID, nullable=False),
        sa.Column("end_ms", ID, nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("language", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["asset_id"], ["asset.id"], name=op.f("fk_caption_asset_id")),
        sa.ForeignKeyConstraint(
            ["stage_run_id"], ["stage_run.id"], name=op.f("fk_caption_stage_run_id")
        ),
        sa.PrimaryKeyConstraint("stage_run_id", "shot_index", name=op.f("pk_caption")),
    )
    with op.batch_alter_table("caption", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_caption_asset_id"), ["asset_id"], unique=False)

    op.create_table(
        "classification",
        sa.Column("stage_run_id", ID, nullable=False),
        sa.Column("shot_index", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("taxonomy_id", ID, nullable=False),
        sa.Column("label_id", ID, nullable=False),
        sa.Column("asset_id", ID, nullable=False),
        sa.Column("score", sa.Float(), nullable=False),
        sa.CheckConstraint("score >= 0 AND score <= 1", name=op.f("ck_classification_score")),
        sa.ForeignKeyConstraint(
            ["asset_id"], ["asset.id"], name=op.f("fk_classification_asset_id")
        ),
        sa.ForeignKeyConstraint(
            ["label_id"], ["label.id"], name=op.f("fk_classification_label_id")
        ),
        sa.ForeignKeyConstraint(
            ["stage_run_id"], ["stage_run.id"], name=op.f("fk_classification_stage_run_id")
        ),
        sa.ForeignKeyConstraint(
            ["taxonomy_id"], ["taxonomy.id"], name=op.f("fk_classification_taxonomy_id")
        ),
        sa.PrimaryKeyConstraint(
            "stage_run_id", "shot_index", "taxonomy_id", "label_id", name=op.f("pk_classification")
        ),
    )
    with op.batch_alter_table("classification", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_classification_asset_id"), ["asset_id"], unique=False)

    op.create_table(
        "cue",
        sa.Column("stage_run_id", ID, nullable=False),
        sa.Column("cue_index", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("asset_id", ID, nullable=False),
        sa.Column("origin", sa.String(length=16), nullable=False),
        sa.Column("stream_index", sa.Integer(), nullable=True),
        sa.Column("sidecar", sa.Text(), nullable=True),
        sa.Column("language", sa.Text(), nullable=True),
        sa.Column("start_ms", ID, nullable=False),
        sa.Column("end_ms", ID, nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("confidence", sa.Float(), nullable=True),
        sa.Column("box_left", sa.Float(), nullable=True),
        sa.Column("box_top", sa.Float(), nullable=True),
        sa.Column("box_width", sa.Float(), nullable=True),
        sa.Column("box_height", sa.Float(), nullable=True),
        sa.CheckConstraint("origin IN ('subtitle', 'speech', 'ocr')", name=op.f("ck_cue_origin")),
        sa.ForeignKeyConstraint(["asset_id"], ["asset.id"], name=op.f("fk_cue_asset_id")),
        sa.ForeignKeyConstraint(
            ["stage_run_id"], ["stage_run.id"], name=op.f("fk_cue_stage_run_id")
        ),
        sa.PrimaryKeyConstraint("stage_run_id", "cue_index", name=op.f("pk_cue")),
    )
    with op.batch_alter_table("cue", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_cue_asset_id"), ["asset_id"], unique=False)

    op.create_table(
        "embedding",
        sa.Column("stage_run_id", ID, nullable=False),
        sa.Column("shot_index", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("space", sa.Text(), nullable=False),
        sa.Column("asset_id", ID, nullable=False),
        sa.Column("start_ms", ID, nullable=False),
        sa.Column("end_ms", ID, nullable=False),
        sa.Column("dimension", sa.Integer(), nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["asset_id"], ["asset.id"], name=op.f("fk_embedding_asset_id")),
        sa.ForeignKeyConstraint(
            ["stage_run_id"], ["stage_run.id"], name=op.f("fk_embedding_stage_run_id")
        ),
        sa.PrimaryKeyConstraint("stage_run_id", "shot_index", "space", name=op.f("pk_embedding")),
    )
    with op.batch_alter_table("embedding", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_embedding_asset_id"), ["asset_id"], unique=False)
        batch_op.create_index("ix_embedding_space", ["space"], unique=False)

    op.create_table(
        "head",
        sa.Column("asset_id", ID, nullable=False),
        sa.Column("stage", sa.String(length=32), nullable=False),
        sa.Column("stage_run_id", ID, nullable=False),
        sa.Column("flipped_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["asset_id"], ["asset.id"], name=op.f("fk_head_asset_id")),
        sa.ForeignKeyConstraint(
            ["stage_run_id"], ["stage_run.id"], name=op.f("fk_head_stage_run_id")
        ),
        sa.PrimaryKeyConstraint("asset_id", "stage", name=op.f("pk_head")),
    )
    with op.batch_alter_table("head", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_head_stage_run_id"), ["stage_run_id"], unique=False)

    op.create_table(
        "job_item",
        sa.Column("job_id", ID, nullable=False),
        sa.Column("location_id", ID, nullable=False),
        sa.Column("asset_id", ID, nullable=True),
        sa.Column("ingest_run_id", ID, nullable=False),
        sa.Column("failed_run_id", ID, nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.CheckConstraint(
            "state IN ('pending', 'running', 'done', 'failed', 'cancelled')",
            name=op.f("ck_job_item_state"),
        ),
        sa.ForeignKeyConstraint(["asset_id"], ["asset.id"], name=op.f("fk_job_item_asset_id")),
        sa.ForeignKeyConstraint(
            ["failed_run_id"], ["stage_run.id"], name=op.f("fk_job_item_failed_run_id")
        ),
        sa.ForeignKeyConstraint(
            ["ingest_run_id"], ["stage_run.id"], name=op.f("fk_job_item_ingest_run_id")
        ),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_job_item_job_id")),
        sa.ForeignKeyConstraint(
            ["location_id"], ["location.id"], name=op.f("fk_job_item_location_id")
        ),
        sa.PrimaryKeyConstraint("job_id", "location_id", name=op.f("pk_job_item")),
    )
    with op.batch_alter_table("job_item", schema=None) as batch_op:
        batch_op.create_index("ix_job_item_asset_id", ["asset_id"], unique=False)
        batch_op.create_index("ix_job_item_ingest_run_id", ["ingest_run_id"], unique=False)
        batch_op.create_index("ix_job_item_job_id_state", ["job_id", "state"], unique=False)
        batch_op.create_index("ix_job_item_location_id", ["location_id"], unique=False)

    op.create_table(
        "keyframe",
        sa.Column("stage_run_id", ID, nullable=False),
        sa.Column("shot_index", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("keyframe_index", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("asset_id", ID, nullable=False),
        sa.Column("at_ms", ID, nullable=False),
        sa.Column("pts", ID, nullable=True),
        sa.Column("width_px", sa.Integer(), nullable=False),
        sa.Column("height_px", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("uri", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["asset_id"], ["asset.id"], name=op.f("fk_keyframe_asset_id")),
        sa.ForeignKeyConstraint(
            ["stage_run_id"], ["stage_run.id"], name=op.f("fk_keyframe_stage_run_id")
        ),
        sa.PrimaryKeyConstraint(
            "stage_run_id", "shot_index", "keyframe_index", name=op.f("pk_keyframe")
        ),
    )
    with op.batch_alter_table("keyframe", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_keyframe_asset_id"), ["asset_id"], unique=False)

    op.create_table(
        "shot",
        sa.Column("stage_run_id", ID, nullable=False),
        sa.Column("shot_index", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("asset_id", ID, nullable=False),
        sa.Column("start_ms", ID, nullable=False),
        sa.Column("end_ms", ID, nullable=False),
        sa.Column("start_pts", ID, nullable=True),
        sa.Column("end_pts", ID, nullable=True),
        sa.Column("time_base_num", sa.Integer(), nullable=True),
        sa.Column("time_base_den", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(["asset_id"], ["asset.id"], name=op.f("fk_shot_asset_id")),
        sa.ForeignKeyConstraint(
            ["stage_run_id"], ["stage_run.id"], name=op.f("fk_shot_stage_run_id")
        ),
        sa.PrimaryKeyConstraint("stage_run_id", "shot_index", name=op.f("pk_shot")),
    )
    with op.batch_alter_table("shot", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_shot_asset_id"), ["asset_id"], unique=False)

    op.create_table(
        "stage_run_input",
        sa.Column("stage_run_id", ID, nullable=False),
        sa.Column("input_run_id", ID, nullable=False),
        sa.ForeignKeyConstraint(
            ["input_run_id"], ["stage_run.id"], name=op.f("fk_stage_run_input_input_run_id")
        ),
        sa.ForeignKeyConstraint(
            ["stage_run_id"], ["stage_run.id"], name=op.f("fk_stage_run_input_stage_run_id")
        ),
        sa.PrimaryKeyConstraint("stage_run_id", "input_run_id", name=op.f("pk_stage_run_input")),
    )
    op.create_table(
        "stage_run_model",
        sa.Column("stage_run_id", ID, nullable=False),
        sa.Column("role", sa.String(length=32), nullable=False),
        sa.Column("model_id", ID, nullable=False),
        sa.ForeignKeyConstraint(
            ["model_id"], ["model.id"], name=op.f("fk_stage_run_model_model_id")
        ),
        sa.ForeignKeyConstraint(
            ["stage_run_id"], ["stage_run.id"], name=op.f("fk_stage_run_model_stage_run_id")
        ),
        sa.PrimaryKeyConstraint("stage_run_id", "role", name=op.f("pk_stage_run_model")),
    )
    op.create_table(
        "tag",
        sa.Column("stage_run_id", ID, nullable=False),
        sa.Column("shot_index", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("label_id", ID, nullable=False),
        sa.Column("asset_id", ID, nullable=False),
        sa.Column("start_ms", ID, nullable=False),
        sa.Column("end_ms", ID, nullable=False),
        sa.Column("score", sa.Float(), nullable=False),
        sa.Column("visual_score", sa.Float(), nullable=True),
        sa.Column("audio_score", sa.Float(), nullable=True),
        sa.Column("text_score", sa.Float(), nullable=True),
        sa.CheckConstraint("score >= 0 AND score <= 1", name=op.f("ck_tag_score")),
        sa.ForeignKeyConstraint(["asset_id"], ["asset.id"], name=op.f("fk_tag_asset_id")),
        sa.ForeignKeyConstraint(["label_id"], ["label.id"], name=op.f("fk_tag_label_id")),
        sa.ForeignKeyConstraint(
            ["stage_run_id"], ["stage_run.id"], name=op.f("fk_tag_stage_run_id")
        ),
        sa.PrimaryKeyConstraint("stage_run_id", "shot_index", "label_id", name=op.f("pk_tag")),
    )
    with op.batch_alter_table("tag", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_tag_asset_id"), ["asset_id"], unique=False)
        batch_op.create_index("ix_tag_label_id_score", ["label_id", "score"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("tag", schema=None) as batch_op:
        batch_op.drop_index("ix_tag_label_id_score")
        batch_op.drop_index(batch_op.f("ix_tag_asset_id"))

    op.drop_table("tag")
    op.drop_table("stage_run_model")
    op.drop_table("stage_run_input")
    with op.batch_alter_table("shot", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_shot_asset_id"))

    op.drop_table("shot")
    with op.batch_alter_table("keyframe", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_keyframe_asset_id"))

    op.drop_table("keyframe")
    with op.batch_alter_table("job_item", schema=None) as batch_op:
        batch_op.drop_index("ix_job_item_location_id")
        batch_op.drop_index("ix_job_item_job_id_state")
        batch_op.drop_index("ix_job_item_ingest_run_id")
        batch_op.drop_index("ix_job_item_asset_id")

    op.drop_table("job_item")
    with op.batch_alter_table("head", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_head_stage_run_id"))

    op.drop_table("head")
    with op.batch_alter_table("embedding", schema=None) as batch_op:
        batch_op.drop_index("ix_embedding_space")
        batch_op.drop_index(batch_op.f("ix_embedding_asset_id"))

    op.drop_table("embedding")
    with op.batch_alter_table("cue", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_cue_asset_id"))

    op.drop_table("cue")
    with op.batch_alter_table("classification", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_classification_asset_id"))

    op.drop_table("classification")
    with op.batch_alter_table("caption", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_caption_asset_id"))

    op.drop_table("caption")
    with op.batch_alter_table("artifact", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_artifact_sha256"))

    op.drop_table("artifact")
    with op.batch_alter_table("stage_run", schema=None) as batch_op:
        batch_op.drop_index(
            "ix_stage_run_published",
            sqlite_where=sa.text("state = 'queued' AND published_at IS NOT NULL"),
            postgresql_where=sa.text("state = 'queued' AND published_at IS NOT NULL"),
        )
        batch_op.drop_index(
            "ix_stage_run_lease_expires_at",
            sqlite_where=sa.text("state = 'running'"),
            postgresql_where=sa.text("state = 'running'"),
        )
        batch_op.drop_index("ix_stage_run_job_id_stage_state")
        batch_op.drop_index(
            "ix_stage_run_due",
            sqlite_where=sa.text("state = 'queued'"),
            postgresql_where=sa.text("state = 'queued'"),
        )

    op.drop_table("stage_run")
    op.drop_table("sidecar")
    op.drop_table("stream")
    with op.batch_alter_table("location", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_location_asset_id"))

    op.drop_table("location")
    with op.batch_alter_table("correction", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_correction_asset_id"))

    op.drop_table("correction")
    op.drop_table("taxonomy")
    with op.batch_alter_table("schedule", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_schedule_next_fire_at"))

    op.drop_table("schedule")
    with op.batch_alter_table("outbox", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_outbox_sent_at"))

    op.drop_table("outbox")
    op.drop_table("model")
    op.drop_table("label")
    op.drop_table("job")
    op.drop_table("campaign")
    op.drop_table("asset")
