"""Ctrl-C and kill -9 in the middle of an embedded run: the next run goes on from there."""

import shutil
import signal
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from command import Cli
from sqlalchemy import text

from pipeline.db.engine import Database, open_database
from workers.demo.media import DemoMedia

#: What the ten files of the demo ask for: one is the copy of another, one has no pictures, three
#: have sound.
STAGE_RUNS = {
    "ingest": 10,
    "split": 9,
    "vision": 8,
    "ocr": 8,
    "safety": 8,
    "speech": 3,
    "sound": 3,
    "text": 9,
    "fuse": 9,
    "caption": 9,
}


def stage_runs(database: Database) -> list[tuple[int, str, str, object]]:
    """(id, stage, state, when it ended) of each, but of the listings: each command has one."""
    query = "SELECT id, stage, state, finished_at FROM stage_run WHERE stage <> 'expand'"
    with database.reading() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


def states(runs: list[tuple[int, str, str, object]]) -> Counter[str]:
    return Counter(state for _, _, state, _ in runs)


def succeeded(runs: list[tuple[int, str, str, object]]) -> set[tuple[int, str, str, object]]:
    return {run for run in runs if run[2] == "succeeded"}


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
    before = stage_runs(database)
    assert len(succeeded(before)) >= 10
    if end is not signal.SIGKILL:
        assert "run it again to go on" in out
        assert "running" not in states(before), "what was not finished was given back"

    result = cli("run", str(media), "--json")
    assert result.code == 0, result.err
    assert result.json["assets_done"] == 10
    after = stage_runs(database)
    assert states(after) == {"succeeded": sum(STAGE_RUNS.values())}
    assert Counter(stage for _, stage, _, _ in after) == STAGE_RUNS
    assert succeeded(before) <= succeeded(after), "what was finished was not done again"
    # Some may be done before the second job has listed its files: they are the first job's.
    assert 0 < result.json["stage_runs_done"] <= len(after) - len(succeeded(before))
    database.close()


def test_a_second_signal_ends_at_once(cli: Cli, media: Path) -> None:
    process = cli.start("run", str(media))
    wait_for_line(process, "ingest 10/10")
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode in (130, 128 + signal.SIGINT)
