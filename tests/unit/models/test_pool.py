import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

import pytest

from pipeline.errors import (
    ConfigurationError,
    ModelUnavailableError,
    ResourceExhaustedError,
    TransientError,
)
from pipeline.models.base import ModelInfo
from pipeline.models.pool import ModelPool
from pipeline.models.registry import ModelEntry, find_entry
from pipeline.runner.run_models import RunModels

TIMEOUT_SECONDS = 20


class Echo:
    """Counts what is done to it; ``may_load`` holds loading back."""

    max_batch = 4
    loads = 0
    unloads = 0
    failures = 0
    failure: Exception = ModelUnavailableError("no weights")
    may_load = threading.Event()

    def __init__(self, *, info: ModelInfo) -> None:
        self.info = info
        self.memory_bytes = 0

    def load(self, device: str) -> None:
        assert Echo.may_load.wait(TIMEOUT_SECONDS)
        Echo.loads += 1
        self.device = device
        if Echo.failures:
            Echo.failures -= 1
            raise Echo.failure
        self.memory_bytes = 100

    def prepare(self, item: str) -> str:
        return item

    def infer(self, batch: Sequence[str]) -> list[str]:
        return [f"{self.device}: {item}" for item in batch]

    def unload(self) -> None:
        Echo.unloads += 1
        self.memory_bytes = 0


def loaded(pool: ModelPool) -> set[str]:
    return {name for name in pool.load_costs if pool.model(name).memory_bytes}


def ask(pool: ModelPool, name: str, item: str = "a") -> list[str]:
    with pool.use(name) as batcher:
        return batcher.submit([item]).outputs


@pytest.fixture
def entries(monkeypatch: pytest.MonkeyPatch) -> Mapping[str, ModelEntry]:
    module = ModuleType("echo_models")
    module.Echo = Echo  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "echo_models", module)
    for name in ("loads", "unloads", "failures"):
        monkeypatch.setattr(Echo, name, 0)
    monkeypatch.setattr(Echo, "failure", ModelUnavailableError("no weights"))
    Echo.may_load.set()
    return {
        name: ModelEntry(
            info=ModelInfo(
                name=name, revision="1", task="text-embedding", licence="none", source="here"
            ),
            factory="echo_models:Echo",
            weights_bytes=100,
        )
        for name in ("echo", "other", "third")
    }


@pytest.fixture
def pool(entries: Mapping[str, ModelEntry]) -> Iterator[ModelPool]:
    pool = ModelPool("cpu", lambda name: find_entry(name, entries))
    yield pool
    pool.close()


@pytest.fixture
def small(entries: Mapping[str, ModelEntry]) -> Iterator[ModelPool]:
    """Has room for two of three models."""
    pool = ModelPool("cpu", lambda name: find_entry(name, entries), memory_bytes=250)
    yield pool
    pool.close()


def test_a_model_is_loaded_when_first_used_and_only_once(pool: ModelPool) -> None:
    assert pool.info("echo").name == pool.model("echo").info.name == "echo"
    assert Echo.loads == 0
    with pool.use("echo") as first:
        assert first.submit(["a", "b"]).outputs == ["cpu: a", "cpu: b"]
    with pool.use("echo") as second, pool.use("other") as other:
        assert (second is first, other is first) == (True, False)
    assert Echo.loads == 2


def test_threads_that_ask_at_once_wait_for_one_load(pool: ModelPool) -> None:
    Echo.may_load.clear()
    with ThreadPoolExecutor(8) as callers:
        futures = [callers.submit(ask, pool, "echo", str(n)) for n in range(8)]
        Echo.may_load.set()
        answers = [future.result(TIMEOUT_SECONDS) for future in futures]
    assert answers == [[f"cpu: {n}"] for n in range(8)]
    assert Echo.loads == 1


def test_loading_and_work_are_measured_per_model(pool: ModelPool) -> None:
    ask(pool, "echo")
    assert set(pool.load_costs) == {"echo"}
    ask(pool, "other")
    ask(pool, "other")
    costs = pool.load_costs
    assert {name: cost.count for name, cost in costs.items()} == {"echo": 1, "other": 1}
    assert all(cost.seconds >= 0 and cost.cpu_seconds >= 0 for cost in costs.values())
    assert {name: stats.items for name, stats in pool.stats.items()} == {"echo": 1, "other": 2}


def test_a_failed_load_is_tried_again(pool: ModelPool) -> None:
    Echo.failures = 1
    with pytest.raises(ModelUnavailableError, match="no weights"):
        ask(pool, "echo")
    assert Echo.unloads == 1
    assert pool.load_costs == {}
    assert ask(pool, "echo") == ["cpu: a"]


def test_an_unknown_model_is_a_configuration_error(pool: ModelPool) -> None:
    with pytest.raises(ConfigurationError, match="nothing"):
        ask(pool, "nothing")


def test_closing_unloads_every_model_once(pool: ModelPool) -> None:
    with pool.use("echo") as batcher:
        pass
    ask(pool, "other")
    pool.close()
    pool.close()
    assert Echo.unloads == 2
    for late in (lambda: ask(pool, "echo"), lambda: batcher.submit(["a"])):
        with pytest.raises(TransientError, match="closed"):
            late()


def test_the_model_unused_for_longest_makes_room(small: ModelPool) -> None:
    for name in ("echo", "other", "echo", "third"):
        ask(small, name)
    assert loaded(small) == {"echo", "third"}
    assert ask(small, "other") == ["cpu: a"]
    assert loaded(small) == {"other", "third"}
    assert {name: stats.items for name, stats in small.stats.items()} == {
        "echo": 2,
        "other": 2,
        "third": 1,
    }
    assert small.load_costs["other"].count == 2


def test_a_model_larger_than_the_budget_is_loaded_alone(
    entries: Mapping[str, ModelEntry],
) -> None:
    pool = ModelPool("cpu", lambda name: find_entry(name, entries), memory_bytes=50)
    for name in ("echo", "other"):
        assert ask(pool, name) == ["cpu: a"]
        assert loaded(pool) == {name}
    pool.close()


def test_a_model_in_use_is_not_unloaded(small: ModelPool) -> None:
    with small.use("echo") as batcher:
        for name in ("other", "third"):
            ask(small, name)
        assert loaded(small) == {"echo", "third"}
        assert batcher.submit(["b"]).outputs == ["cpu: b"]


def test_whoever_waits_for_room_gets_it_though_others_keep_coming(small: ModelPool) -> None:
    """Two models are used without a pause by many threads; a third comes to its turn, and so do
    they again."""
    stop = threading.Event()

    def keep_asking(name: str) -> int:
        count = 0
        while not stop.is_set():
            assert ask(small, name) == ["cpu: a"]
            count += 1
        return count

    with ThreadPoolExecutor(8) as callers:
        busy = [callers.submit(keep_asking, name) for name in ("echo", "other") * 3]
        try:
            for _ in range(3):
                third = callers.submit(ask, small, "third")
                assert third.result(TIMEOUT_SECONDS) == ["cpu: a"]
        finally:
            stop.set()
        assert all(future.result(TIMEOUT_SECONDS) > 0 for future in busy)
    assert len(loaded(small)) == 2


def test_memory_that_ran_out_while_loading_is_taken_from_idle_models(pool: ModelPool) -> None:
    ask(pool, "echo")
    with pool.use("other"):
        Echo.failures, Echo.failure = 1, ResourceExhaustedError("the device is full")
        assert ask(pool, "third") == ["cpu: a"]
        assert loaded(pool) == {"other", "third"}


def test_idle_models_can_be_unloaded_at_once(pool: ModelPool) -> None:
    ask(pool, "echo")
    with pool.use("other"):
        pool.unload_idle()
        assert loaded(pool) == {"other"}
    assert ask(pool, "echo") == ["cpu: a"]


def test_a_model_that_was_to_leave_is_lent_again_once_room_was_found(small: ModelPool) -> None:
    with ThreadPoolExecutor(2) as callers:
        try:
            with small.use("echo"):
                with small.use("other"):
                    third = callers.submit(ask, small, "third")
                    # It waits, and the one unused for longest, echo, is to leave.
                    while not small._slots["echo"].is_leaving:
                        assert not third.done()
                assert third.result(TIMEOUT_SECONDS) == ["cpu: a"]
            assert callers.submit(ask, small, "echo").result(3) == ["cpu: a"]
        finally:
            small.close()


class LibraryPanicError(BaseException):
    """As pyo3's, which is no Exception."""


def test_a_model_whose_thread_died_is_loaded_again(
    pool: ModelPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def panic(self: Echo, batch: Sequence[str]) -> list[str]:
        raise LibraryPanicError

    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    with monkeypatch.context() as patched, pytest.raises(TransientError):
        patched.setattr(Echo, "infer", panic)
        ask(pool, "echo")

    assert ask(pool, "echo") == ["cpu: a"]
    assert Echo.loads == 2


def test_a_run_that_has_nothing_for_a_model_does_not_load_it(pool: ModelPool) -> None:
    models = RunModels(pool, {"text": ("echo", "1")}, lambda: None)
    assert list(models.map("text", iter(()))) == models.infer("text", []) == []
    assert (Echo.loads, models.device_seconds) == (0, 0.0)
    assert list(models.map("text", iter("abcdefghij"))) == [f"cpu: {c}" for c in "abcdefghij"]
    assert models.uses["text"].items == 10
