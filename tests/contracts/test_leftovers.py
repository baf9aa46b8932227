"""Artifacts that no row names, and rows whose artifact is gone: on files and on S3 alike."""

import os
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from finished_job import PAST, finish_job
from servers import S3Server
from sqlalchemy import text

from pipeline.config import S3Options, Settings
from pipeline.db.migrate import ensure_schema
from pipeline.errors import ConfigurationError
from pipeline.runner import leftovers
from pipeline.runner.artifact_listing import are_among, first_bytes, in_order
from pipeline.runner.leftovers import (
    MissingArtifact,
    clean,
    compare_store,
    missing_artifacts,
    unreferenced_artifacts,
)
from pipeline.runner.runtime import Runtime

HOUR = 3600.0


@pytest.fixture(params=["files", "s3"])
def runtime(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Runtime]:
    """A finished job of two assets whose artifacts, keyframes and one sidecar are stored."""
    settings = Settings(data_dir=tmp_path / "data", artifacts=str(tmp_path / "artifacts"))
    if request.param == "s3":
        server: S3Server = request.getfixturevalue("s3")
        settings = Settings(
            data_dir=tmp_path / "data",
            database=request.getfixturevalue("postgres_database"),
            artifacts=f"s3://{server.create_bucket()}/art ifacts",
            s3=S3Options(endpoint_url=server.endpoint_url),
        )
    opened = Runtime(settings)
    ensure_schema(opened.database)
    finish_job(opened.database, assets=2)
    for run, words in ((11, b"sound 1"), (21, b"sound 2")):
        change(
            opened,
            f"UPDATE artifact SET sha256 = '{store(opened, words)}' WHERE stage_run_id = {run}",
        )
    picture, cues = store(opened, b"picture"), store(opened, b"subtitles")
    change(
        opened,
        f"UPDATE keyframe SET sha256 = '{picture}'",
        f"INSERT INTO sidecar VALUES (2, 's3://b/2.srt', '2.srt', '{cues}')",
    )
    yield opened
    opened.close()


def store(runtime: Runtime, data: bytes) -> str:
    return runtime.artifacts.put_bytes(data, "text/plain")


def change(runtime: Runtime, *statements: str) -> None:
    with runtime.database.transaction() as connection:
        for statement in statements:
            connection.execute(text(statement))


def stored(runtime: Runtime) -> set[bytes]:
    root = runtime.artifacts.uri("0" * 64)[:-70]
    return {runtime.stores.read_bytes(info.uri) for info in runtime.stores.list(root)}


WANTED = {b"sound 1", b"sound 2", b"picture", b"subtitles"}


def test_what_rows_name_is_neither_left_over_nor_missing(runtime: Runtime) -> None:
    assert list(unreferenced_artifacts(runtime, 0)) == []
    assert list(missing_artifacts(runtime)) == []
    assert list(clean(runtime, older_than_seconds=0)) == []
    found = compare_store(runtime, 0)
    assert (found.stored, found.unreferenced, found.missing) == (4, 0, 0)
    assert stored(runtime) == WANTED


def test_what_no_row_names_is_left_over_once_it_is_old(runtime: Runtime) -> None:
    digest = store(runtime, b"of a killed run")
    # Not ours: neither counted nor touched.
    root = runtime.artifacts.uri("0" * 64)[:-70]
    for name in ("notes.txt", "ab/cd/notes.txt", f"ff/ff/{digest}", f"x/{digest}"):
        runtime.stores.write_bytes(root + "/" + name, b"not ours", "text/plain")
    (found,) = unreferenced_artifacts(runtime, 0)
    assert (found.kind, found.uri) == ("artifact", runtime.artifacts.uri(digest))
    assert found.size_bytes == len(b"of a killed run")
    assert list(unreferenced_artifacts(runtime, HOUR)) == []
    assert list(unreferenced_artifacts(runtime)) == []
    compared = compare_store(runtime, 0)
    assert (compared.stored, compared.unreferenced, compared.unreferenced_bytes) == (5, 1, 15)

    assert list(clean(runtime)) == []
    assert list(clean(runtime, older_than_seconds=0, dry_run=True)) == [found]
    assert stored(runtime) == {*WANTED, b"of a killed run", b"not ours"}
    assert list(clean(runtime, older_than_seconds=0)) == [found]
    assert list(clean(runtime, older_than_seconds=0)) == []
    assert stored(runtime) == {*WANTED, b"not ours"}


def test_what_is_shown_and_not_there_is_missing(runtime: Runtime) -> None:
    for words in (b"sound 2", b"picture", b"subtitles"):
        runtime.stores.delete(runtime.artifacts.uri(sha256(words).hexdigest()))
    found = sorted(missing_artifacts(runtime), key=lambda missing: (missing.stage, missing.sha256))
    assert {(missing.stage, missing.asset_id) for missing in found} == {
        ("ingest", 2),
        ("split", 1),  # its keyframe
        ("split", 2),
    }
    assert (
        MissingArtifact(sha256=sha256(b"sound 2").hexdigest(), asset_id=2, stage="split") in found
    )
    compared = compare_store(runtime)
    assert (compared.stored, compared.missing) == (1, 4)
    assert set(compared.missing_examples) == set(found)
    change(runtime, "DELETE FROM head WHERE stage_run_id = 21")
    assert {missing.stage for missing in missing_artifacts(runtime)} == {"ingest", "split"}
    assert {missing.asset_id for missing in missing_artifacts(runtime)} == {1, 2}
    change(runtime, "UPDATE location SET is_current = false", "DELETE FROM head")
    assert list(missing_artifacts(runtime)) == []


def test_a_row_that_comes_while_others_are_deleted_keeps_its_artifact(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leftovers, "DELETE_BATCH", 1)
    words = {store(runtime, data): data for data in (b"a", b"b", b"c")}
    first, second, third = sorted(words)
    deleting = clean(runtime, older_than_seconds=0)
    assert next(deleting).uri == runtime.artifacts.uri(first)
    change(
        runtime,
        "INSERT INTO artifact (stage_run_id, name, sha256, media_type, size_bytes) "
        f"VALUES (23, 'late', '{second}', 'text/plain', 1)",
    )
    assert [leftover.uri for leftover in deleting] == [runtime.artifacts.uri(third)]
    assert stored(runtime) == {*WANTED, words[second]}


def test_the_wrong_database_deletes_nothing(runtime: Runtime) -> None:
    change(
        runtime,
        "DELETE FROM artifact WHERE stage_run_id = 11",
        "DELETE FROM artifact",
        "DELETE FROM keyframe",
        "DELETE FROM sidecar",
    )
    with pytest.raises(ConfigurationError, match=r"4 of the 4 artifacts at .* are unknown to"):
        list(clean(runtime, older_than_seconds=0))
    assert len(list(clean(runtime, older_than_seconds=0, dry_run=True))) == 4
    assert stored(runtime) == WANTED
    assert len(list(clean(runtime, older_than_seconds=0, force=True))) == 4
    assert stored(runtime) == set()


def test_most_of_a_large_store_is_not_deleted_by_mistake(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leftovers, "FEW", 5)
    for number in range(6):
        store(runtime, str(number).encode())
    with pytest.raises(ConfigurationError, match="6 of the 10 artifacts"):
        list(clean(runtime, older_than_seconds=0))
    assert len(stored(runtime)) == 10


def test_young_artifacts_are_not_deleted_while_something_runs(runtime: Runtime) -> None:
    store(runtime, b"about to be committed")
    change(
        runtime,
        "UPDATE stage_run SET state = 'running', lease_token = 't', lease_owner = 'h/1', "
        f"lease_expires_at = '{PAST}' WHERE id = 23",
    )
    with pytest.raises(ConfigurationError, match="stage runs are at work"):
        list(clean(runtime, older_than_seconds=HOUR - 1))
    assert list(clean(runtime, older_than_seconds=HOUR)) == []
    assert len(stored(runtime)) == 5


@pytest.mark.parametrize("runtime", ["files"], indirect=True)
def test_files_that_were_not_written_to_their_end(runtime: Runtime) -> None:
    folder = runtime.settings.scratch_path / "artifacts" / "ab" / "cd"
    root = runtime.artifacts.local_path(sha256(b"picture").hexdigest()).parents[2]
    partial = [root / "ab" / "cd" / f".part-{'0' * 32}", folder / f".part-{'1' * 32}"]
    for path in partial:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    assert list(clean(runtime, older_than_seconds=HOUR)) == []
    for path in partial:
        os.utime(path, (0, 0))
    assert compare_store(runtime, HOUR).unreferenced == 1
    found = list(clean(runtime, older_than_seconds=HOUR))
    assert [(leftover.kind, leftover.size_bytes) for leftover in found] == [("partial file", 4)] * 2
    assert not any(path.exists() for path in partial)


@pytest.mark.parametrize("runtime", ["files"], indirect=True)
def test_work_folders_of_dead_processes(runtime: Runtime) -> None:
    left = runtime.settings.scratch_path / "media" / "tmp" / "work-dead"
    with runtime.scratch.temporary_folder() as used:
        (left / "deep").mkdir(parents=True)
        (left / "deep" / "file").write_bytes(b"12345")
        (found,) = clean(runtime, dry_run=True)
        assert (found.kind, found.uri) == ("work folder", str(left))
        assert found.size_bytes >= 5
        assert left.exists()
        assert list(clean(runtime)) == [found]
        assert used.exists()
    assert not left.exists()


@pytest.mark.parametrize("runtime", ["files"], indirect=True)
def test_a_store_that_nobody_has_written_to_is_empty(runtime: Runtime, tmp_path: Path) -> None:
    elsewhere = Runtime(
        Settings(
            data_dir=tmp_path / "data",
            database=runtime.settings.database_url,
            artifacts=str(tmp_path / "new"),
        )
    )
    assert compare_store(elsewhere).stored == 0
    assert compare_store(elsewhere).missing == 5
    elsewhere.close()


def test_digests_are_found_among_others() -> None:
    names = [sha256(str(number).encode()).hexdigest() for number in range(1000)]
    ordered = in_order([first_bytes(name[:16] for name in names[::2]), first_bytes([])])
    found = are_among(first_bytes(name[:16] for name in names), ordered)
    assert found.tolist() == [True, False] * 500
    assert are_among(first_bytes([]), ordered).tolist() == []
    assert are_among(ordered, np.empty(0, dtype=np.uint64)).tolist() == [False] * 500
    assert first_bytes(["00000000000000ff", "f" * 16]).tolist() == [255, 2**64 - 1]
