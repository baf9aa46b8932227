"""A bad file costs itself only: a class, a sentence, exit code 1, and everything else is done."""

import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import servers
from command import Cli
from jobs import Process

from pipeline.db.queries import failures
from workers.demo.media import DemoMedia


@pytest.fixture
def bad_files(tmp_path: Path, demo_media: DemoMedia) -> Path:
    """Every kind of bad file, beside one good picture."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    (folder / "good.png").write_bytes((demo_media.bucket / "photos/chelsea.png").read_bytes())
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("this is a text file, whatever its name says\n" * 20)
    film = (demo_media.bucket / "films/film.mp4").read_bytes()
    # The index of this mp4 stands at its end.
    (folder / "truncated.mp4").write_bytes(film[: len(film) // 2])
    # A header that promises 60,000 × 60,000 pixels.
    png = bytearray((demo_media.bucket / "photos/chelsea.png").read_bytes())
    png[16:24] = (60_000).to_bytes(4, "big") * 2
    png[29:33] = zlib.crc32(png[12:29]).to_bytes(4, "big")
    (folder / "lying.png").write_bytes(png)
    (folder / "notes.txt").write_text("no media, and not asked for by name")
    return folder


EXPECTED = {
    "empty.mp4": ("InvalidMediaError", "the file is empty"),
    "text.mp4": ("UnsupportedMediaError", "the file is text, not media"),
    "truncated.mp4": ("InvalidMediaError", ""),
    "lying.png": ("MediaLimitError", "pixels"),
}


def test_each_bad_file_fails_for_its_reason_and_the_rest_is_done(
    bad_files: Path, process: Process
) -> None:
    job_id = process.run(str(bad_files))
    assets = process.sql("SELECT uri, status FROM v_assets ORDER BY uri")
    status = {row["uri"].rsplit("/", 1)[1]: row["status"] for row in assets}
    assert status == {"good.png": "done", **dict.fromkeys(EXPECTED, "failed")}
    failed = process.sql("SELECT uri, error_class, error_text, attempt FROM v_stage_runs "
                         "WHERE state = 'failed'")  # fmt: skip
    assert len(failed) == len(EXPECTED)
    for row in failed:
        error_class, words = EXPECTED[row["uri"].rsplit("/", 1)[1]]
        assert row["error_class"] == error_class
        assert words in row["error_text"]
        assert row["error_text"]
        assert "\n" not in row["error_text"]
        assert row["attempt"] == 1, "bad input is not tried again"
    job = process.sql("SELECT * FROM v_jobs")[0]
    assert (job["state"], job["assets_done"], job["assets_failed"], job["files_skipped"]) == (
        "failed", 1, 4, 1,
    )  # fmt: skip
    with process.runtime.database.reading() as connection:
        assert len(failures(connection, job_id)) == len(EXPECTED)


def test_bad_media_is_not_opened_again_by_the_next_job(bad_files: Path, process: Process) -> None:
    process.run(str(bad_files))
    second = process.run(str(bad_files))
    assert process.done_by(second) == []
    job = process.sql("SELECT * FROM v_jobs WHERE job_id = :job", job=second)[0]
    assert (job["assets_done"], job["assets_failed"]) == (1, 4)
    assert {row["attempt"] for row in process.sql("SELECT attempt FROM v_stage_runs")} == {1}


def test_the_command_lists_failures_and_exits_with_1(
    cli: Cli, s3: servers.S3Server, demo_media: DemoMedia
) -> None:
    bucket = s3.create_bucket()
    s3.client.put_object(Bucket=bucket, Key="empty.mp4", Body=b"")
    photo = (demo_media.bucket / "photos/lion.jpg").read_bytes()
    s3.client.put_object(Bucket=bucket, Key="a lion + ünïcode.jpg", Body=photo)
    cli = Cli(folder=cli.folder, settings={"MEDIAWEAVE_S3__ENDPOINT_URL": s3.endpoint_url})
    result = cli("run", f"s3://{bucket}", f"s3://{bucket}/no-such-key.mp4", "s3://no-such-bucket/x")
    assert result.code == 1, result.err
    assert "1 of 4 assets done, 3 failed" in result.out
    for words in (
        f"failed s3://{bucket}/empty.mp4 at ingest: the file is empty (InvalidMediaError)",
        f"failed s3://{bucket}/no-such-key.mp4 at ingest: ",
        "failed s3://no-such-bucket/x at ingest: ",
    ):
        assert words in result.out
    shown = cli("show", f"s3://{bucket}/a lion + ünïcode.jpg", "--json")
    assert "lion" in [tag["label"] for tag in shown.json["tags"]]
    missing = cli("show", "s3://no-such-bucket/x")
    assert missing.code == 1
    assert "failed: " in missing.err
    assert "no-such-bucket" in missing.err


def test_a_refused_access_is_the_items_failure(
    process: Process, s3: servers.S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = s3.create_bucket()
    s3.client.put_object(Bucket=bucket, Key="a.mp4", Body=b"x")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", servers.POWERLESS_ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", servers.POWERLESS_SECRET_KEY)
    settings = process.runtime.settings.model_copy(
        update={"s3": process.runtime.settings.s3.model_copy(
            update={"endpoint_url": s3.endpoint_url})}
    )  # fmt: skip
    refused = Process(settings, process.runtime.models)
    refused.run(f"s3://{bucket}/a.mp4")
    (row,) = refused.sql("SELECT error_class, error_text FROM v_stage_runs WHERE state = 'failed'")
    assert row["error_class"] == "AccessDeniedError"
    assert bucket in row["error_text"]
    assert servers.POWERLESS_SECRET_KEY not in row["error_text"]

    # Once access is given, the next job tries again and goes on.
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", servers.ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", servers.SECRET_KEY)
    allowed = Process(settings, process.runtime.models)
    allowed.run(f"s3://{bucket}/a.mp4")
    newest = allowed.sql("SELECT error_class FROM v_stage_runs ORDER BY stage_run_id DESC")[0]
    assert newest["error_class"] == "UnsupportedMediaError", "it was read, and is one letter"
    assert len(allowed.sql("SELECT * FROM v_assets")) == 1
    refused.close()
    allowed.close()


@pytest.mark.parametrize(
    ("arguments", "settings", "words"),
    [
        (["run", "{folder}", "--profile", "none"], {}, "there is no profile 'none'"),
        (["run", "{folder}", "--set", "split.speed=9"], {}, "stage split has no parameter"),
        (["run", "{folder}", "--set", "nonsense"], {}, "write STAGE.NAME=VALUE"),
        (["run", "{folder}", "--labels", " , "], {}, "the list of labels is empty"),
        (["run", "http://127.0.0.1/x"], {}, "http://127.0.0.1/x"),
        (["run", "{folder}", "--database", "nonsense"], {}, "is not a URL"),
        (
            ["run", "{folder}", "--database", "postgresql://u:secret@127.0.0.1:9/x"],
            {},
            "cannot be opened",
        ),
        (["run", "{folder}"], {"MEDIAWEAVE_BROKER": "amqp://u:secret@127.0.0.1:9//"},
         "cannot be reached"),
        (["run", "{folder}"], {"MEDIAWEAVE_BROKER": "redis://127.0.0.1:9/0"}, "cannot be reached"),
        (["run", "{folder}"], {"MEDIAWEAVE_BROKER": "carrier-pigeon://x"}, "broker"),
        (["run", "s3://a/b"], {"MEDIAWEAVE_S3__ENDPOINT_URL": "http://127.0.0.1:9"},
         "127.0.0.1:9"),
        (["run"], {}, "SOURCE"),
        (["jobs", "show", "77"], {}, "there is no database"),
        (["worker", "--queues", "gpu"], {}, "there is no queue 'gpu'"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_one_line_and_exit_2(
    cli: Cli,
    folder: Callable[..., Path],
    arguments: list[str],
    settings: dict[str, str],
    words: str,
) -> None:
    cli = Cli(folder=cli.folder, settings=settings)
    media = str(folder("photos/lion.jpg"))
    result = cli(*(argument.replace("{folder}", media) for argument in arguments))
    assert result.code == 2, result.out + result.err
    assert words in result.err
    assert "Traceback" not in result.err
    assert "secret" not in result.err
