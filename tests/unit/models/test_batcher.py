"""The batcher with small models of its own kind: they compute, and fail where told to."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from pipeline.errors import (
    ContractError,
    InvalidMediaError,
    ResourceExhaustedError,
    TransientError,
)
from pipeline.models.base import ModelInfo
from pipeline.models.batcher import Batcher, BatchResult

TIMEOUT_SECONDS = 20
INFO = ModelInfo(name="squares", revision="1", task="text-embedding", licence="none", source="here")


class Squares:
    """Squares numbers. ``gate`` holds a batch back; ``entered`` says that one has begun."""

    info = INFO
    memory_bytes = 0

    def __init__(self, max_batch: int = 8) -> None:
        self.max_batch = max_batch
        self.batches: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)
        #: Batches larger than this do not fit into memory.
        self.memory_items = 1_000
        self.memory_error: Exception = ResourceExhaustedError("too large")

    def load(self, device: str) -> None: ...

    def unload(self) -> None: ...

    def prepare(self, item: int) -> int:
        return item

    def infer(self, batch: Sequence[int]) -> list[int]:
        self.batches.append(list(batch))
        self.entered.release()
        assert self.gate.wait(TIMEOUT_SECONDS)
        if len(batch) > self.memory_items:
            raise self.memory_error
        for item in batch:
            if item < 0:
                raise InvalidMediaError(f"{item} is negative")
        return [item * item for item in batch]


@pytest.fixture
def model() -> Squares:
    return Squares()


@pytest.fixture
def batcher(model: Squares) -> Iterator[Batcher[int, int]]:
    batcher = Batcher(model)
    yield batcher
    model.gate.set()
    batcher.close()


@pytest.fixture
def callers() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(32) as executor:
        yield executor


def hold(
    model: Squares, batcher: Batcher[int, int], callers: ThreadPoolExecutor
) -> Future[BatchResult[int]]:
    """Keep the model busy with one item until its gate opens, so that others queue up."""
    model.gate.clear()
    first: Future[BatchResult[int]] = callers.submit(batcher.submit, [100])
    assert model.entered.acquire(timeout=TIMEOUT_SECONDS)
    return first


def queue(
    batcher: Batcher[int, int], callers: ThreadPoolExecutor, calls: Sequence[Sequence[int]]
) -> list[Future[BatchResult[int]]]:
    """Submit each of ``calls`` from its own thread, in this order."""
    futures: list[Future[BatchResult[int]]] = []
    for items in calls:
        before = batcher.waiting_items
        futures.append(callers.submit(batcher.submit, items))
        while batcher.waiting_items < before + len(items):
            threading.Event().wait(0.001)
    return futures


def outputs(future: Future[BatchResult[int]]) -> list[int]:
    return future.result(TIMEOUT_SECONDS).outputs


def test_outputs_come_back_in_order_whatever_the_batches(batcher: Batcher[int, int]) -> None:
    assert batcher.submit(list(range(50))).outputs == [n * n for n in range(50)]


def test_no_batch_is_larger_than_the_model_allows(
    batcher: Batcher[int, int], model: Squares
) -> None:
    batcher.submit(list(range(50)))
    assert max(map(len, model.batches)) == model.max_batch
    assert [item for batch in model.batches for item in batch] == list(range(50))


def test_nothing_submitted_needs_no_model(batcher: Batcher[int, int], model: Squares) -> None:
    assert batcher.submit([]).outputs == []
    assert model.batches == []


def test_concurrent_callers_share_a_batch(
    batcher: Batcher[int, int], model: Squares, callers: ThreadPoolExecutor
) -> None:
    first = hold(model, batcher, callers)
    waiting = queue(batcher, callers, [[1, 2], [3], [4, 5]])
    model.gate.set()

    assert [outputs(future) for future in (first, *waiting)] == [[10_000], [1, 4], [9], [16, 25]]
    assert [sorted(batch) for batch in model.batches] == [[100], [1, 2, 3, 4, 5]]


def test_a_small_call_does_not_wait_behind_a_large_one(
    batcher: Batcher[int, int], model: Squares, callers: ThreadPoolExecutor
) -> None:
    hold(model, batcher, callers)
    large, small = queue(batcher, callers, [list(range(64)), [0, 7]])
    model.gate.set()

    assert outputs(small) == [0, 49]
    assert outputs(large) == [n * n for n in range(64)]
    assert 7 in model.batches[1]


def test_more_callers_than_places_are_served_in_turn(callers: ThreadPoolExecutor) -> None:
    model = Squares(max_batch=2)
    batcher = Batcher(model)
    hold(model, batcher, callers)
    futures = queue(batcher, callers, [[1, 1], [2, 2], [3, 3]])
    model.gate.set()

    assert [outputs(future) for future in futures] == [[1, 1], [4, 4], [9, 9]]
    assert [sorted(batch) for batch in model.batches] == [[100], [1, 2], [1, 3], [2, 3]]
    batcher.close()


@pytest.mark.parametrize("error", [ResourceExhaustedError("device is full"), MemoryError()])
def test_a_batch_too_large_for_memory_is_halved_and_the_size_remembered(
    batcher: Batcher[int, int], model: Squares, error: Exception
) -> None:
    model.memory_items, model.memory_error = 3, error

    assert batcher.submit(list(range(8))).outputs == [n * n for n in range(8)]
    assert [len(batch) for batch in model.batches] == [8, 4, 2, 2, 2, 2]
    model.batches.clear()
    assert batcher.submit(list(range(4))).outputs == [0, 1, 4, 9]
    assert [len(batch) for batch in model.batches] == [2, 2]


def test_the_batch_grows_again_when_memory_is_back(
    batcher: Batcher[int, int], model: Squares
) -> None:
    model.memory_items = 4
    batcher.submit(list(range(8)))
    model.memory_items = 1_000
    model.batches.clear()

    batcher.submit(list(range(400)))

    sizes = [len(batch) for batch in model.batches]
    assert (sizes[0], sizes[-1]) == (4, 8)
    assert sizes == sorted(sizes)


@pytest.mark.parametrize("error", [ResourceExhaustedError("device is full"), MemoryError()])
def test_an_item_too_large_by_itself_fails(
    batcher: Batcher[int, int], model: Squares, error: Exception
) -> None:
    model.memory_items, model.memory_error = 0, error
    with pytest.raises(ResourceExhaustedError):
        batcher.submit([1])
    model.memory_items = 1_000
    assert batcher.submit([2]).outputs == [4]


def test_a_bad_item_fails_for_its_caller_only(
    batcher: Batcher[int, int], model: Squares, callers: ThreadPoolExecutor
) -> None:
    hold(model, batcher, callers)
    good, bad, other = queue(batcher, callers, [[1, 2], [3, -5, 6], [4]])
    model.gate.set()

    assert outputs(good) == [1, 4]
    assert outputs(other) == [16]
    with pytest.raises(InvalidMediaError, match="-5 is negative"):
        bad.result(TIMEOUT_SECONDS)


def test_what_is_left_of_a_failed_call_is_not_run(
    batcher: Batcher[int, int], model: Squares
) -> None:
    with pytest.raises(InvalidMediaError):
        batcher.submit([-1, *range(1, 100)])
    assert batcher.submit([3]).outputs == [9]
    assert max(item for batch in model.batches for item in batch) < model.max_batch


def test_items_are_prepared_by_who_sends_them_while_the_model_works(
    model: Squares, callers: ThreadPoolExecutor
) -> None:
    class Doubling(Squares):
        def prepare(self, item: int) -> int:
            prepared.append((item, threading.get_ident()))
            return 2 * item

    prepared: list[tuple[int, int]] = []
    slow = Doubling()
    batcher = Batcher(slow)
    first = hold(slow, batcher, callers)
    pending = [batcher.send([1, 2]), batcher.send([]), batcher.send([3])]
    assert prepared[1:] == [(n, threading.get_ident()) for n in (1, 2, 3)]
    assert batcher.waiting_items == 3
    slow.gate.set()

    assert [one.wait().outputs for one in pending] == [[4, 16], [], [36]]
    assert outputs(first) == [40_000]
    batcher.close()


def test_an_item_that_cannot_be_prepared_costs_nobody_else_anything(
    callers: ThreadPoolExecutor,
) -> None:
    class Picky(Squares):
        def prepare(self, item: int) -> int:
            if item < 0:
                raise ContractError(f"{item} is negative")
            return item

    model = Picky()
    batcher = Batcher(model)
    first = hold(model, batcher, callers)
    with pytest.raises(ContractError, match="-1 is negative"):
        batcher.send([5, -1])
    model.gate.set()

    assert outputs(first) == [10_000]
    assert model.batches == [[100]]
    batcher.close()


def test_a_model_that_loses_outputs_breaks_its_contract() -> None:
    class Forgetful(Squares):
        def infer(self, batch: Sequence[int]) -> list[int]:
            return []

    batcher = Batcher(Forgetful())
    with pytest.raises(ContractError, match="squares gave 0 outputs for 1 items"):
        batcher.submit([1])
    batcher.close()


def test_stats_count_and_shares_add_up(
    batcher: Batcher[int, int], model: Squares, callers: ThreadPoolExecutor
) -> None:
    first = hold(model, batcher, callers)
    futures = [first, *queue(batcher, callers, [[1, 2, 3], [4]])]
    model.gate.set()
    shares = [future.result(TIMEOUT_SECONDS).device_seconds for future in futures]

    stats = batcher.stats
    assert (stats.items, stats.batches) == (5, 2)
    assert shares[1] == pytest.approx(3 * shares[2])
    assert sum(shares) == pytest.approx(stats.device_seconds)
    assert stats.cpu_seconds >= 0


def test_closing_fails_those_who_wait_and_ends_the_thread(
    batcher: Batcher[int, int], model: Squares, callers: ThreadPoolExecutor
) -> None:
    running = hold(model, batcher, callers)
    (waiting,) = queue(batcher, callers, [[1]])
    closing = callers.submit(batcher.close)
    while not batcher.closed:
        threading.Event().wait(0.001)
    model.gate.set()

    closing.result(TIMEOUT_SECONDS)
    assert outputs(running) == [10_000]
    with pytest.raises(TransientError, match="closed"):
        waiting.result(TIMEOUT_SECONDS)
    with pytest.raises(TransientError, match="closed"):
        batcher.submit([1])
    batcher.close()
    assert not any(thread.name == "batcher-squares" for thread in threading.enumerate())


def test_many_callers_at_once_get_their_own_answers(
    batcher: Batcher[int, int], callers: ThreadPoolExecutor
) -> None:
    calls = [list(range(start, start + start % 7 + 1)) for start in range(200)]
    futures = [callers.submit(batcher.submit, items) for items in calls]
    for items, future in zip(calls, futures, strict=True):
        assert future.result(TIMEOUT_SECONDS).outputs == [n * n for n in items]
    assert batcher.stats.items == sum(map(len, calls))
