"""What a stage run has of its models: order, batches ahead, counting, solitude."""

from collections.abc import Iterator, Sequence
from typing import ClassVar

import pytest

from pipeline.errors import ConfigurationError, ContractError
from pipeline.models.base import ModelInfo
from pipeline.models.entry import ModelEntry
from pipeline.models.pool import ModelPool
from pipeline.runner.run_models import RunModels

INFO = ModelInfo(
    name="tens", revision="1", task="text-embedding", licence="none", source="mediaweave"
)


class Tens:
    """Multiplies by ten, and remembers its batches."""

    max_batch = 4
    memory_bytes = 0
    batches: ClassVar[list[list[int]]] = []

    def __init__(self, *, info: ModelInfo) -> None:
        self.info = info

    def load(self, device: str) -> None: ...

    def prepare(self, item: int) -> int:
        if item < 0:
            raise ContractError(f"{item} is negative")
        return item

    def infer(self, batch: Sequence[int]) -> list[int]:
        Tens.batches.append(list(batch))
        return [10 * item for item in batch]

    def unload(self) -> None: ...


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelPool]:
    monkeypatch.setattr("pipeline.models.pool.create", lambda entry: Tens(info=entry.info))
    monkeypatch.setattr(Tens, "batches", [])
    pool = ModelPool("cpu", lambda _: ModelEntry(info=INFO, factory="not:used"))
    yield pool
    pool.close()


def models(pool: ModelPool, *, revision: str = "1", one_by_one: bool = False) -> RunModels:
    return RunModels(pool, {"role": ("tens", revision)}, lambda: None, one_by_one=one_by_one)


def test_outputs_come_in_order_and_are_counted(pool: ModelPool) -> None:
    mine = models(pool)
    assert list(mine.map("role", iter(range(10)))) == [10 * n for n in range(10)]
    assert mine.infer("role", [7]) == [70]
    assert mine.infer("role", []) == []
    assert mine.uses["role"].items == 11
    assert mine.device_seconds == mine.uses["role"].device_seconds > 0
    assert [len(batch) <= Tens.max_batch for batch in Tens.batches] == [True] * len(Tens.batches)


def test_no_more_is_read_than_a_few_batches_ahead(pool: ModelPool) -> None:
    read: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            read.append(number)
            yield number

    outputs = models(pool).map("role", items())
    assert next(outputs) == 0
    assert len(read) <= 3 * Tens.max_batch
    assert list(outputs) == [10 * n for n in range(1, 100)]


def test_a_run_that_is_alone_gives_one_item_at_a_time(pool: ModelPool) -> None:
    assert models(pool, one_by_one=True).infer("role", [1, 2, 3]) == [10, 20, 30]
    assert Tens.batches == [[1], [2], [3]]


def test_a_model_is_given_back_whatever_happens(pool: ModelPool) -> None:
    mine = models(pool)
    with pytest.raises(ContractError, match="-1 is negative"):
        mine.infer("role", [1, -1])
    begun = mine.map("role", iter(range(100)))
    assert next(begun) == 0
    begun.close()  # type: ignore[attr-defined]
    pool.unload_idle()
    # It could be unloaded, so nobody holds it; and it is loaded again.
    assert pool.load_costs["tens"].count == 1
    assert mine.infer("role", [5]) == [50]
    assert pool.load_costs["tens"].count == 2


def test_another_revision_than_the_plan_names_is_refused(pool: ModelPool) -> None:
    with pytest.raises(ConfigurationError, match="in revision 2, this worker has 1"):
        models(pool, revision="2").infer("role", [1])
    assert Tens.batches == []
