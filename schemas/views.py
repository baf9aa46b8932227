"""The views analysts query: the public face of the database, alike on SQLite and PostgreSQL.

They show head results only. Column names and their order are promised: add at the end, never
rename. ``migrations/env.py`` rebuilds them whenever a migration runs.
"""

# One uri per asset: the oldest place where it still is, else the oldest place it ever was.
_ASSET_URI = """
    (SELECT l.uri FROM location l WHERE l.asset_id = {asset}.{key}
     ORDER BY l.is_current DESC, l.id LIMIT 1)
"""


def _uri(table: str, key: str = "asset_id") -> str:
    return _ASSET_URI.format(asset=table, key=key).strip()


# The status of a location follows the newest job that asked for it.
_ITEM_STATUS = """
    COALESCE((SELECT CASE i.state WHEN 'cancelled' THEN 'pending' ELSE i.state END
              FROM job_item i WHERE {condition} ORDER BY i.job_id DESC LIMIT 1), {default})
"""

_V_ASSETS = f"""
SELECT a.id AS asset_id, {_uri("a", "id")} AS uri, a.sha256, a.kind, a.duration_ms,
       a.width_px AS width, a.height_px AS height, a.frame_rate, a.has_audio,
       {_ITEM_STATUS.format(condition="i.asset_id = a.id", default="'pending'").strip()} AS status,
       a.ingested_at, a.size_bytes
FROM asset a
UNION ALL
SELECT NULL, l.uri, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
       {_ITEM_STATUS.format(condition="i.location_id = l.id", default="'pending'").strip()},
       NULL, l.size_bytes
FROM location l
WHERE l.asset_id IS NULL AND l.is_current
"""

_V_SHOTS = f"""
SELECT s.asset_id, {_uri("s")} AS uri, s.shot_index, s.start_ms, s.end_ms,
       k.at_ms AS keyframe_ms, k.uri AS keyframe_uri, s.stage_run_id, s.starts_with, s.is_exact
FROM head h
JOIN shot s ON s.stage_run_id = h.stage_run_id
LEFT JOIN keyframe k ON k.stage_run_id = s.stage_run_id AND k.shot_index = s.shot_index
                    AND k.keyframe_index = 0
WHERE h.stage = 'split'
"""

_V_KEYFRAMES = f"""
SELECT k.asset_id, {_uri("k")} AS uri, k.shot_index, k.keyframe_index, k.at_ms,
       k.uri AS keyframe_uri, k.width_px AS width, k.height_px AS height, k.picture_index, k.phash,
       k.stage_run_id
FROM head h
JOIN keyframe k ON k.stage_run_id = h.stage_run_id
WHERE h.stage = 'split'
"""

_V_STRETCHES = f"""
SELECT s.asset_id, {_uri("s")} AS uri, s.kind, s.start_ms, s.end_ms, s.stage_run_id
FROM head h
JOIN stretch s ON s.stage_run_id = h.stage_run_id
WHERE h.stage = 'split'
"""

_V_SOUNDS = f"""
SELECT s.asset_id, {_uri("s")} AS uri, s.stream_index, s.language, s.title, s.loudness_lufs,
       s.peak_dbfs, s.stage_run_id
FROM head h
JOIN sound s ON s.stage_run_id = h.stage_run_id
WHERE h.stage = 'split'
"""

_V_CUE_SOURCES = f"""
SELECT s.asset_id, {_uri("s")} AS uri, s.stream_index, s.sidecar, s.format, s.encoding, s.language,
       s.title, s.is_default, s.is_forced, s.is_bitmap, s.cue_count, s.broken_count, s.stage_run_id
FROM head h
JOIN cue_source s ON s.stage_run_id = h.stage_run_id
WHERE h.stage = 'split'
"""

_V_CUES = f"""
SELECT c.asset_id, {_uri("c")} AS uri, c.origin, c.stream_index, c.language, c.start_ms, c.end_ms,
       c.text, c.confidence, m.name AS model, c.stage_run_id, c.sidecar,
       m.revision AS model_revision
FROM head h
JOIN cue c ON c.stage_run_id = h.stage_run_id
JOIN stage_run r ON r.id = h.stage_run_id
LEFT JOIN model m ON m.id = r.model_id
WHERE h.stage IN ('split', 'speech', 'ocr')
"""

_V_WORDS = f"""
SELECT w.asset_id, {_uri("w")} AS uri, w.cue_index, w.word_index, w.start_ms, w.end_ms, w.text,
       w.confidence, m.name AS model, m.revision AS model_revision, w.stage_run_id
FROM head h
JOIN word w ON w.stage_run_id = h.stage_run_id
JOIN stage_run r ON r.id = h.stage_run_id
LEFT JOIN model m ON m.id = r.model_id
WHERE h.stage = 'speech'
"""

_MODALITIES = """substr(CASE WHEN t.visual_score IS NULL THEN '' ELSE ',visual' END
       || CASE WHEN t.audio_score IS NULL THEN '' ELSE ',audio' END
       || CASE WHEN t.text_score IS NULL THEN '' ELSE ',text' END
       || CASE WHEN t.sound_score IS NULL THEN '' ELSE ',sound' END, 2)"""


def _overlaps(correction: str, span: str) -> str:
    """Whether a correction holds for a span; the newest of those that do is the one that counts."""
    return (
        f"({correction}.start_ms IS NULL OR ({correction}.start_ms < {span}.end_ms"
        f" AND {span}.start_ms < {correction}.end_ms))"
    )


_V_TAGS = f"""
SELECT t.asset_id, {_uri("t")} AS uri, t.shot_index, t.start_ms, t.end_ms, n.name AS label, t.score,
       {_MODALITIES} AS modalities, m.name AS model, m.revision AS model_revision, t.stage_run_id,
       t.visual_score, t.audio_score, t.text_score, t.sound_score,
       t.without_visual, t.without_audio, t.without_text, t.without_sound,
       t.evidence_modality, t.evidence_start_ms, t.evidence_end_ms
FROM head h
JOIN tag t ON t.stage_run_id = h.stage_run_id
JOIN label n ON n.id = t.label_id
JOIN stage_run r ON r.id = h.stage_run_id
LEFT JOIN model m ON m.id = r.model_id
WHERE h.stage = 'fuse'
  AND NOT EXISTS (SELECT 1 FROM correction x
                  WHERE x.asset_id = t.asset_id AND x.label_id = t.label_id
                    AND {_overlaps("x", "t")})
UNION ALL
SELECT x.asset_id, {_uri("x")}, s.shot_index, s.start_ms, s.end_ms, n.name, 1.0,
       'person', 'person', x.author, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
       NULL, NULL, NULL
FROM correction x
JOIN label n ON n.id = x.label_id
JOIN head h ON h.asset_id = x.asset_id AND h.stage = 'split'
JOIN shot s ON s.stage_run_id = h.stage_run_id AND {_overlaps("x", "s")}
WHERE x.verdict = 'right'
  AND NOT EXISTS (SELECT 1 FROM correction y
                  WHERE y.asset_id = x.asset_id AND y.label_id = x.label_id AND y.id > x.id
                    AND {_overlaps("y", "s")})
"""

_V_CLASSIFICATIONS = f"""
SELECT c.asset_id, {_uri("c")} AS uri, c.shot_index, x.name AS taxonomy, n.name AS class, c.score,
       m.name AS model, m.revision AS model_revision, c.stage_run_id
FROM head h
JOIN classification c ON c.stage_run_id = h.stage_run_id
JOIN taxonomy x ON x.id = c.taxonomy_id
JOIN label n ON n.id = c.label_id
JOIN stage_run r ON r.id = h.stage_run_id
LEFT JOIN model m ON m.id = r.model_id
WHERE h.stage IN ('fuse', 'safety')
"""

_V_SOUND_EVENTS = f"""
SELECT e.asset_id, {_uri("e")} AS uri, e.start_ms, e.end_ms, n.name AS label, e.score,
       m.name AS model, m.revision AS model_revision, e.stage_run_id
FROM head h
JOIN sound_event e ON e.stage_run_id = h.stage_run_id
JOIN label n ON n.id = e.label_id
JOIN stage_run r ON r.id = h.stage_run_id
LEFT JOIN model m ON m.id = r.model_id
WHERE h.stage = 'sound'
"""

_V_CAPTIONS = f"""
SELECT c.asset_id, {_uri("c")} AS uri, c.shot_index, c.start_ms, c.end_ms, c.text, c.language,
       m.name AS model, m.revision AS model_revision, c.stage_run_id
FROM head h
JOIN caption c ON c.stage_run_id = h.stage_run_id
JOIN stage_run r ON r.id = h.stage_run_id
LEFT JOIN model m ON m.id = r.model_id
WHERE h.stage IN ('caption', 'fuse')
"""

# No portable SQL subtracts two timestamps, so the seconds are stored by the run that measured them.
_V_STAGE_RUNS = f"""
SELECT r.id AS stage_run_id, r.asset_id,
       COALESCE((SELECT l.uri FROM location l WHERE l.id = r.location_id), {_uri("r")}) AS uri,
       r.stage, r.state, r.attempt, r.fingerprint, r.started_at, r.finished_at, r.seconds,
       r.device_seconds, r.error_class, r.error_text, r.job_id, r.queue,
       m.name AS model, m.revision AS model_revision,
       CASE WHEN EXISTS (SELECT 1 FROM head h WHERE h.stage_run_id = r.id)
            THEN 1 ELSE 0 END AS is_head
FROM stage_run r
LEFT JOIN model m ON m.id = r.model_id
"""

# Whatever the models of a finished run had to do, whether or not it is shown.
_V_MODEL_USE = f"""
SELECT u.stage_run_id, r.job_id, r.asset_id, {_uri("r")} AS uri, r.stage, u.role, m.name AS model,
       m.revision AS model_revision, u.items, u.device_seconds, r.finished_at
FROM stage_run_model u
JOIN stage_run r ON r.id = u.stage_run_id
JOIN model m ON m.id = u.model_id
WHERE u.items IS NOT NULL
"""

_V_JOBS = """
SELECT j.id AS job_id, j.name, j.priority, j.submitted_at, j.finished_at,
       COUNT(i.location_id) AS assets_total,
       COALESCE(SUM(CASE WHEN i.state = 'done' THEN 1 ELSE 0 END), 0) AS assets_done,
       COALESCE(SUM(CASE WHEN i.state = 'failed' THEN 1 ELSE 0 END), 0) AS assets_failed,
       CASE WHEN j.state NOT IN ('expanding', 'running') THEN j.state
            WHEN j.cancelled_at IS NOT NULL THEN 'cancelling'
            WHEN j.paused_at IS NOT NULL THEN 'paused'
            ELSE j.state END AS state,
       j.profile, j.files_skipped, j.origin, j.error_class, j.error_text,
       COALESCE(SUM(CASE WHEN i.state = 'cancelled' THEN 1 ELSE 0 END), 0) AS assets_cancelled
FROM job j
LEFT JOIN job_item i ON i.job_id = j.id
GROUP BY j.id, j.name, j.priority, j.submitted_at, j.finished_at, j.state, j.profile,
         j.files_skipped, j.origin, j.error_class, j.error_text, j.cancelled_at, j.paused_at
"""

VIEWS: dict[str, str] = {
    "v_assets": _V_ASSETS,
    "v_shots": _V_SHOTS,
    "v_keyframes": _V_KEYFRAMES,
    "v_stretches": _V_STRETCHES,
    "v_sounds": _V_SOUNDS,
    "v_cue_sources": _V_CUE_SOURCES,
    "v_cues": _V_CUES,
    "v_words": _V_WORDS,
    "v_tags": _V_TAGS,
    "v_classifications": _V_CLASSIFICATIONS,
    "v_sound_events": _V_SOUND_EVENTS,
    "v_captions": _V_CAPTIONS,
    "v_stage_runs": _V_STAGE_RUNS,
    "v_model_use": _V_MODEL_USE,
    "v_jobs": _V_JOBS,
}
