import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

import pytest

from pipeline.errors import ConfigurationError, ModelUnavailableError, TransientError
from pipeline.models.base import ModelInfo
from pipeline.models.pool import ModelPool
from pipeline.models.registry import ModelEntry, find_entry

TIMEOUT_SECONDS = 20


class Echo:
    """Counts what is done to it; ``may_load`` holds loading back."""

    max_batch = 4
    loads = 0
    unloads = 0
    failures = 0
    may_load = threading.Event()

    def __init__(self, *, info: ModelInfo) -> None:
        self.info = info

    def load(self, device: str) -> None:
        assert Echo.may_load.wait(TIMEOUT_SECONDS)
        Echo.loads += 1
        self.device = device
        if Echo.failures:
            Echo.failures -= 1
            raise ModelUnavailableError("no weights")

    def infer(self, batch: Sequence[str]) -> list[str]:
        return [f"{self.device}: {item}" for item in batch]

    def unload(self) -> None:
        Echo.unloads += 1


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> ModelPool:
    module = ModuleType("echo_models")
    module.Echo = Echo  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "echo_models", module)
    for name in ("loads", "unloads", "failures"):
        monkeypatch.setattr(Echo, name, 0)
    Echo.may_load.set()
    entries = {
        name: ModelEntry(
            info=ModelInfo(
                name=name, revision="1", task="text-embedding", licence="none", source="here"
            ),
            factory="echo_models:Echo",
        )
        for name in ("echo", "other")
    }
    return ModelPool("cpu", lambda name: find_entry(name, entries))


def test_a_model_is_loaded_when_first_asked_for_and_only_once(pool: ModelPool) -> None:
    assert pool.info("echo").name == "echo"
    assert Echo.loads == 0
    assert pool.batcher("echo").submit(["a", "b"]).outputs == ["cpu: a", "cpu: b"]
    assert pool.batcher("echo") is pool.batcher("echo")
    assert pool.batcher("other") is not pool.batcher("echo")
    assert Echo.loads == 2
    pool.close()


def test_threads_that_ask_at_once_wait_for_one_load(pool: ModelPool) -> None:
    Echo.may_load.clear()
    with ThreadPoolExecutor(8) as callers:
        futures = [callers.submit(pool.batcher, "echo") for _ in range(8)]
        Echo.may_load.set()
        batchers = {id(future.result(TIMEOUT_SECONDS)) for future in futures}
    assert len(batchers) == 1
    assert Echo.loads == 1
    pool.close()


def test_loading_is_measured_per_model(pool: ModelPool) -> None:
    pool.batcher("echo")
    assert set(pool.load_costs) == {"echo"}
    pool.batcher("other")
    costs = pool.load_costs
    assert set(costs) == {"echo", "other"}
    assert all(cost.seconds >= 0 and cost.cpu_seconds >= 0 for cost in costs.values())
    pool.close()


def test_a_failed_load_is_tried_again(pool: ModelPool) -> None:
    Echo.failures = 1
    with pytest.raises(ModelUnavailableError, match="no weights"):
        pool.batcher("echo")
    assert Echo.unloads == 1
    assert pool.load_costs == {}
    assert pool.batcher("echo").submit(["a"]).outputs == ["cpu: a"]
    pool.close()


def test_an_unknown_model_is_a_configuration_error(pool: ModelPool) -> None:
    with pytest.raises(ConfigurationError, match="nothing"):
        pool.batcher("nothing")


def test_closing_unloads_every_model_once(pool: ModelPool) -> None:
    batcher = pool.batcher("echo")
    pool.batcher("other")
    pool.close()
    pool.close()
    assert Echo.unloads == 2
    for ask in (lambda: pool.batcher("echo"), lambda: batcher.submit(["a"])):
        with pytest.raises(TransientError, match="closed"):
            ask()
