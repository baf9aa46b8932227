"""The models of one stage run."""

from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from pipeline.errors import ConfigurationError
from pipeline.models.base import ModelInfo
from pipeline.models.batcher import BatchResult, Pending
from pipeline.models.pool import ModelPool

#: Batches of one run that wait for the device while the next one is prepared.
_AHEAD = 2


@dataclass(slots=True, kw_only=True)
class Use:
    """What a stage run had of one model; ``device_seconds``: its share of the batches."""

    items: int = 0
    device_seconds: float = 0.0


class RunModels:
    """The models of one stage run, by role; counts its share of the device's time.

    ``models``: role → name and revision. ``one_by_one``: the run is alone because it ran out of
    memory, and gives them one item at a time.
    """

    def __init__(
        self,
        pool: ModelPool,
        models: Mapping[str, tuple[str, str]],
        on_progress: Callable[[], None],
        *,
        one_by_one: bool = False,
    ) -> None:
        self._pool = pool
        self._models = models
        self._at_once = 1 if one_by_one else None
        self._on_progress = on_progress
        #: By role.
        self.uses: dict[str, Use] = defaultdict(Use)

    @property
    def device_seconds(self) -> float:
        return sum(use.device_seconds for use in self.uses.values())

    def has(self, role: str) -> bool:
        return role in self._models

    def info(self, role: str) -> ModelInfo:
        info: ModelInfo = self.get(role).info
        return info

    def get(self, role: str) -> Any:
        name, revision = self._models[role]
        model = self._pool.model(name)
        if model.info.revision != revision:
            raise ConfigurationError(
                f"the stage asks for model {name} in revision {revision}, this worker has "
                f"{model.info.revision}: give all workers the same version and settings"
            )
        return model

    def infer(self, role: str, items: Sequence[Any]) -> list[Any]:
        return list(self._through(role, iter(items), self._at_once or max(1, len(items))))

    def map(self, role: str, items: Iterator[Any]) -> Iterator[Any]:
        return self._through(role, items, self._at_once or self.get(role).max_batch)

    def _through(self, role: str, items: Iterator[Any], size: int) -> Iterator[Any]:
        """While the device works on one batch, the next ones are read and prepared here."""
        pending: deque[Pending[Any]] = deque()
        ahead = _AHEAD if self._at_once is None else 0
        name = self.get(role).info.name
        batch = list(islice(items, size))
        if not batch:  # nothing is loaded for it, and nothing unloaded
            return
        with self._pool.use(name) as batcher:
            while batch:
                pending.append(batcher.send(batch))
                if len(pending) > ahead:
                    yield from self._counted(role, pending.popleft().wait())
                batch = list(islice(items, size))
            while pending:
                yield from self._counted(role, pending.popleft().wait())

    def _counted(self, role: str, result: BatchResult[Any]) -> list[Any]:
        use = self.uses[role]
        use.items += len(result.outputs)
        use.device_seconds += result.device_seconds
        self._on_progress()
        return result.outputs
