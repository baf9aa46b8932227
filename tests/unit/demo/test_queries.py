"""The queries that the demo prints run as they are on the database that it leaves behind."""

from pathlib import Path

import pytest

from pipeline.db import queries
from pipeline.db.engine import open_database
from pipeline.db.migrate import ensure_schema
from workers.demo.__main__ import QUERIES


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES.keys())
def test_a_printed_query_runs(query: str, tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path / 'mediaweave.db'}")
    ensure_schema(database)

    assert queries.read_only(database, query) == []
    database.close()
    # The demo prints them between double quotes, for a shell.
    assert not set(query) & set('"$`\\!')
