"""How shots begin, like keyframes, black, frozen and silent stretches, sound and sources of cues

Revision: 0004, after 0003.
"""

import sqlalchemy as sa
from alembic import op

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("shot", sa.Column("starts_with", sa.String(16)))
    op.add_column(
        "shot", sa.Column("is_exact", sa.Boolean(), server_default=sa.true(), nullable=False)
    )
    op.add_column("keyframe", sa.Column("picture_index", sa.Integer()))
    op.add_column("keyframe", sa.Column("phash", sa.String(16)))
    _create_of_run(
        "stretch",
        ["kind", "start_ms"],
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("start_ms", ID, autoincrement=False, nullable=False),
        sa.Column("end_ms", ID, nullable=False),
        sa.CheckConstraint("kind IN ('black', 'frozen', 'silent')", name=op.f("ck_stretch_kind")),
    )
    _create_of_run(
        "sound",
        ["stream_index"],
        sa.Column("stream_index", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("language", sa.Text()),
        sa.Column("title", sa.Text()),
        sa.Column("loudness_lufs", sa.Float()),
        sa.Column("peak_dbfs", sa.Float()),
    )
    _create_of_run(
        "cue_source",
        ["source_index"],
        sa.Column("source_index", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("stream_index", sa.Integer()),
        sa.Column("sidecar", sa.Text()),
        sa.Column("format", sa.Text(), nullable=False),
        sa.Column("encoding", sa.Text()),
        sa.Column("language", sa.Text()),
        sa.Column("title", sa.Text()),
        sa.Column("is_default", sa.Boolean(), nullable=False),
        sa.Column("is_forced", sa.Boolean(), nullable=False),
        sa.Column("is_bitmap", sa.Boolean(), nullable=False),
        sa.Column("cue_count", sa.Integer(), nullable=False),
        sa.Column("broken_count", sa.Integer(), nullable=False),
    )


def downgrade() -> None:
    for name in ("cue_source", "sound", "stretch"):
        op.drop_table(name)
    for table, column in (
        ("keyframe", "phash"),
        ("keyframe", "picture_index"),
        ("shot", "is_exact"),
        ("shot", "starts_with"),
    ):
        op.drop_column(table, column)


def _create_of_run(name: str, key: list[str], *columns: sa.schema.SchemaItem) -> None:
    """A table of results, like the others of the first revision."""
    op.create_table(
        name,
        sa.Column("stage_run_id", ID, nullable=False),
        *columns,
        sa.Column("asset_id", ID, nullable=False),
        sa.ForeignKeyConstraint(
            ["stage_run_id"], ["stage_run.id"], name=op.f(f"fk_{name}_stage_run_id")
        ),
        sa.ForeignKeyConstraint(["asset_id"], ["asset.id"], name=op.f(f"fk_{name}_asset_id")),
        sa.PrimaryKeyConstraint("stage_run_id", *key, name=op.f(f"pk_{name}")),
    )
    op.create_index(op.f(f"ix_{name}_asset_id"), name, ["asset_id"], unique=False)
