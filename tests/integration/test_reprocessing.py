"""What runs again when something changes: that stage and what follows from it, nothing before."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import servers
from jobs import Process

from pipeline.plan import graph
from workers.cli.progress import SCAN
from workers.cli.watch import job_status
from workers.demo.media import DemoMedia

ALL_STAGES = [
    "caption", "fuse", "ingest", "ocr", "safety", "sound", "speech", "split", "text", "vision",
]  # fmt: skip


@pytest.fixture
def film(folder: Callable[..., Path]) -> Path:
    return folder("films/film.mp4")


def test_running_twice_does_nothing_twice(film: Path, process: Process) -> None:
    first = process.run(str(film))
    assert process.done_by(first) == ALL_STAGES
    tags = process.sql("SELECT * FROM v_tags")
    second = process.run(str(film))
    assert process.done_by(second) == []
    assert process.sql("SELECT state FROM v_jobs WHERE job_id = :job", job=second) == [
        {"state": "done"}
    ]
    assert process.sql("SELECT * FROM v_tags") == tags


def test_a_changed_parameter_runs_its_stage_and_what_follows(film: Path, process: Process) -> None:
    process.run(str(film))
    fused = process.run(str(film), parameters={"fuse": {"tag_threshold": 0.6}})
    assert process.done_by(fused) == ["caption", "fuse"]
    assert process.sql("SELECT MIN(score) AS least FROM v_tags")[0]["least"] >= 0.6

    # Back again: the first results are still there, and are shown again at once.
    back = process.run(str(film))
    assert process.done_by(back) == []
    assert process.sql("SELECT MIN(score) AS least FROM v_tags")[0]["least"] < 0.6


def test_a_parameter_that_changes_nothing_stops_at_its_stage(film: Path, process: Process) -> None:
    process.run(str(film))
    # No line is read with less than this, so the cues come out the same.
    other = process.run(str(film), parameters={"ocr": {"min_confidence": 0.71}})
    assert process.done_by(other) == ["ocr"]


def test_a_users_labels_are_a_matter_of_fusion_only(film: Path, process: Process) -> None:
    process.run(str(film))
    labelled = process.run(str(film), labels=("vehicle", "animal", "drink"), label_set="mine")
    assert set(process.done_by(labelled)) <= {"fuse", "caption"}
    rows = process.sql(
        "SELECT shot_index, class FROM v_classifications WHERE taxonomy = 'mine' "
        "ORDER BY shot_index"
    )
    assert [row["class"] for row in rows][:2] == ["animal", "drink"]
    assert [row["class"] for row in rows][3:] == ["vehicle", "animal"]


def test_a_changed_sidecar_splits_again_but_does_not_listen_again(
    folder: Callable[..., Path], process: Process
) -> None:
    media = folder("films/film.mp4")
    process.run(str(media))
    (media / "film.de.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nEine Katze\n")
    again = process.run(str(media))
    done = process.done_by(again)
    assert "split" in done
    assert not {"speech", "vision", "ocr"} & set(done)
    cues = process.sql("SELECT text FROM v_cues WHERE language = 'de'")
    assert cues == [{"text": "Eine Katze"}]


def test_speech_is_recognised_only_where_subtitles_are_missing(
    folder: Callable[..., Path], process: Process
) -> None:
    media = folder("films/film.mp4")
    heard = "SELECT COUNT(*) AS cues FROM v_cues WHERE origin = 'speech'"
    missing = {"speech": {"when": "missing"}}
    first = process.run(str(media), parameters=missing)
    assert "speech" in process.done_by(first)
    assert process.sql(heard) == [{"cues": 0}]
    sources = process.sql("SELECT language, cue_count, format FROM v_cue_sources")
    assert sources == [{"language": "en", "cue_count": 3, "format": "mov_text"}]

    # Another text in the same languages is no reason to decide again.
    german = media / "film.de.srt"
    german.write_text("1\n00:00:01,000 --> 00:00:02,000\nEine Katze\n")
    process.run(str(media), parameters=missing)
    german.write_text("1\n00:00:01,000 --> 00:00:02,000\nEin Kater\n")
    edited = process.run(str(media), parameters=missing)
    assert "split" in process.done_by(edited)
    assert "speech" not in process.done_by(edited)

    french = {"speech": {"when": "missing", "languages": ["fr"]}}
    process.run(str(media), parameters=french)
    assert process.sql(heard)[0]["cues"] > 0


def test_a_removed_sidecar_takes_its_cues_with_it(
    folder: Callable[..., Path], process: Process
) -> None:
    media = folder("films/film.mp4")
    german = media / "film.de.srt"
    german.write_text("1\n00:00:01,000 --> 00:00:02,000\nEine Katze\n")
    process.run(str(media))
    assert process.sql("SELECT text FROM v_cues WHERE language = 'de'") == [{"text": "Eine Katze"}]
    german.unlink()
    process.run(str(media))
    assert process.sql("SELECT text FROM v_cues WHERE language = 'de'") == []
    german.write_text("1\n00:00:01,000 --> 00:00:02,000\nEine Katze\n")
    back = process.run(str(media))
    assert set(process.done_by(back)) <= {"ingest"}, "the first results are still there"
    assert process.sql("SELECT text FROM v_cues WHERE language = 'de'") == [{"text": "Eine Katze"}]


def test_versions_of_objects_are_recorded_and_read_back(
    process: Process, s3: servers.S3Server, demo_media: DemoMedia
) -> None:
    bucket = s3.create_bucket()
    s3.client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    photo = (demo_media.bucket / "photos/lion.jpg").read_bytes()
    first = s3.client.put_object(Bucket=bucket, Key="lion.jpg", Body=photo)["VersionId"]
    options = process.runtime.settings.s3.model_copy(update={"endpoint_url": s3.endpoint_url})
    settings = process.runtime.settings.model_copy(update={"s3": options, "scratch_max_bytes": 0})
    versioned = Process(settings, process.runtime.models)
    versioned.run(f"s3://{bucket}/lion.jpg")
    seen = versioned.sql("SELECT version, etag, asset_id FROM location")
    assert [(row["version"], bool(row["etag"])) for row in seen] == [(first, True)]

    # The version has expired, the same bytes were put again: the split finds them there.
    s3.client.put_object(Bucket=bucket, Key="lion.jpg", Body=photo)
    s3.client.delete_object(Bucket=bucket, Key="lion.jpg", VersionId=first)
    again = versioned.run(f"s3://{bucket}/lion.jpg", parameters={"split": {"jpeg_quality": 70}})
    assert "split" in versioned.done_by(again)
    assert versioned.sql("SELECT status FROM v_assets") == [{"status": "done"}]
    versioned.close()


def test_new_code_of_a_stage_makes_it_stale(
    film: Path, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    process.run(str(film))
    from dataclasses import replace

    newer = {**graph.STAGES, "ocr": replace(graph.STAGES["ocr"], code_version=99)}
    for module in ("pipeline.plan.graph", "pipeline.plan.profiles"):
        monkeypatch.setattr(f"{module}.STAGES", newer)
    assert process.done_by(process.run(str(film))) == ["ocr"]


def test_the_same_bytes_somewhere_else_are_only_ingested(
    film: Path, process: Process, demo_media: DemoMedia
) -> None:
    process.run(str(film))
    other = film.parent / "elsewhere"
    other.mkdir()
    shutil.copyfile(demo_media.bucket / "films/film.mp4", other / "renamed.mp4")
    job = process.run(str(other))
    assert process.done_by(job) == ["ingest"]
    assert len(process.sql("SELECT * FROM v_assets")) == 1
    assert len(process.sql("SELECT * FROM location WHERE is_current")) == 2


def test_overwritten_bytes_are_a_new_asset(
    folder: Callable[..., Path], process: Process, demo_media: DemoMedia
) -> None:
    media = folder("photos/lion.jpg")
    process.run(str(media))
    shutil.copyfile(demo_media.bucket / "photos/rocket.jpg", media / "lion.jpg")
    process.run(str(media))
    rows = process.sql("SELECT DISTINCT asset_id FROM v_assets")
    assert len(rows) == 2
    newest = process.sql("SELECT label FROM v_tags WHERE asset_id = 2")
    assert "rocket" in [row["label"] for row in newest]


def test_work_that_was_left_goes_on_where_it_stopped(film: Path, process: Process) -> None:
    from pipeline.runner.intake import submit
    from schemas.messages import JobMessage

    first = submit(process.runtime, JobMessage(sources=(str(film),)))
    assert process.drain(limit=3) == 3
    done_before = process.done_by(first)
    second = process.run(str(film))
    assert len(done_before) == 3
    assert sorted([*process.done_by(first), *process.done_by(second)]) == ALL_STAGES
    states = process.sql("SELECT job_id, state FROM v_jobs ORDER BY job_id")
    assert [row["state"] for row in states] == ["done", "done"]


def test_a_job_key_submitted_twice_is_one_job(film: Path, process: Process) -> None:
    assert process.run(str(film), job_key="k") == process.run(str(film), job_key="k")
    assert len(process.sql("SELECT * FROM v_jobs")) == 1


def test_ranges_of_a_long_video_are_stage_runs_of_their_own(film: Path, process: Process) -> None:
    params = {"keyframe_every_ms": 2000, "range_ms": 0}
    process.run(str(film), parameters={"split": params})
    shots = process.sql("SELECT shot_index, start_ms, end_ms, keyframe_uri FROM v_shots")

    ranged = process.run(str(film), parameters={"split": {**params, "range_ms": 4000}})

    # The same comes out, so nothing that follows is done again.
    scans = [f"scan_{number:02d}" for number in range(1, 6)]
    assert process.done_by(ranged) == [*scans, "split"]
    # Whoever watches sees them together.
    assert job_status(process.runtime.database, ranged).stage_counts(SCAN) == (5, 0, 5)
    again = process.sql("SELECT shot_index, start_ms, end_ms, keyframe_uri FROM v_shots")
    assert again == shots
    assert process.sql("SELECT status FROM v_assets") == [{"status": "done"}]
