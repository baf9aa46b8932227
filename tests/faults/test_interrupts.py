"""Ctrl-C and kill -9 in the middle of an embedded run: the next run goes on from there."""

import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from command import Cli
from sqlalchemy import text

from pipeline.db.engine import Database, open_database
from workers.demo.media import DemoMedia


def states(database: Database) -> dict[str, int]:
    # The listings of the jobs apart: each run of the command has its own.
    query = "SELECT state, COUNT(*) FROM stage_run WHERE stage <> 'expand' GROUP BY state"
    with database.reading() as connection:
        return {row[0]: row[1] for row in connection.execute(text(query))}


def wait_for_line(process: "subprocess.Popen[str]", words: str) -> None:
    """Read the progress until a line says ``words``."""
    assert process.stderr is not None
    for line in process.stderr:
        if words in line:
            return
    pytest.fail(f"the run ended without saying {words!r}")


@pytest.fixture
def media(tmp_path: Path, demo_media: DemoMedia) -> Path:
    target = tmp_path / "media"
    shutil.copytree(demo_media.bucket, target)
    return target


@pytest.mark.parametrize(
    ("end", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -signal.SIGKILL)],
)
def test_an_ended_run_is_taken_up_by_the_next(
    cli: Cli, media: Path, end: signal.Signals, code: int
) -> None:
    process = cli.start("run", str(media))
    wait_for_line(process, "ingest 10/10")
    process.send_signal(end)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == code
    database = open_database(f"sqlite:///{cli.folder / 'data' / 'mediaweave.db'}")
    before = states(database)
    assert before["succeeded"] >= 10
    if end is not signal.SIGKILL:
        assert "run it again to go on" in out
        assert "running" not in before, "what was not finished was given back"

    result = cli("run", str(media), "--json")
    assert result.code == 0, result.err
    assert result.json["assets_done"] == 10
    assert result.json["stage_runs_done"] == 65 - before["succeeded"]
    assert states(database) == {"succeeded": 65}
    database.close()


def test_a_second_signal_ends_at_once(cli: Cli, media: Path) -> None:
    process = cli.start("run", str(media))
    wait_for_line(process, "ingest 10/10")
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode in (130, 128 + signal.SIGINT)
