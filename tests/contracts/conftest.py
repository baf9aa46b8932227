"""The databases that mediaweave runs on."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jobs import Process
from media_factory import make_picture
from office import Office

from pipeline.config import Settings
from pipeline.db.engine import Database, open_database
from pipeline.db.migrate import ensure_schema
from pipeline.models.pool import ModelPool
from pipeline.plan.profiles import model_entry


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'test.db'}"
    url: str = request.getfixturevalue("postgres_database")
    return url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = open_database(database_url)
    ensure_schema(opened)
    yield opened
    opened.close()


@pytest.fixture
def process(database: Database, tmp_path: Path) -> Any:
    """Submits and drains; the stages that need models are never reached here."""
    settings = Settings(
        data_dir=tmp_path / "data",
        database=database.engine.url.render_as_string(hide_password=False),
        retry_seconds=0,
    )
    pool = ModelPool(device="cpu", lookup=lambda name: model_entry(name, settings))
    made = Process(settings, pool)
    yield made
    made.close()
    pool.close()


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder with pictures of the given names (one name, one content) and empty files."""

    def make(name: str, *files: str) -> Path:
        target = tmp_path / name
        target.mkdir()
        for file in files:
            if file.endswith(".png"):
                make_picture(target / file, colour=ord(file[0]))
            else:
                (target / file).touch()
        return target

    return make


@pytest.fixture
def office(database_url: str, tmp_path: Path) -> Iterator[Office]:
    opened = Office(database_url, tmp_path)
    yield opened
    opened.close()
