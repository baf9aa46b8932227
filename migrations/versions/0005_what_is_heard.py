"""What is heard besides words

Revision: 0005, after 0004.
"""

import sqlalchemy as sa
from alembic import op

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "sound_event",
        sa.Column("stage_run_id", ID, nullable=False),
        sa.Column("label_id", ID, autoincrement=False, nullable=False),
        sa.Column("start_ms", ID, autoincrement=False, nullable=False),
        sa.Column("asset_id", ID, nullable=False),
        sa.Column("end_ms", ID, nullable=False),
        sa.Column("score", sa.Float(), nullable=False),
        sa.CheckConstraint("score >= 0 AND score <= 1", name=op.f("ck_sound_event_score")),
        sa.ForeignKeyConstraint(
            ["stage_run_id"], ["stage_run.id"], name=op.f("fk_sound_event_stage_run_id")
        ),
        sa.ForeignKeyConstraint(["label_id"], ["label.id"], name=op.f("fk_sound_event_label_id")),
        sa.ForeignKeyConstraint(["asset_id"], ["asset.id"], name=op.f("fk_sound_event_asset_id")),
        sa.PrimaryKeyConstraint(
            "stage_run_id", "label_id", "start_ms", name=op.f("pk_sound_event")
        ),
    )
    op.create_index(op.f("ix_sound_event_asset_id"), "sound_event", ["asset_id"], unique=False)
    op.create_index(op.f("ix_sound_event_label_id"), "sound_event", ["label_id"], unique=False)


def downgrade() -> None:
    op.drop_table("sound_event")
