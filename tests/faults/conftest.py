"""Media, what an undisturbed run makes of them, and worlds on every transport."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

# Before they are imported: their assertions are to say what they saw.
pytest.register_assert_rewrite("faults.checks", "faults.content", "faults.world")

from faults import brokers  # noqa: E402
from faults.content import Content  # noqa: E402
from faults.media import make_media  # noqa: E402
from faults.world import World, undisturbed  # noqa: E402


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight files, seven of them media, one broken: 5 assets."""
    return make_media(tmp_path_factory.mktemp("faults") / "media")


@pytest.fixture(scope="session")
def expected(media: Path, tmp_path_factory: pytest.TempPathFactory) -> Content:
    """What the media give when nothing happens."""
    return undisturbed(tmp_path_factory.mktemp("undisturbed"), media)


@pytest.fixture
def rabbitmq(rabbitmq_url: str) -> Iterator[str]:
    brokers.empty(rabbitmq_url)
    yield rabbitmq_url
    brokers.empty(rabbitmq_url)


@pytest.fixture
def redis(redis_url: str) -> Iterator[str]:
    brokers.empty(redis_url)
    yield redis_url
    brokers.empty(redis_url)


@pytest.fixture(params=["rabbitmq", "redis"])
def broker(request: pytest.FixtureRequest) -> str:
    """Every broker, empty."""
    url: str = request.getfixturevalue(request.param)
    return url


@pytest.fixture
def make_world(tmp_path: Path) -> Iterator[Callable[..., World]]:
    """Worlds that are gone at the end."""
    with ExitStack() as stack:

        def make(**options: Any) -> World:
            world = World.create(tmp_path / "world", **options)
            stack.callback(world.close)
            return world

        yield make


@pytest.fixture
def cluster(make_world: Callable[..., World], postgres_database: str, broker: str) -> World:
    """PostgreSQL and every broker, shared with other tests: not to be hurt."""
    return make_world(database=postgres_database, broker=broker)
