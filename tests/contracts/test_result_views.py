"""What is written comes back, and the views show it, alike on every database."""

import numpy as np
import pytest
from database_rows import add_asset, add_run, flip, rows
from sqlalchemy import insert, select, text, update

from pipeline.db import results
from pipeline.db.engine import Database
from schemas import tables
from schemas.records import (
    Box,
    Caption,
    Classification,
    Cue,
    Embedding,
    Evidence,
    Keyframe,
    Shot,
    SoundEvent,
    Tag,
    Word,
)

PROMISED_COLUMNS = {
    "v_assets": "asset_id uri sha256 kind duration_ms width height frame_rate has_audio status "
    "ingested_at",
    "v_shots": "asset_id uri shot_index start_ms end_ms keyframe_ms keyframe_uri",
    "v_cues": "asset_id uri origin stream_index language start_ms end_ms text confidence model "
    "stage_run_id",
    "v_tags": "asset_id uri shot_index start_ms end_ms label score modalities model model_revision "
    "stage_run_id",
    "v_classifications": "asset_id uri shot_index taxonomy class score model model_revision "
    "stage_run_id",
    "v_sound_events": "asset_id uri start_ms end_ms label score model model_revision stage_run_id",
    "v_captions": "asset_id uri shot_index start_ms end_ms text language model model_revision "
    "stage_run_id",
    "v_stage_runs": "stage_run_id asset_id uri stage state attempt fingerprint started_at "
    "finished_at seconds device_seconds error_class error_text job_id",
    "v_jobs": "job_id name priority submitted_at finished_at assets_total assets_done "
    "assets_failed state",
}


@pytest.mark.parametrize("view", PROMISED_COLUMNS)
def test_views_have_the_promised_columns(database: Database, view: str) -> None:
    with database.reading() as connection:
        columns = list(connection.execute(text(f"SELECT * FROM {view}")).keys())
    assert columns[: len(PROMISED_COLUMNS[view].split())] == PROMISED_COLUMNS[view].split()


def test_every_kind_of_record_comes_back_as_it_was_written(database: Database) -> None:
    asset_id = add_asset(database)
    run_id = add_run(database, asset_id)
    ref = results.RunRef(stage_run_id=run_id, asset_id=asset_id)
    shots = [
        Shot(
            shot_index=0,
            start_ms=0,
            end_ms=2000,
            start_pts=-1024,
            end_pts=2**40,
            time_base_num=1001,
            time_base_den=30000,
        ),
        Shot(shot_index=1, start_ms=2000, end_ms=4000),
    ]
    keyframes = [
        Keyframe(
            shot_index=0,
            keyframe_index=0,
            at_ms=1000,
            pts=12,
            width_px=64,
            height_px=36,
            sha256="b" * 64,
        )
    ]
    cues = [
        Cue(
            origin="ocr",
            start_ms=0,
            end_ms=2000,
            text="50 % off: “tab\there”\nnext \\ line",
            confidence=0.5,
            box=Box(left=0.1, top=0.2, width=0.3, height=0.4),
        ),
        Cue(
            origin="subtitle",
            start_ms=5,
            end_ms=6,
            text="你好 🎬",
            stream_index=2,
            language="zh",
            sidecar="a.zh.srt",
        ),
    ]
    tags = [
        Tag(shot_index=0, start_ms=0, end_ms=2000, label="cat", score=0.9, visual_score=0.8),
        Tag(
            shot_index=0,
            start_ms=0,
            end_ms=2000,
            label="dog",
            score=0.4,
            audio_score=0.2,
            text_score=0.3,
            without_audio=0.25,
            without_text=0.125,
            evidence=Evidence(modality="text", start_ms=500, end_ms=1500),
        ),
    ]
    words = [
        Word(cue_index=1, word_index=0, start_ms=5, end_ms=6, text="你好", confidence=0.5),
    ]
    with database.transaction() as connection:
        labels = results.name_ids(connection, tables.label, ["cat", "dog", "animals"])
        taxonomies = results.name_ids(connection, tables.taxonomy, ["mediaweave"])
        results.write_shots(connection, ref, shots)
        results.write_keyframes(connection, ref, keyframes, lambda sha256: f"file:///{sha256}")
        results.write_cues(connection, ref, cues)
        results.write_words(connection, ref, words)
        results.write_tags(connection, ref, tags, labels)
        results.write_classifications(
            connection,
            ref,
            [Classification(shot_index=0, taxonomy="mediaweave", class_name="animals", score=0.75)],
            labels,
            taxonomies,
        )
        results.write_captions(
            connection,
            ref,
            [Caption(shot_index=0, start_ms=0, end_ms=2000, text="A cat.", language="en")],
        )
        results.write_embeddings(
            connection,
            ref,
            [
                Embedding(
                    shot_index=0,
                    start_ms=0,
                    end_ms=2000,
                    space="test",
                    vector=np.array([0.6, -0.8], np.float32),
                )
            ],
        )
    with database.reading() as connection:
        assert results.read_shots(connection, run_id) == shots
        assert results.read_keyframes(connection, run_id) == keyframes
        assert results.read_cues(connection, run_id) == cues
        assert results.read_tags(connection, run_id) == tags
        stored = connection.execute(select(tables.embedding)).one()
    assert results.vector_of(stored.vector).tolist() == pytest.approx([0.6, -0.8])
    assert stored.dimension == 2

    for stage in ("split", "speech", "fuse", "caption"):
        flip(database, asset_id, stage, run_id)
    assert rows(database, "SELECT cue_index, text, start_ms, end_ms, confidence FROM v_words") == [
        {"cue_index": 1, "text": "你好", "start_ms": 5, "end_ms": 6, "confidence": 0.5}
    ]
    assert rows(
        database,
        "SELECT without_visual, without_audio, without_text, evidence_modality, "
        "evidence_start_ms, evidence_end_ms FROM v_tags WHERE label = 'dog'",
    ) == [
        {
            "without_visual": None,
            "without_audio": 0.25,
            "without_text": 0.125,
            "evidence_modality": "text",
            "evidence_start_ms": 500,
            "evidence_end_ms": 1500,
        }
    ]
    assert [row["modalities"] for row in rows(database, "SELECT * FROM v_tags ORDER BY label")] == [
        "visual",
        "audio,text",
    ]
    assert rows(database, "SELECT class, taxonomy, score FROM v_classifications") == [
        {"class": "animals", "taxonomy": "mediaweave", "score": 0.75}
    ]
    # Here one run is on show for both stages that may write captions.
    assert rows(database, "SELECT DISTINCT text FROM v_captions") == [{"text": "A cat."}]
    assert rows(
        database, "SELECT shot_index, keyframe_ms, keyframe_uri FROM v_shots ORDER BY shot_index"
    ) == [
        {"shot_index": 0, "keyframe_ms": 1000, "keyframe_uri": f"file:///{'b' * 64}"},
        {"shot_index": 1, "keyframe_ms": None, "keyframe_uri": None},
    ]


def test_sound_events_come_back_in_the_order_of_time(database: Database) -> None:
    asset_id = add_asset(database)
    run_id = add_run(database, asset_id, stage="sound")
    ref = results.RunRef(stage_run_id=run_id, asset_id=asset_id)
    events = [
        SoundEvent(start_ms=0, end_ms=2000, label="speech", score=0.75),
        SoundEvent(start_ms=500, end_ms=900, label="music", score=0.5),
        SoundEvent(start_ms=3000, end_ms=4000, label="speech", score=1.0),
    ]
    with database.transaction() as connection:
        labels = results.name_ids(connection, tables.label, ["speech", "music"])
        results.write_sound_events(connection, ref, list(reversed(events)), labels)
    with database.reading() as connection:
        assert results.read_sound_events(connection, run_id) == events
    query = "SELECT start_ms, end_ms, label, score, uri FROM v_sound_events ORDER BY start_ms"
    assert rows(database, query) == []
    flip(database, asset_id, "sound", run_id)
    assert [tuple(row.values()) for row in rows(database, query)] == [
        (0, 2000, "speech", 0.75, "file:///a.mp4"),
        (500, 900, "music", 0.5, "file:///a.mp4"),
        (3000, 4000, "speech", 1.0, "file:///a.mp4"),
    ]


def test_classes_of_fusion_and_of_safety_each_name_their_own_model(database: Database) -> None:
    asset_id = add_asset(database)
    for stage, taxonomy, name in (("fuse", "mediaweave", "animals"), ("safety", "safety", "safe")):
        run_id = add_run(database, asset_id, stage=stage)
        ref = results.RunRef(stage_run_id=run_id, asset_id=asset_id)
        found = Classification(shot_index=0, taxonomy=taxonomy, class_name=name, score=0.5)
        with database.transaction() as connection:
            model_id = connection.execute(
                insert(tables.model)
                .values(name=f"of-{stage}", revision="1", task="t", licence="l", source="s")
                .returning(tables.model.c.id)
            ).scalar_one()
            connection.execute(
                update(tables.stage_run)
                .where(tables.stage_run.c.id == run_id)
                .values(model_id=model_id)
            )
            labels = results.name_ids(connection, tables.label, [name])
            taxonomies = results.name_ids(connection, tables.taxonomy, [taxonomy])
            results.write_classifications(connection, ref, [found], labels, taxonomies)
        flip(database, asset_id, stage, run_id)
    query = "SELECT taxonomy, class, model FROM v_classifications ORDER BY taxonomy"
    assert [tuple(row.values()) for row in rows(database, query)] == [
        ("mediaweave", "animals", "of-fuse"),
        ("safety", "safe", "of-safety"),
    ]


def test_views_show_head_results_only_and_a_flip_shows_the_others(database: Database) -> None:
    asset_id = add_asset(database)
    old, new = (add_run(database, asset_id, stage="caption", priority=p) for p in (0, 1))
    for run_id, words in ((old, "old words"), (new, "new words")):
        ref = results.RunRef(stage_run_id=run_id, asset_id=asset_id)
        caption = Caption(shot_index=0, start_ms=0, end_ms=9, text=words, language="en")
        with database.transaction() as connection:
            results.write_captions(connection, ref, [caption])
    assert rows(database, "SELECT text FROM v_captions") == []
    flip(database, asset_id, "caption", old)
    assert rows(database, "SELECT text FROM v_captions") == [{"text": "old words"}]
    with database.transaction() as connection:
        connection.execute(update(tables.head).values(stage_run_id=new))
    assert rows(database, "SELECT text, stage_run_id FROM v_captions") == [
        {"text": "new words", "stage_run_id": new}
    ]


def test_a_persons_correction_survives_in_the_tags(database: Database) -> None:
    asset_id = add_asset(database)
    run_id = add_run(database, asset_id)
    ref = results.RunRef(stage_run_id=run_id, asset_id=asset_id)
    with database.transaction() as connection:
        labels = results.name_ids(connection, tables.label, ["cat", "lynx"])
        results.write_shots(connection, ref, [Shot(shot_index=0, start_ms=0, end_ms=2000)])
        tag = Tag(shot_index=0, start_ms=0, end_ms=2000, label="cat", score=0.9, visual_score=0.9)
        results.write_tags(connection, ref, [tag], labels)
        connection.execute(
            insert(tables.correction),
            [
                {
                    "asset_id": asset_id,
                    "label_id": labels[name],
                    "verdict": verdict,
                    "author": "ana",
                }
                for name, verdict in (("cat", "wrong"), ("lynx", "right"))
            ],
        )
    for stage in ("split", "fuse"):
        flip(database, asset_id, stage, run_id)
    assert rows(database, "SELECT label, score, modalities, model_revision FROM v_tags") == [
        {"label": "lynx", "score": 1.0, "modalities": "person", "model_revision": "ana"}
    ]


def test_the_newest_correction_of_a_span_counts(database: Database) -> None:
    asset_id = add_asset(database)
    run_id = add_run(database, asset_id)
    ref = results.RunRef(stage_run_id=run_id, asset_id=asset_id)
    with database.transaction() as connection:
        labels = results.name_ids(connection, tables.label, ["lynx"])
        shots = [Shot(shot_index=i, start_ms=i * 1000, end_ms=i * 1000 + 1000) for i in range(3)]
        results.write_shots(connection, ref, shots)
    for stage in ("split", "fuse"):
        flip(database, asset_id, stage, run_id)

    def correct(verdict: str, start_ms: int | None, end_ms: int | None) -> list[int]:
        with database.transaction() as connection:
            connection.execute(
                insert(tables.correction).values(
                    asset_id=asset_id,
                    label_id=labels["lynx"],
                    verdict=verdict,
                    author="ana",
                    start_ms=start_ms,
                    end_ms=end_ms,
                )
            )
        found = rows(database, "SELECT shot_index FROM v_tags ORDER BY shot_index")
        return [row["shot_index"] for row in found]

    assert correct("right", None, None) == [0, 1, 2]
    assert correct("right", 0, 999) == [0, 1, 2], "said twice is one tag"
    assert correct("wrong", 1000, 2000) == [0, 2]
    assert correct("right", 1500, 1600) == [0, 1, 2]
    assert correct("wrong", None, None) == []


def test_a_nul_in_a_subtitle_is_no_error(database: Database) -> None:
    asset_id = add_asset(database)
    run_id = add_run(database, asset_id)
    cue = Cue(origin="subtitle", start_ms=0, end_ms=1, text="a\x00b", language="x" * 60)
    with database.transaction() as connection:
        ref = results.RunRef(stage_run_id=run_id, asset_id=asset_id)
        results.write_cues(connection, ref, [cue])
    assert rows(database, "SELECT text FROM cue") == [{"text": "ab"}]
