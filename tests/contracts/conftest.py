"""The databases that mediaweave runs on."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.db.engine import Database, open_database
from pipeline.db.migrate import ensure_schema


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'test.db'}"
    else:
        url = request.getfixturevalue("postgres_database")
    opened = open_database(url)
    ensure_schema(opened)
    yield opened
    opened.close()
