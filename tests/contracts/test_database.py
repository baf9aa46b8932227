"""One suite for every database that mediaweave runs on: schema, bulk inserts, queries, URLs."""

import threading
from pathlib import Path

import pytest
from alembic import command
from database_rows import add_asset, rows
from sqlalchemy import text

from pipeline.db import queries, runs, workers
from pipeline.db.bulk import insert_rows
from pipeline.db.engine import Database, open_database
from pipeline.db.migrate import alembic_config, ensure_schema, upgrade
from pipeline.errors import ConfigurationError, DatabaseUnavailableError
from schemas import tables


def test_migrations_make_exactly_the_tables_of_the_code(database: Database) -> None:
    with database.transaction() as connection:
        config = alembic_config(connection)
        config.attributes["migrate"] = False
        command.check(config)


def test_upgrading_again_and_from_many_threads_is_harmless(database: Database) -> None:
    errors: list[Exception] = []

    def work() -> None:
        try:
            upgrade(database)
        except Exception as error:  # noqa: BLE001  reported by the assertion below
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert rows(database, "SELECT * FROM v_jobs") == []


def test_a_newer_database_is_refused(database: Database) -> None:
    with database.transaction() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ConfigurationError, match="made by a newer mediaweave"):
        ensure_schema(database)


def test_nothing_is_upgraded_under_workers_that_are_at_work(database: Database) -> None:
    with database.transaction() as connection:
        command.downgrade(alembic_config(connection), "0002")
        workers.announce(connection, "here/1", queues=["io"], slots=1, version="0.0")
        # One that was killed.
        dead = f"{runs.process_space()}/{2**22 + 1}"
        workers.announce(connection, dead, queues=["io"], slots=1, version="0.0")
    with pytest.raises(ConfigurationError, match=r"are at work .* \(1 seen\): stop"):
        upgrade(database)
    with database.transaction() as connection:
        workers.leave(connection, "here/1")
    upgrade(database)
    with database.transaction() as connection:
        workers.announce(connection, "here/1", queues=["io"], slots=1, version="0.0")
    upgrade(database)  # there is nothing to do, and nobody in the way


def test_a_database_that_takes_no_rows_at_once_is_away(database: Database) -> None:
    read_only = "PRAGMA query_only = ON" if database.is_sqlite else "SET TRANSACTION READ ONLY"
    with (
        pytest.raises(DatabaseUnavailableError, match=r"read-?only"),
        database.transaction() as connection,
    ):
        connection.execute(text(read_only))
        insert_rows(connection, tables.label, ["name"], [("a",)])


def test_a_rolled_back_bulk_insert_leaves_nothing(database: Database) -> None:
    with pytest.raises(RuntimeError, match="half way"), database.transaction() as connection:
        insert_rows(connection, tables.label, ["name"], [("a",), ("b",)])
        raise RuntimeError("half way")
    assert rows(database, "SELECT * FROM label") == []


def test_an_analysts_query_cannot_write(database: Database) -> None:
    add_asset(database)
    assert queries.read_only(database, "SELECT uri FROM v_assets WHERE uri LIKE '%a.mp4'") == [
        {"uri": "file:///a.mp4"}
    ]
    with pytest.raises(ConfigurationError, match="the query failed"):
        queries.read_only(database, "DELETE FROM location")
    with pytest.raises(ConfigurationError, match="the query failed"):
        queries.read_only(database, "SELECT nothing FROM nowhere")
    with pytest.raises(ConfigurationError, match="the query failed"):
        queries.read_only(database, "COMMIT; INSERT INTO label (name) VALUES ('smuggled')")
    assert rows(database, "SELECT * FROM label") == []
    # The next transaction of the process can write again.
    add_asset(database, sha256="c" * 64, uri="file:///c.mp4")


@pytest.mark.parametrize(
    ("url", "error", "sentence"),
    [
        ("nonsense", ConfigurationError, "is not a URL"),
        ("mysql://host/x", ConfigurationError, "runs on SQLite and PostgreSQL"),
        ("sqlite://", ConfigurationError, "SQLite needs a file"),
        ("postgresql://user@host:port/name", ConfigurationError, "is not a URL"),
    ],
)
def test_a_wrong_url_is_one_sentence(url: str, error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        open_database(url)


def test_a_file_that_is_no_database_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    path.write_text("these are my notes " * 100)
    with pytest.raises(DatabaseUnavailableError, match=r"notes\.db cannot be opened"):
        ensure_schema(open_database(f"sqlite:///{path}"))


def test_a_foreign_database_is_refused(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path / 'other.db'}")
    with database.transaction() as connection:
        connection.execute(text("CREATE TABLE job (id INTEGER)"))
    with pytest.raises(ConfigurationError, match="tables of something else"):
        ensure_schema(database)


def test_an_unreachable_database_hides_its_password() -> None:
    database = open_database("postgresql://user:secret@127.0.0.1:9/none")
    with (
        pytest.raises(DatabaseUnavailableError, match="cannot be opened") as caught,
        database.reading(),
    ):
        pass
    assert "secret" not in str(caught.value)
