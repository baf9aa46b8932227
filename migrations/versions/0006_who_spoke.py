"""What spoke loudest for a tag, recognised words, and what each model had to do

Revision: 0006, after 0005.
"""

import sqlalchemy as sa
from alembic import op

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_OF_TAG = (
    "sound_score",
    "without_visual",
    "without_audio",
    "without_text",
    "without_sound",
)


def upgrade() -> None:
    for name in _OF_TAG:
        op.add_column("tag", sa.Column(name, sa.Float()))
    op.add_column("tag", sa.Column("evidence_modality", sa.String(16)))
    op.add_column("tag", sa.Column("evidence_start_ms", ID))
    op.add_column("tag", sa.Column("evidence_end_ms", ID))
    op.add_column("stage_run_model", sa.Column("items", sa.Integer()))
    op.add_column("stage_run_model", sa.Column("device_seconds", sa.Float()))
    op.create_table(
        "word",
        sa.Column("stage_run_id", ID, autoincrement=False, nullable=False),
        sa.Column("cue_index", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("word_index", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("asset_id", ID, nullable=False),
        sa.Column("start_ms", ID, nullable=False),
        sa.Column("end_ms", ID, nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("confidence", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["stage_run_id"], ["stage_run.id"], name=op.f("fk_word_stage_run_id")
        ),
        sa.ForeignKeyConstraint(["asset_id"], ["asset.id"], name=op.f("fk_word_asset_id")),
        sa.PrimaryKeyConstraint("stage_run_id", "cue_index", "word_index", name=op.f("pk_word")),
    )
    op.create_index(op.f("ix_word_asset_id"), "word", ["asset_id"])


def downgrade() -> None:
    op.drop_table("word")
    op.drop_column("stage_run_model", "device_seconds")
    op.drop_column("stage_run_model", "items")
    for name in ("evidence_end_ms", "evidence_start_ms", "evidence_modality"):
        op.drop_column("tag", name)
    for name in reversed(_OF_TAG):
        op.drop_column("tag", name)
