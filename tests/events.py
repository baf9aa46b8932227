"""Events in an outbox, and a relay that sends them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import insert, text
from tenacity import retry, retry_if_result, stop_after_delay, wait_fixed

from pipeline.config import EventOptions, Settings
from pipeline.db.migrate import ensure_schema
from pipeline.runner.runtime import Runtime
from schemas.operations import outbox as outbox_table
from workers.relay import Relay


@retry(
    retry=retry_if_result(lambda done: not done),
    stop=stop_after_delay(60),
    wait=wait_fixed(0.02),
)
def until(condition: Callable[[], bool]) -> bool:
    """Ask until it is so; RetryError after a minute."""
    return condition()


@contextmanager
def made_runtime(folder: Path, broker: str = "memory://", **events: Any) -> Iterator[Runtime]:
    made = Runtime(Settings(data_dir=folder / "data", broker=broker, events=EventOptions(**events)))
    ensure_schema(made.database)
    yield made
    made.close()


@contextmanager
def running(runtime: Runtime) -> Iterator[Relay]:
    relay = Relay(runtime)
    relay.start()
    try:
        yield relay
        assert relay.alive
    finally:
        relay.stop()
    assert not relay.alive


def add_events(
    runtime: Runtime, count: int = 1, *, webhook: str | None = None, topic: str = "asset.done"
) -> list[int]:
    with runtime.database.transaction() as connection:
        query = insert(outbox_table).returning(outbox_table.c.id, sort_by_parameter_order=True)
        rows = [
            {"topic": topic, "body": {"number": number, "uri": "file:///é"}, "webhook": webhook}
            for number in range(count)
        ]
        return list(connection.execute(query, rows).scalars())


def unsent(runtime: Runtime) -> int:
    with runtime.database.reading() as connection:
        query = text("SELECT COUNT(*) FROM outbox WHERE sent_at IS NULL")
        return int(connection.execute(query).scalar_one())
