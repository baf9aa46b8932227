"""The models of one process on its one device: loaded when first used, unloaded for others."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import structlog

from pipeline.errors import ResourceExhaustedError, TransientError
from pipeline.models.base import Model, ModelInfo
from pipeline.models.batcher import Batcher, BatcherStats
from pipeline.models.entry import ModelEntry
from pipeline.models.registry import create

log = structlog.get_logger()

#: A model in use makes room for another one only when it has been there for so many times as long
#: as loading it took: else two that do not fit together would do nothing but load.
_WORTH_LOADING = 5
#: How often one that waits for room looks whether that time is over.
_LOOK_SECONDS = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadCost:
    """What loading a model took, the last time; ``cpu_seconds`` is of the whole process meanwhile.
    ``count``: how often it was loaded."""

    seconds: float
    cpu_seconds: float
    count: int


class _Slot:
    """One model. All but ``model`` is guarded by the pool's condition."""

    def __init__(self, entry: ModelEntry) -> None:
        self.model: Model[Any, Any] = create(entry)
        #: An estimate until it was loaded once.
        self.memory_bytes = entry.weights_bytes or 0
        self.batcher: Batcher[Any, Any] | None = None
        self.stats = BatcherStats()
        self.cost: LoadCost | None = None
        self.users = 0
        self.is_loading = False
        #: Others wait for its room: who comes now waits too.
        self.is_leaving = False
        self.last_used = 0
        self.loaded_at = 0.0

    @property
    def is_there(self) -> bool:
        return self.batcher is not None or self.is_loading


class ModelPool:
    """Lends out batchers. All methods may be called by many threads.

    ``device``: where models are loaded (``cpu``, ``cuda:0``, …). ``lookup``: gives the entry of a
    name, usually :func:`pipeline.models.registry.find_entry`. ``memory_bytes``: what the weights
    of all loaded models may take together; those unused for longest are unloaded for others, and
    one that alone takes more is loaded alone. ``None``: nothing is unloaded.
    ``batch_wait_seconds``: how long an incomplete batch waits for more items.
    """

    def __init__(
        self,
        device: str,
        lookup: Callable[[str], ModelEntry],
        *,
        memory_bytes: int | None = None,
        batch_wait_seconds: float = 0.005,
    ) -> None:
        self._device = device
        self._lookup = lookup
        self._budget = memory_bytes
        self._batch_wait_seconds = batch_wait_seconds
        self._changed = threading.Condition()
        self._slots: dict[str, _Slot] = {}
        #: Those that wait for room, the first to come first.
        self._waiting: list[_Slot] = []
        self._uses = 0
        self._closed = False

    def info(self, name: str) -> ModelInfo:
        """Who the model is, without loading it.

        Raises:
            ConfigurationError: there is no model of this name.
        """
        return self._lookup(name).info

    def model(self, name: str) -> Model[Any, Any]:
        """The model, for what it declares (names of classes, vector space); it may not be loaded.

        Raises:
            ConfigurationError: there is no model of this name.
        """
        return self._slot(name).model

    @contextmanager
    def use(self, name: str) -> Iterator[Batcher[Any, Any]]:
        """The batcher of a model, loaded now if it was not; it stays loaded inside the block.

        Blocks while another thread loads it, or until there is room. Whoever is inside must not
        use another model: each could wait for the room of the other.

        Raises:
            ConfigurationError: there is no model of this name.
            ModelUnavailableError: it cannot be loaded; the next call tries again.
            ResourceExhaustedError: the device has no room for it.
            TransientError: the pool is closed.
        """
        slot = self._slot(name)
        batcher = self._enter(slot)
        try:
            yield batcher
        finally:
            with self._changed:
                slot.users -= 1
                self._changed.notify_all()

    def submit(self, name: str, items: Sequence[Any]) -> list[Any]:
        """One output per item; raises what :meth:`use` and
        :meth:`pipeline.models.batcher.Batcher.submit` raise."""
        with self.use(name) as batcher:
            return batcher.submit(items).outputs

    @property
    def load_costs(self) -> Mapping[str, LoadCost]:
        """What loading each model took, by name."""
        with self._changed:
            return {n: slot.cost for n, slot in self._slots.items() if slot.cost is not None}

    @property
    def stats(self) -> Mapping[str, BatcherStats]:
        """What each model has done, by name."""
        with self._changed:
            return {
                name: slot.stats if slot.batcher is None else slot.batcher.stats
                for name, slot in self._slots.items()
            }

    def unload_idle(self) -> None:
        """Give back the memory of every model that nobody uses just now."""
        with self._changed:
            for slot in self._idle():
                self._unload(slot)

    def close(self) -> None:
        """Close the batchers and unload the models. May be called twice."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not any(s.is_loading for s in self._slots.values()))
            for slot in self._slots.values():
                self._unload(slot)

    def _slot(self, name: str) -> _Slot:
        entry = self._lookup(name)
        with self._changed:
            if name not in self._slots:
                self._slots[name] = _Slot(entry)
            return self._slots[name]

    def _enter(self, slot: _Slot) -> Batcher[Any, Any]:
        with self._changed:
            try:
                while not self._closed:
                    is_dead = slot.batcher is not None and slot.batcher.closed
                    if is_dead and not slot.users:
                        self._unload(slot)
                    if slot.batcher is not None and not is_dead and not slot.is_leaving:
                        return self._note_user(slot, slot.batcher)
                    if not slot.is_there and self._has_room_for(slot):
                        slot.is_loading = True
                        break
                    self._changed.wait(_LOOK_SECONDS if slot in self._waiting else None)
                else:
                    raise TransientError("the model pool is closed; try again later")
            finally:
                if slot in self._waiting:
                    self._stop_waiting(slot)
        try:
            batcher = self._load(slot)
        finally:
            with self._changed:
                slot.is_loading = False
                self._changed.notify_all()
        return batcher

    def _note_user(self, slot: _Slot, batcher: Batcher[Any, Any]) -> Batcher[Any, Any]:
        self._uses += 1
        slot.last_used = self._uses
        slot.users += 1
        return batcher

    def _has_room_for(self, slot: _Slot) -> bool:
        """Whether the model may be loaded now; makes room by what is idle, else waits its turn."""
        if self._budget is None:
            return True
        if slot not in self._waiting:
            self._waiting.append(slot)
        if self._waiting[0] is not slot:
            return False
        needed = slot.memory_bytes
        idle = self._idle()
        while idle and self._taken() + needed > self._budget:
            self._unload(idle.pop(0))
        if self._taken() + needed <= self._budget or not self._there():
            return True
        self._ask_to_leave()
        return False

    def _stop_waiting(self, slot: _Slot) -> None:
        self._waiting.remove(slot)
        # Who was to leave for it need not any more; the next one that waits asks anew.
        for other in self._slots.values():
            other.is_leaving = False
        self._changed.notify_all()

    def _ask_to_leave(self) -> None:
        """Of the models in use, the one unused for longest takes nobody new, if it has been here
        long enough."""
        for slot in sorted(self._there(), key=lambda slot: slot.last_used):
            if slot.is_leaving:
                return
            if slot.batcher is None or slot.cost is None:
                continue
            if time.monotonic() - slot.loaded_at >= _WORTH_LOADING * slot.cost.seconds:
                slot.is_leaving = True
                return

    def _there(self) -> list[_Slot]:
        return [slot for slot in self._slots.values() if slot.is_there]

    def _idle(self) -> list[_Slot]:
        """Loaded and unused, the one unused for longest first."""
        idle = [s for s in self._slots.values() if s.batcher is not None and not s.users]
        return sorted(idle, key=lambda slot: slot.last_used)

    def _taken(self) -> int:
        return sum(slot.memory_bytes for slot in self._there())

    def _load(self, slot: _Slot) -> Batcher[Any, Any]:
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            self._load_weights(slot.model)
        except BaseException:
            slot.model.unload()
            raise
        cost = LoadCost(
            seconds=time.perf_counter() - wall,
            cpu_seconds=time.process_time() - cpu,
            count=1 if slot.cost is None else slot.cost.count + 1,
        )
        batcher = Batcher(slot.model, max_wait_seconds=self._batch_wait_seconds, stats=slot.stats)
        with self._changed:
            slot.cost = cost
            slot.loaded_at = time.monotonic()
            slot.memory_bytes = slot.model.memory_bytes
            slot.batcher = batcher
            return self._note_user(slot, batcher)

    def _load_weights(self, model: Model[Any, Any]) -> None:
        try:
            model.load(self._device)
        except ResourceExhaustedError:
            # Others' weights may be in the way, whatever the budget says.
            model.unload()
            self.unload_idle()
            model.load(self._device)

    def _unload(self, slot: _Slot) -> None:
        if slot.batcher is None:
            return
        slot.batcher.close()
        slot.stats = slot.batcher.stats
        slot.batcher, slot.is_leaving = None, False
        slot.model.unload()
        log.debug("model_unloaded", model=slot.model.info.name, memory_bytes=slot.memory_bytes)
        self._changed.notify_all()
