"""One thread feeds a model with full batches made of many callers' items."""

import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pipeline.errors import ContractError, ResourceExhaustedError, TransientError
from pipeline.models.base import Model

In = TypeVar("In")
Out = TypeVar("Out")

#: Full batches that must succeed before a batch size once halved is doubled again.
_GROW_AFTER_BATCHES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class BatcherStats:
    """What a batcher has done so far.

    ``items`` and ``batches`` count what the model finished; the seconds also hold attempts that
    failed. ``cpu_seconds`` is the CPU time of the whole process during inference: it is the
    model's own only where nothing else in the process runs meanwhile.
    """

    items: int = 0
    batches: int = 0
    device_seconds: float = 0.0
    cpu_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchResult(Generic[Out]):
    """One output per item submitted, in order, and the caller's share of the device's time.

    The share of a batch is by items: 3 of the 12 items of a batch pay a quarter of its seconds.
    """

    outputs: list[Out]
    device_seconds: float


class _Call(Generic[Out]):
    """What one caller waits for. Written by the worker thread alone once it is queued."""

    def __init__(self, items: Sequence[Any]) -> None:
        self.items = items
        self.next_index = 0
        self.outputs: dict[int, Out] = {}
        self.error: Exception | None = None
        self.device_seconds = 0.0
        self.finished = threading.Event()


class Pending(Generic[Out]):
    """Items on their way through the model."""

    def __init__(self, call: _Call[Out]) -> None:
        self._call = call

    def wait(self) -> BatchResult[Out]:
        """Blocks until all items are done.

        Raises:
            TransientError: the batcher was closed while the items waited.
            Exception: what the model raised for the first of these items that failed by itself.
        """
        call = self._call
        call.finished.wait()
        if call.error is not None:
            raise call.error
        return BatchResult(
            outputs=[call.outputs[index] for index in range(len(call.items))],
            device_seconds=call.device_seconds,
        )


class Batcher(Generic[In, Out]):
    """Owns the thread that runs ``model.infer``; loading and unloading are the caller's.

    ``max_wait_seconds``: how long an incomplete batch waits for more items. ``stats``: what was
    counted before, to go on from.
    """

    def __init__(
        self,
        model: Model[In, Out],
        *,
        max_wait_seconds: float = 0.005,
        stats: BatcherStats = BatcherStats(),
    ) -> None:
        self.model = model
        self._max_wait_seconds = max_wait_seconds
        self._size = model.max_batch
        self._full_batches = 0
        self._changed = threading.Condition()
        #: Calls with items not yet taken, the next to be served first.
        self._waiting: deque[_Call[Out]] = deque()
        self._closed = False
        self._stats = stats
        self._thread = threading.Thread(
            target=self._work, name=f"batcher-{model.info.name}", daemon=True
        )
        self._thread.start()

    def send(self, items: Sequence[In]) -> Pending[Out]:
        """Prepare ``items`` here, then let the model have them; blocks for the preparing only.
        May be called by many threads.

        Raises:
            TransientError: the batcher is closed.
            Exception: what the model raised for the first item that cannot be prepared.
        """
        call: _Call[Out] = _Call([self.model.prepare(item) for item in items])
        with self._changed:
            if self._closed:
                raise self._closed_error()
            if items:
                self._waiting.append(call)
                self._changed.notify_all()
            else:
                call.finished.set()
        return Pending(call)

    def submit(self, items: Sequence[In]) -> BatchResult[Out]:
        """:meth:`send`, and wait; raises what both raise."""
        return self.send(items).wait()

    @property
    def stats(self) -> BatcherStats:
        """The figures up to the last finished batch."""
        return self._stats

    @property
    def waiting_items(self) -> int:
        """Items submitted that no batch has taken yet."""
        with self._changed:
            return self._untaken()

    @property
    def closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        """End the thread after the batch it is at; calls not finished by then fail.

        May be called twice. The model stays loaded.
        """
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _closed_error(self) -> TransientError:
        return TransientError(f"the batcher of {self.model.info.name} is closed; try again later")

    def _work(self) -> None:
        batch: list[tuple[_Call[Out], int]] = []
        try:
            while batch := self._next_batch():
                self._run(batch)
                for call in {id(call): call for call, _ in batch}.values():
                    if call.error is not None or len(call.outputs) == len(call.items):
                        self._finish(call)
        finally:
            with self._changed:
                self._closed = True
                left = [*self._waiting, *(call for call, _ in batch)]
                self._waiting.clear()
            for call in left:
                call.error = call.error or self._closed_error()
                call.finished.set()

    def _finish(self, call: _Call[Out]) -> None:
        with self._changed:
            if call in self._waiting:  # it failed with items left over
                self._waiting.remove(call)
        call.finished.set()

    def _next_batch(self) -> list[tuple[_Call[Out], int]]:
        """Wait for items; an empty batch means the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if not self._closed:
                self._changed.wait_for(
                    lambda: self._closed or self._untaken() >= self._size,
                    timeout=self._max_wait_seconds,
                )
            return [] if self._closed else self._take()

    def _untaken(self) -> int:
        return sum(len(call.items) - call.next_index for call in self._waiting)

    def _take(self) -> list[tuple[_Call[Out], int]]:
        """One item of each call in turn, so a small call never waits behind a large one."""
        batch: list[tuple[_Call[Out], int]] = []
        while self._waiting and len(batch) < self._size:
            call = self._waiting.popleft()
            batch.append((call, call.next_index))
            call.next_index += 1
            if call.next_index < len(call.items):
                self._waiting.append(call)
        batch.sort(key=lambda entry: id(entry[0]))  # a caller's items stay together, in order
        return batch

    def _run(self, batch: Sequence[tuple[_Call[Out], int]]) -> None:
        """Infer; on failure by halves, until only items that fail alone have failed."""
        if len(batch) > self._size:  # it shrank meanwhile
            for start in range(0, len(batch), self._size):
                self._run(batch[start : start + self._size])
            return
        error = self._attempt(batch)
        if error is None:
            return
        if len(batch) == 1:
            self._fail(batch[0][0], error)
            return
        del error  # its traceback holds what the failed attempt put on the device
        middle = len(batch) // 2
        self._run(batch[:middle])
        self._run(batch[middle:])

    def _attempt(self, batch: Sequence[tuple[_Call[Out], int]]) -> Exception | None:
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            outputs = self.model.infer([call.items[index] for call, index in batch])
            if len(outputs) != len(batch):
                raise ContractError(
                    f"{self.model.info.name} gave {len(outputs)} outputs for {len(batch)} items"
                )
        except Exception as error:  # noqa: BLE001  the caller gets it
            self._account(batch, wall, cpu, finished=False)
            if isinstance(error, ResourceExhaustedError | MemoryError):
                self._shrink(len(batch))
            return error
        self._account(batch, wall, cpu, finished=True)
        self._grow(len(batch))
        for (call, index), output in zip(batch, outputs, strict=True):
            call.outputs[index] = output
        return None

    def _fail(self, call: _Call[Out], error: Exception) -> None:
        if isinstance(error, MemoryError):
            translated = ResourceExhaustedError(
                f"{self.model.info.name} ran out of memory on a single item"
            )
            translated.__cause__ = error
            error = translated
        call.error = call.error or error

    def _account(
        self,
        batch: Sequence[tuple[_Call[Out], int]],
        wall: float,
        cpu: float,
        *,
        finished: bool,
    ) -> None:
        seconds = time.perf_counter() - wall
        for call, _ in batch:
            call.device_seconds += seconds / len(batch)
        before = self._stats
        self._stats = BatcherStats(
            items=before.items + (len(batch) if finished else 0),
            batches=before.batches + (1 if finished else 0),
            device_seconds=before.device_seconds + seconds,
            cpu_seconds=before.cpu_seconds + time.process_time() - cpu,
        )

    def _shrink(self, failed_size: int) -> None:
        self._size = max(1, min(self._size, failed_size // 2))
        self._full_batches = 0

    def _grow(self, size: int) -> None:
        if self._size == self.model.max_batch or size < self._size:
            return
        self._full_batches += 1
        if self._full_batches >= _GROW_AFTER_BATCHES:
            self._size = min(self._size * 2, self.model.max_batch)
            self._full_batches = 0
