"""The models of one stage run."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

from pipeline.db.runs import ClaimedRun
from pipeline.errors import ConfigurationError
from pipeline.models.base import ModelInfo
from pipeline.runner.runtime import Runtime


class RunModels:
    """The models of one stage run, by role; counts its share of the device's time.

    A run that is alone because it ran out of memory gives them one item at a time.
    """

    def __init__(self, runtime: Runtime, run: ClaimedRun, on_progress: Callable[[], None]) -> None:
        self._runtime = runtime
        self._models = run.models
        self._at_once = 1 if run.alone else None
        self._on_progress = on_progress
        self.device_seconds = 0.0

    def has(self, role: str) -> bool:
        return role in self._models

    def info(self, role: str) -> ModelInfo:
        return self._batcher(role).model.info  # type: ignore[no-any-return]

    def get(self, role: str) -> Any:
        return self._batcher(role).model

    def infer(self, role: str, items: Sequence[Any]) -> list[Any]:
        outputs: list[Any] = []
        size = self._at_once or len(items)
        for start in range(0, len(items), size or 1):
            result = self._batcher(role).submit(items[start : start + size])
            self.device_seconds += result.device_seconds
            outputs += result.outputs
            self._on_progress()
        return outputs

    def map(self, role: str, items: Iterator[Any]) -> Iterator[Any]:
        size = self._at_once or 2 * self._batcher(role).model.max_batch
        while batch := list(islice(items, size)):
            yield from self.infer(role, batch)

    def _batcher(self, role: str) -> Any:
        name, revision = self._models[role]
        batcher = self._runtime.models.batcher(name)
        if batcher.model.info.revision != revision:
            raise ConfigurationError(
                f"the stage asks for model {name} in revision {revision}, this worker has "
                f"{batcher.model.info.revision}: give all workers the same version and settings"
            )
        return batcher
