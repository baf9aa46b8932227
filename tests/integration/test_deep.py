"""``mediaweave doctor --deep`` and ``mediaweave clean``: what they say of real leftovers."""

import json
from pathlib import Path

import pytest
from finished_job import finish_job
from intake_process import until
from sqlalchemy import text
from typer import Typer
from typer.testing import CliRunner, Result

from pipeline.config import S3Options, Settings
from pipeline.db.engine import open_database
from pipeline.db.migrate import ensure_schema
from pipeline.errors import ConfigurationError
from pipeline.runner.runtime import Runtime
from workers.app import RUN_STAGES, make_app, queue_name
from workers.cli.clean import clean
from workers.cli.deep import examine_deeply
from workers.cli.doctor import Finding


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A finished job of two assets, its artifacts in the store."""
    made = Settings(data_dir=tmp_path / "data")
    runtime = Runtime(made)
    ensure_schema(runtime.database)
    finish_job(runtime.database, assets=2)
    digest = runtime.artifacts.put_bytes(b"sound", "audio/flac")
    for table in ("artifact", "keyframe"):
        change(made, f"UPDATE {table} SET sha256 = '{digest}'")
    runtime.close()
    return made


def change(settings: Settings, *statements: str) -> None:
    database = open_database(settings.database_url)
    with database.transaction() as connection:
        for statement in statements:
            connection.execute(text(statement))
    database.close()


def leave_artifact(settings: Settings, data: bytes) -> Path:
    runtime = Runtime(settings)
    digest = runtime.artifacts.put_bytes(data, "text/plain")
    runtime.close()
    return runtime.artifacts.local_path(digest)


def leave_folder(settings: Settings) -> Path:
    folder = settings.scratch_path / "media" / "tmp" / "work-left"
    folder.mkdir(parents=True)
    (folder / "part").write_bytes(b"12345")
    return folder


def look(settings: Settings) -> dict[str, Finding]:
    return {finding.what: finding for finding in examine_deeply(settings)}


def test_where_all_is_well(settings: Settings) -> None:
    found = look(settings)
    assert list(found) == ["rules", "dead letters", "events", "broker", "artifacts", "scratch"]
    assert {finding.level for finding in found.values()} == {"good"}
    assert found["artifacts"].text.startswith("1 in the store")


def test_what_is_broken_left_over_and_missing(settings: Settings) -> None:
    leave_folder(settings)
    change(
        settings,
        "UPDATE job SET state = 'running', finished_at = NULL",
        "UPDATE job_item SET state = 'running' WHERE location_id = 2",
        "UPDATE stage_run SET state = 'running', lease_token = 't', lease_owner = 'h/1', "
        "lease_expires_at = '2026-01-01 00:00:00' WHERE id = 13",
        f"UPDATE artifact SET sha256 = '{'b' * 64}' WHERE stage_run_id = 21",
        "INSERT INTO dead_letter (origin, reason, body, received_at) "
        "VALUES ('queue', 'no sources', '{}', '2026-01-01 00:00:00')",
        "INSERT INTO outbox (topic, body, created_at, failed_at) "
        "VALUES ('t', '{}', '2026-01-01 00:00:00', '2026-01-01 00:00:00')",
    )
    found = look(settings)
    assert found["stuck_item"].level == "wrong"
    assert "job 1 location 2" in found["stuck_item"].text
    assert "To do: `mediaweave jobs cancel 1`" in found["stuck_item"].text
    assert found["lease_expired"].level == "note"
    assert found["dead letters"].level == "note"
    assert "mediaweave dead-letters list" in found["dead letters"].text
    assert found["events"].level == "note"
    assert found["artifacts"].level == "wrong"
    assert "of asset 2, split" in found["artifacts"].text
    assert found["scratch"].level == "note"
    assert "1 folders of dead processes" in found["scratch"].text


def test_without_a_database_there_is_nothing_to_look_at(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="there is no database"):
        examine_deeply(Settings(data_dir=tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_cannot_be_reached_stops_nothing_else(settings: Settings) -> None:
    nowhere = S3Options(endpoint_url="http://127.0.0.1:9", max_attempts=1)
    away = settings.model_copy(update={"artifacts": "s3://bucket/x", "s3": nowhere})
    found = look(away)
    assert found["artifacts"].level == "wrong"
    assert found["rules"].level == "good"
    assert found["scratch"].level == "good"


@pytest.mark.parametrize("broker", ["rabbitmq_url", "redis_url"])
def test_messages_that_are_left_over(
    settings: Settings, broker: str, request: pytest.FixtureRequest
) -> None:
    with_broker = settings.model_copy(update={"broker": request.getfixturevalue(broker)})
    app = make_app(with_broker)
    with app.connection_for_write() as connection:
        for queue in app.amqp.queues.values():
            bound = queue.bind(connection)  # type: ignore[no-untyped-call]
            bound.delete()
            # kombu's pools believe that it is still there.
            bound.declare()

    def seen() -> Finding:
        return look(with_broker)["mediaweave.io"]

    assert seen().text == "0 messages, 0 stage runs queued"
    app.send_task(RUN_STAGES, args=[[13]], queue=queue_name("io"))
    # RabbitMQ counts what is in a quorum queue a moment later.
    until(lambda: seen().text.startswith("1 messages, 0 stage runs queued: left over"))
    assert seen().level == "note"
    change(settings, "UPDATE stage_run SET state = 'queued' WHERE id = 13")
    found = seen()
    assert (found.level, found.text) == ("good", "1 messages, 1 stage runs queued")
    with app.connection_for_write() as connection:
        app.amqp.queues[queue_name("io")].bind(connection).purge()  # type: ignore[no-untyped-call]
    app.close()


def test_a_broker_that_is_away_is_said(settings: Settings) -> None:
    away = settings.model_copy(update={"broker": "redis://127.0.0.1:9/0"})
    found = look(away)
    assert found["broker"].level == "wrong"
    assert "cannot be reached" in found["broker"].text
    assert found["artifacts"].level == "good"


def run(settings: Settings, *arguments: str) -> Result:
    app = Typer()
    app.command()(clean)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDIAWEAVE_DATA_DIR", str(settings.data_dir))
        patch.setenv("COLUMNS", "200")
        return CliRunner().invoke(app, arguments, catch_exceptions=False)


def test_clean_says_what_it_deletes(settings: Settings) -> None:
    left, folder = leave_artifact(settings, b"x" * 1500), leave_folder(settings)
    assert "deleted work folder" in run(settings).output  # which needs no age
    leave_folder(settings)

    dry = run(settings, "--older-than", "0", "--dry-run").output
    assert f"would delete artifact file://{left} (1.5 kB)" in dry
    assert left.exists()
    assert folder.exists()

    result = run(settings, "--older-than", "0")
    assert result.exit_code == 0
    assert f"deleted artifact file://{left} (1.5 kB)" in result.output
    assert "deleted 2 in all" in result.output
    assert not left.exists()
    assert not folder.exists()
    assert run(settings, "--older-than", "0").output == "nothing to delete\n"
    assert look(settings)["artifacts"].level == "good"


def test_clean_for_programs(settings: Settings) -> None:
    leave_artifact(settings, b"x" * 1500)
    result = json.loads(run(settings, "--older-than", "0", "--json").output)
    assert result == {
        "dry_run": False,
        "artifact": {"count": 1, "size_bytes": 1500},
        "partial_file": {"count": 0, "size_bytes": 0},
        "work_folder": {"count": 0, "size_bytes": 0},
    }


def test_clean_does_not_make_a_database(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="there is no database"):
        run(Settings(data_dir=tmp_path / "none"))
    assert list(tmp_path.iterdir()) == []
