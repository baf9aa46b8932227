"""``mediaweave dead-letters``: list, show, retry and discard what could not be taken."""

from contextlib import closing

from command import Cli

from pipeline.config import load_settings
from pipeline.db import dead_letters
from pipeline.db.engine import open_database


def test_a_person_decides(cli: Cli) -> None:
    assert cli("database", "upgrade").code == 0
    url = load_settings(data_dir=cli.folder / "data").database_url
    wanted = b'{"sources": ["s3://archive/a"], "profile": "mine"}'
    with closing(open_database(url)) as database, database.transaction() as connection:
        for origin, reason, body in (
            ("queue", "there is no profile 'mine'", wanted),
            ("queue", "the message is not JSON", b"\x1b[31mno json"),
            ("event", "this is no bucket event", b"{}"),
        ):
            dead_letters.record(connection, origin=origin, reason=reason, body=body)

    listed = cli("dead-letters", "list", "--json").json
    assert [(row["id"], row["origin"]) for row in listed] == [
        (3, "event"),
        (2, "queue"),
        (1, "queue"),
    ]
    shown = cli("dead-letters", "show", "1")
    assert "there is no profile 'mine'" in shown.out
    assert wanted.decode() in shown.out
    assert "\x1b" not in cli("dead-letters", "show", "2").out

    refused = cli("dead-letters", "retry", "1", "2", "3")
    assert refused.code == 1
    assert "1: there is no profile 'mine'" in refused.err
    assert "3: this is no bucket event" in refused.err

    mended = Cli(folder=cli.folder, settings={"MEDIAWEAVE_PROFILES": '{"mine": {}}'})
    retried = mended("dead-letters", "retry", "1")
    assert (retried.code, retried.out) == (0, "1: taken\n"), retried.err
    assert [row["name"] for row in cli("jobs", "list", "--json").json] == ["s3://archive/a"]

    assert cli("dead-letters", "discard", "2", "3").code == 0
    assert cli("dead-letters", "list", "--json").json == []
    missing = cli("dead-letters", "show", "1")
    assert missing.code == 2
    assert "there is no dead letter 1" in missing.err
