"""Databases that go away, lose connections, take no writes: nothing is done twice or counted."""

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
import servers
from faults.content import Content
from faults.injection import Fault
from faults.processes import until
from faults.world import World
from proxies import tcp_proxy

#: Every thread of two workers is in the middle of a stage run while it happens.
WAITING = Fault(action="wait", point="middle", stage="split", times=4)


def ask(url: str, *statements: str) -> None:
    """As the superuser, outside transactions."""
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[servers.Server]:
    with servers.postgres_server() as server:
        yield server


@pytest.fixture
def own_database(own_postgres: servers.Server) -> Iterator[str]:
    name = f"test_{uuid4().hex}"
    ask(own_postgres.url, f"CREATE DATABASE {name} TEMPLATE template0")
    yield f"{own_postgres.url.rpartition('/')[0]}/{name}"
    ask(own_postgres.url, f"DROP DATABASE {name} WITH (FORCE)")


def name_of(url: str) -> str:
    return url.rpartition("/")[2]


def end_connections(url: str) -> str:
    return (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        f"WHERE datname = '{name_of(url)}' AND pid <> pg_backend_pid()"
    )


@pytest.mark.parametrize("broker", ["rabbitmq"], indirect=True)
@pytest.mark.parametrize("end", [servers.ServerProcess.stop, servers.ServerProcess.kill])
def test_a_restart(
    make_world: Callable[..., World],
    own_postgres: servers.Server,
    own_database: str,
    broker: str,
    media: Path,
    expected: Content,
    end: Callable[[servers.ServerProcess], None],
) -> None:
    # Longer than it is away: what holds a lease may keep it.
    world = make_world(database=own_database, broker=broker, lease_seconds=20)
    workers = world.workers(2, faults=[WAITING])
    world.submit(media)
    until(lambda: len(world.fired()) == 4)
    end(own_postgres.process)
    world.go()
    until(lambda: any(worker.says("database_away") for worker in workers))
    own_postgres.process.start()
    world.check(expected, exact=True)


@pytest.mark.parametrize(
    ("broker", "when"), [("rabbitmq", "before"), ("redis", "after")], indirect=["broker"]
)
def test_connections_that_are_cut_in_the_middle_of_a_commit(
    make_world: Callable[..., World],
    postgres_database: str,
    broker: str,
    media: Path,
    expected: Content,
    when: str,
) -> None:
    with tcp_proxy(postgres_database) as (proxy, url):
        world = make_world(
            database=postgres_database, database_proxy=url, broker=broker, max_attempts=20
        )
        proxy.cut_commits(when, every=5, times=20)  # type: ignore[arg-type]
        world.workers(2)
        world.submit(media)
        world.check(expected)
        assert proxy.log.count(f"cut {when} commit") >= 10


@pytest.mark.parametrize("broker", ["rabbitmq"], indirect=True)
def test_a_database_that_takes_no_writes(
    make_world: Callable[..., World],
    own_database: str,
    broker: str,
    media: Path,
    expected: Content,
) -> None:
    world = make_world(database=own_database, broker=broker, lease_seconds=20)
    workers = world.workers(2, faults=[WAITING])
    world.submit(media)
    until(lambda: len(world.fired()) == 4)
    alter = f"ALTER DATABASE {name_of(own_database)}"
    ask(
        own_database,
        f"{alter} SET default_transaction_read_only = on",
        # As in a failover to a standby.
        end_connections(own_database),
    )
    world.go()
    until(lambda: all(worker.says("read-only") for worker in workers))
    # Whoever has connected meanwhile keeps a connection that cannot write.
    with psycopg.connect(own_database.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("SET default_transaction_read_only = off")
        connection.execute(f"{alter} RESET default_transaction_read_only")
    world.check(expected, exact=True)


@pytest.mark.parametrize("broker", ["redis"], indirect=True)
def test_a_database_without_connections_to_spare(
    make_world: Callable[..., World],
    own_database: str,
    broker: str,
    media: Path,
    expected: Content,
) -> None:
    # Limits do not hold for the superuser.
    crew = f"crew_{name_of(own_database)}"
    world = make_world(
        database=own_database,
        database_proxy=own_database.replace("mediaweave@", f"{crew}@"),
        broker=broker,
        lease_seconds=20,
    )
    ask(
        own_database,
        f"CREATE ROLE {crew} LOGIN",
        f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {crew}",
        f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {crew}",
    )
    try:
        workers = world.workers(2, faults=[WAITING])
        world.submit(media)
        until(lambda: len(world.fired()) == 4)
        ask(own_database, f"ALTER ROLE {crew} CONNECTION LIMIT 0", end_connections(own_database))
        world.go()
        until(lambda: all(worker.says("too many connections") for worker in workers))
        # Still fewer than all of them would like to have: a lease may run out, and that counts.
        ask(own_database, f"ALTER ROLE {crew} CONNECTION LIMIT 10")
        world.check(expected)
    finally:
        world.close()
        ask(own_database, f"DROP OWNED BY {crew}", f"DROP ROLE {crew}")
