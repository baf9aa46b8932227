"""Hub models that are one pass of one network: ONNX Runtime on the CPU, torch elsewhere."""

import hashlib
import importlib.metadata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog
import torch

from pipeline.errors import ConfigurationError, ModelUnavailableError
from pipeline.models.base import ModelInfo
from pipeline.models.checks import check_text
from pipeline.models.hub.digest import checkpoint_digest
from pipeline.models.hub.loading import HubModel, unit_rows
from pipeline.models.onnx_session import alike, export, open_session
from pipeline.models.weights import default_cache_dir
from schemas.records import FloatArray

log = structlog.get_logger(__name__)

#: Part of the name of every exported file: raise it when what is exported changes.
_EXPORT_VERSION = 1

#: One item's inputs by name, without a batch axis.
Inputs = Mapping[str, torch.Tensor]


class HubEncoder(HubModel):
    """Base of the models that make one vector of one item.

    ``space`` names the vector space. ``runtime``: ``onnx`` is ONNX Runtime on the CPU, in float32;
    ``torch`` is torch; ``auto`` takes ONNX Runtime where it can run the model as torch does.
    The exported network is as large as its weights in float32 and lies in ``cache_dir``, named
    by the content of the checkpoint.

    Subclasses implement ``_load_inputs``, ``_load_tower``, ``_examples`` and ``prepare``, which
    gives :data:`Inputs`.
    """

    #: What is exported, for the name of its file.
    tower: str
    #: Axes of the tower's inputs whose lengths differ from call to call.
    free_axes: Mapping[str, Sequence[int]]

    def __init__(
        self,
        *,
        info: ModelInfo,
        space: str,
        runtime: str = "auto",
        cache_dir: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(info=info, **options)
        if runtime not in {"auto", "onnx", "torch"}:
            raise ConfigurationError(
                f"model {info.name} has runtime {runtime!r}; use one of auto, onnx, torch"
            )
        self.space = space
        self._runtime = runtime
        self._cache_dir = Path(cache_dir) if cache_dir else default_cache_dir()

    def _load_inputs(self, folder: Path) -> None:
        """Set what ``prepare`` needs."""
        raise NotImplementedError

    def _load_tower(self, folder: Path) -> torch.nn.Module:
        """The network on the device: named inputs with a batch axis to vectors ``(n, dimension)``,
        whose lengths do not matter."""
        raise NotImplementedError

    def _examples(self) -> list[list[Inputs]]:
        """Batches to compare the runtimes on, the first of several items."""
        raise NotImplementedError

    def _can_export(self) -> bool:
        """Whether the network just described by ``_load_inputs`` is known to export."""
        return True

    def _load_parts(self, folder: Path) -> None:
        self._load_inputs(folder)
        if not self._wants_onnx():
            self._network = self._load_tower(folder)
            self._compiled(self._network)
            return
        path = self._export_path(folder)
        tower = None if path.is_file() else self._load_tower(folder)
        try:
            if tower is not None:
                examples = [together(batch) for batch in self._examples()]
                export(tower, examples, path, free_axes=self.free_axes, outputs=["vectors"])
            self._network = _OnnxTower(path, threads=self._threads or 0)
        except ModelUnavailableError as error:
            if self._runtime == "onnx":
                raise
            log.warning("onnx_runtime_not_used", model=self.info.name, reason=str(error))
            self._network = tower or self._load_tower(folder)

    def _wants_onnx(self) -> bool:
        fits = self._device.type == "cpu" and self._dtype == torch.float32 and self._can_export()
        if self._runtime == "onnx" and not fits:
            raise ConfigurationError(
                f"model {self.info.name} has runtime onnx, which runs most encoders on the CPU in "
                f"float32, not this one on {self._device} in {self._dtype}; set it to auto"
            )
        return fits and self._runtime != "torch"

    def _export_path(self, folder: Path) -> Path:
        versions = f"{_EXPORT_VERSION} {importlib.metadata.version('transformers')}"
        identity = f"{checkpoint_digest(folder)} {self.tower} {versions}"
        name = hashlib.sha256(identity.encode()).hexdigest()[:32]
        return self._cache_dir / f"{self.tower}-{name}.onnx"

    def _vectors(self, batch: Sequence[Inputs]) -> list[FloatArray]:
        """One L2-normalised vector per prepared item."""
        if not batch:
            return []
        with self._inference() as network:
            if isinstance(network, _OnnxTower):
                rows = network(batch)
            else:
                inputs = together(batch)
                rows = network(**{name: self._placed(inputs[name]) for name in inputs})
            return unit_rows(rows, self.info.name)

    @property
    def memory_bytes(self) -> int:
        """See :attr:`pipeline.models.base.Model.memory_bytes`."""
        network = self._network
        return network.memory_bytes if isinstance(network, _OnnxTower) else super().memory_bytes


class HubTextEncoder(HubEncoder):
    """Base of those that read text; implements :class:`pipeline.models.base.TextModel`.

    Subclasses set ``_tokenizer`` and ``_max_tokens`` in ``_load_inputs``.
    """

    free_axes: Mapping[str, Sequence[int]] = {
        "input_ids": (0, 1),
        "attention_mask": (0, 1),
    }
    _tokenizer: Any
    _max_tokens: int

    def _examples(self) -> list[list[Inputs]]:
        texts = (["a photo of a cat on the table", "rain"], ["three words more"])
        return [[self._tokens(text) for text in batch] for batch in texts]

    def prepare(self, item: str) -> Inputs:
        """A text as token ids; what exceeds the model's length is not read."""
        self._ready()
        return self._tokens(item)

    def _tokens(self, text: str) -> Inputs:
        check_text(text, self.info.name)
        with self._tokenizing:
            ids = self._tokenizer(text, truncation=True, max_length=self._max_tokens)["input_ids"]
        row = torch.tensor(ids, dtype=torch.long)
        return {"input_ids": row, "attention_mask": torch.ones_like(row)}

    def infer(self, batch: Sequence[Inputs]) -> list[FloatArray]:
        """One L2-normalised embedding per text."""
        return self._vectors(batch)


class _OnnxTower:
    def __init__(self, path: Path, *, threads: int) -> None:
        self._session = open_session(path, threads=threads)
        self.memory_bytes = path.stat().st_size

    def __call__(self, batch: Sequence[Inputs]) -> torch.Tensor:
        """Vectors ``(n, dimension)`` of the items, run in groups of like length."""
        rows: list[Any] = [None] * len(batch)
        for group in alike([next(iter(item.values())).shape[0] for item in batch]):
            inputs = together([batch[index] for index in group])
            arrays = {name: tensor.numpy() for name, tensor in inputs.items()}
            for index, row in zip(group, self._session.run(None, arrays)[0], strict=True):
                rows[index] = torch.from_numpy(row)
        return torch.stack(rows)


def together(items: Sequence[Inputs]) -> dict[str, torch.Tensor]:
    """The items with a batch axis; shorter rows of tokens are filled up with zeros on the right,
    which their masks leave out."""
    return {
        name: torch.nn.utils.rnn.pad_sequence([item[name] for item in items], batch_first=True)
        if items[0][name].ndim == 1
        else torch.stack([item[name] for item in items])
        for name in items[0]
    }
