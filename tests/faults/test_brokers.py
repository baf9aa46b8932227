"""Brokers that stop, die, and forget everything: the database remembers."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import servers
from faults import brokers
from faults.content import Content
from faults.injection import Fault
from faults.processes import until
from faults.world import World

#: Every thread of two workers is in the middle of a stage run while it happens.
WAITING = Fault(action="wait", point="middle", stage="split", times=4)


@pytest.fixture(scope="module")
def own_rabbitmq() -> Iterator[servers.Server]:
    with servers.rabbitmq_server() as server:
        yield server


@pytest.fixture
def own_redis() -> Iterator[servers.Server]:
    with servers.redis_server() as server:
        yield server


def stop(server: servers.Server, still_away: Callable[[], None]) -> None:
    server.process.stop()
    still_away()
    server.process.start()


def kill(server: servers.Server, still_away: Callable[[], None]) -> None:
    server.process.kill()
    still_away()
    server.process.start()


def wipe(server: servers.Server, still_away: Callable[[], None]) -> None:
    server.process.stop()
    shutil.rmtree(server.process.folder / "mnesia")
    still_away()
    server.process.start()


def freeze(server: servers.Server, still_away: Callable[[], None]) -> None:
    server.process.freeze()
    still_away()
    server.process.thaw()


def flush(server: servers.Server, still_away: Callable[[], None]) -> None:
    brokers.empty(server.url)


@pytest.mark.parametrize(
    ("name", "hurt"),
    [
        ("own_rabbitmq", stop),
        ("own_rabbitmq", kill),
        ("own_rabbitmq", freeze),
        ("own_rabbitmq", wipe),
        ("own_redis", stop),
        ("own_redis", kill),
        ("own_redis", freeze),
        ("own_redis", flush),
    ],
)
def test_work_goes_on(
    request: pytest.FixtureRequest,
    make_world: Callable[..., World],
    postgres_database: str,
    media: Path,
    expected: Content,
    name: str,
    hurt: Callable[[servers.Server, Callable[[], None]], None],
) -> None:
    server: servers.Server = request.getfixturevalue(name)
    brokers.empty(server.url)
    world = make_world(database=postgres_database, broker=server.url)
    workers = world.workers(2, faults=[WAITING])
    world.start("intake")
    world.submit(media)
    until(lambda: len(world.fired()) == 4)

    def still_away() -> None:
        # What waits is finished without a broker, and a job comes in.
        world.go()
        world.submit(media, job_key="while the broker was away")
        until(lambda: any(worker.says("broker_away") for worker in workers))

    hurt(server, still_away)
    world.go()
    world.submit(media, job_key="afterwards")
    world.check(expected, exact=True)
