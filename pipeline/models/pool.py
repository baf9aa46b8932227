"""The models of one process: each loaded once, when first asked for."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.errors import TransientError
from pipeline.models.base import ModelInfo
from pipeline.models.batcher import Batcher
from pipeline.models.entry import ModelEntry
from pipeline.models.registry import create


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadCost:
    """What loading a model took; ``cpu_seconds`` is of the whole process meanwhile."""

    seconds: float
    cpu_seconds: float


class _Slot:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.batcher: Batcher[Any, Any] | None = None


class ModelPool:
    """Hands out batchers. All methods may be called by many threads.

    ``device``: where models are loaded (``cpu``, ``cuda:0``, …). ``lookup``: gives the entry of a
    name, usually :func:`pipeline.models.registry.find_entry`.
    """

    def __init__(self, device: str, lookup: Callable[[str], ModelEntry]) -> None:
        self._device = device
        self._lookup = lookup
        self._lock = threading.Lock()
        self._slots: dict[str, _Slot] = {}
        self._costs: dict[str, LoadCost] = {}
        self._closed = False

    def info(self, name: str) -> ModelInfo:
        """Who the model is, without loading it.

        Raises:
            ConfigurationError: there is no model of this name.
        """
        return self._lookup(name).info

    def batcher(self, name: str) -> Batcher[Any, Any]:
        """The batcher of a model, loaded now if it was not; blocks while another thread loads it.

        Raises:
            ConfigurationError: there is no model of this name.
            ModelUnavailableError: it cannot be loaded; the next call tries again.
            TransientError: the pool is closed.
        """
        entry = self._lookup(name)
        with self._lock:
            slot = self._slots.setdefault(name, _Slot())
        with slot.lock:
            if self._closed:
                raise TransientError("the model pool is closed; try again later")
            if slot.batcher is None:
                slot.batcher = self._load(name, entry)
            return slot.batcher

    def _load(self, name: str, entry: ModelEntry) -> Batcher[Any, Any]:
        model = create(entry)
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            model.load(self._device)
        except BaseException:
            model.unload()
            raise
        cost = LoadCost(seconds=time.perf_counter() - wall, cpu_seconds=time.process_time() - cpu)
        with self._lock:
            self._costs[name] = cost
        return Batcher(model)

    @property
    def load_costs(self) -> Mapping[str, LoadCost]:
        """What loading each model took, by name."""
        with self._lock:
            return dict(self._costs)

    def close(self) -> None:
        """Close the batchers and unload the models. May be called twice."""
        with self._lock:
            self._closed = True
            slots = list(self._slots.values())
        for slot in slots:
            with slot.lock:
                if slot.batcher is not None:
                    slot.batcher.close()
                    slot.batcher.model.unload()
                    slot.batcher = None
