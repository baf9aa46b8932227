"""Results: every row carries the ``stage_run_id`` that made it; and corrections by people."""

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    true,
)

from schemas.tables.base import asset_ref_column, id_column, metadata, run_key_column
from schemas.types import Id, UtcDateTime, utc_now


def _span() -> tuple[Column[int], Column[int]]:
    return (
        Column("start_ms", Id, nullable=False),
        Column("end_ms", Id, nullable=False),
    )


def _shot_index() -> Column[int]:
    return Column("shot_index", Integer, primary_key=True, autoincrement=False)


artifact = Table(
    "artifact",
    metadata,
    run_key_column(),
    Column("name", String(64), primary_key=True),
    Column("sha256", String(64), nullable=False, index=True),
    Column("media_type", String(64), nullable=False),
    Column("size_bytes", Id, nullable=False),
)

shot = Table(
    "shot",
    metadata,
    run_key_column(),
    _shot_index(),
    asset_ref_column(),
    *_span(),
    Column("start_pts", Id),
    Column("end_pts", Id),
    Column("time_base_num", Integer),
    Column("time_base_den", Integer),
    # 'start', 'cut', 'dissolve', 'fade'; NULL: made before this was told.
    Column("starts_with", String(16)),
    Column("is_exact", Boolean, nullable=False, server_default=true()),
)

stretch = Table(
    "stretch",
    metadata,
    run_key_column(),
    Column("kind", String(16), primary_key=True),
    Column("start_ms", Id, primary_key=True, autoincrement=False),
    asset_ref_column(),
    Column("end_ms", Id, nullable=False),
    CheckConstraint("kind IN ('black', 'frozen', 'silent')", name="kind"),
)

# The audio stream that was taken.
sound = Table(
    "sound",
    metadata,
    run_key_column(),
    Column("stream_index", Integer, primary_key=True, autoincrement=False),
    asset_ref_column(),
    Column("language", Text),
    Column("title", Text),
    Column("loudness_lufs", Float),
    Column("peak_dbfs", Float),
)

# Where subtitles came from: a stream, or a sidecar file.
cue_source = Table(
    "cue_source",
    metadata,
    run_key_column(),
    Column("source_index", Integer, primary_key=True, autoincrement=False),
    asset_ref_column(),
    Column("stream_index", Integer),
    Column("sidecar", Text),
    Column("format", Text, nullable=False),
    Column("encoding", Text),
    Column("language", Text),
    Column("title", Text),
    Column("is_default", Boolean, nullable=False),
    Column("is_forced", Boolean, nullable=False),
    Column("is_bitmap", Boolean, nullable=False),
    Column("cue_count", Integer, nullable=False),
    Column("broken_count", Integer, nullable=False),
)

keyframe = Table(
    "keyframe",
    metadata,
    run_key_column(),
    _shot_index(),
    Column("keyframe_index", Integer, primary_key=True, autoincrement=False),
    asset_ref_column(),
    Column("at_ms", Id, nullable=False),
    Column("pts", Id),
    Column("width_px", Integer, nullable=False),
    Column("height_px", Integer, nullable=False),
    Column("sha256", String(64), nullable=False, index=True),
    Column("uri", Text, nullable=False),
    Column("picture_index", Integer),
    Column("phash", String(16)),
)

cue = Table(
    "cue",
    metadata,
    run_key_column(),
    Column("cue_index", Integer, primary_key=True, autoincrement=False),
    asset_ref_column(),
    Column("origin", String(16), nullable=False),
    Column("stream_index", Integer),
    Column("sidecar", Text),
    Column("language", Text),
    *_span(),
    Column("text", Text, nullable=False),
    Column("confidence", Float),
    Column("box_left", Float),
    Column("box_top", Float),
    Column("box_width", Float),
    Column("box_height", Float),
    CheckConstraint("origin IN ('subtitle', 'speech', 'ocr')", name="origin"),
)

word = Table(
    "word",
    metadata,
    run_key_column(),
    Column("cue_index", Integer, primary_key=True, autoincrement=False),
    Column("word_index", Integer, primary_key=True, autoincrement=False),
    asset_ref_column(),
    *_span(),
    Column("text", Text, nullable=False),
    Column("confidence", Float, nullable=False),
)

label = Table(
    "label",
    metadata,
    id_column(),
    Column("name", Text, nullable=False, unique=True),
)

taxonomy = Table(
    "taxonomy", metadata, id_column(), Column("name", Text, nullable=False, unique=True)
)

tag = Table(
    "tag",
    metadata,
    run_key_column(),
    _shot_index(),
    Column("label_id", Id, ForeignKey("label.id"), primary_key=True),
    asset_ref_column(),
    *_span(),
    Column("score", Float, nullable=False),
    Column("visual_score", Float),
    Column("audio_score", Float),
    Column("text_score", Float),
    Column("sound_score", Float),
    # The fused score with a modality left out; NULL where it did not speak.
    Column("without_visual", Float),
    Column("without_audio", Float),
    Column("without_text", Float),
    Column("without_sound", Float),
    # What spoke loudest: a keyframe (start = end), a cue or a sound.
    Column("evidence_modality", String(16)),
    Column("evidence_start_ms", Id),
    Column("evidence_end_ms", Id),
    CheckConstraint("score >= 0 AND score <= 1", name="score"),
    Index("ix_tag_label_id_score", "label_id", "score"),
)

# What is heard besides words, and when.
sound_event = Table(
    "sound_event",
    metadata,
    run_key_column(),
    Column("label_id", Id, ForeignKey("label.id"), primary_key=True, autoincrement=False),
    Column("start_ms", Id, primary_key=True, autoincrement=False),
    asset_ref_column(),
    Column("end_ms", Id, nullable=False),
    Column("score", Float, nullable=False),
    CheckConstraint("score >= 0 AND score <= 1", name="score"),
    Index("ix_sound_event_label_id", "label_id"),
)

classification = Table(
    "classification",
    metadata,
    run_key_column(),
    _shot_index(),
    Column("taxonomy_id", Id, ForeignKey("taxonomy.id"), primary_key=True),
    Column("label_id", Id, ForeignKey("label.id"), primary_key=True),
    asset_ref_column(),
    Column("score", Float, nullable=False),
    CheckConstraint("score >= 0 AND score <= 1", name="score"),
)

caption = Table(
    "caption",
    metadata,
    run_key_column(),
    _shot_index(),
    asset_ref_column(),
    *_span(),
    Column("text", Text, nullable=False),
    Column("language", Text, nullable=False),
)

embedding = Table(
    "embedding",
    metadata,
    run_key_column(),
    _shot_index(),
    Column("space", Text, primary_key=True),
    asset_ref_column(),
    *_span(),
    Column("dimension", Integer, nullable=False),
    # float32, little endian, L2-normalised.
    Column("vector", LargeBinary, nullable=False),
    Index("ix_embedding_space", "space"),
)

correction = Table(
    "correction",
    metadata,
    id_column(),
    asset_ref_column(),
    # Half-open span the correction holds for; NULL: the whole asset.
    Column("start_ms", Id),
    Column("end_ms", Id),
    Column("label_id", Id, ForeignKey("label.id"), nullable=False),
    Column("verdict", String(16), nullable=False),
    Column("author", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False, default=utc_now()),
    CheckConstraint("verdict IN ('right', 'wrong')", name="verdict"),
)
