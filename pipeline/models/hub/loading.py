"""What all hub models share: finding a checkpoint, loading it, translating errors, unloading.

A checkpoint is a local folder or a hub repository at a revision. Only safetensors weights are
read, never pickles, and no code that comes with a checkpoint is ever run.
"""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, IncompleteSnapshotError
from PIL import Image as PilImage
from safetensors import SafetensorError
from transformers.utils import logging as transformers_logging

from pipeline.errors import (
    ConfigurationError,
    ContractError,
    ModelUnavailableError,
    ResourceExhaustedError,
)
from pipeline.models.base import ModelInfo
from pipeline.models.checks import check_finite, check_picture, is_out_of_memory, vendor_errors
from pipeline.models.hub.devices import DTYPES, module_bytes, pick_dtype, usable_device
from pipeline.models.hub.digest import CHECKPOINT_FILES, checkpoint_digest
from schemas.records import FloatArray, Image

_REPOSITORY = re.compile(r"[\w.-]+(/[\w.-]+)?")
#: A picture longer than this many times its shorter side is cut to its middle: a processor that
#: scales the shorter side up would else make gigabytes of a line of pixels.
_MAX_ASPECT = 16
#: What from_pretrained raises for a checkpoint that is broken or of another kind.
_LOAD_ERRORS = (
    OSError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    ImportError,
    RuntimeError,
    SafetensorError,
)


class HubModel:
    """Base of the hub models; subclasses implement ``_load_parts``, ``prepare`` and ``infer``.

    ``path_or_repo``: a folder, or ``owner/name`` on the hub. ``revision``: the commit, tag or
    branch of a repository; not used for a folder. ``dtype``: ``auto`` is bfloat16 on a CUDA GPU
    that has it, float16 on one that has not, float32 elsewhere. ``local_files_only``: a repository
    is only looked for in the local cache. ``max_batch``: most items per ``infer``. ``threads``:
    torch's threads on the CPU, for the whole process; ``None`` leaves them as they are.
    ``compile``: whether torch compiles the network on a CUDA GPU, which takes minutes with the
    first batches and pays in long runs.
    """

    def __init__(
        self,
        *,
        info: ModelInfo,
        path_or_repo: str,
        revision: str | None = None,
        dtype: str = "auto",
        local_files_only: bool = True,
        max_batch: int = 16,
        threads: int | None = None,
        compile: bool = False,  # noqa: A002  the option's name, as torch calls it
    ) -> None:
        if dtype != "auto" and dtype not in DTYPES:
            raise ConfigurationError(
                f"model {info.name} has dtype {dtype!r}; use one of auto, {', '.join(DTYPES)}"
            )
        self.info = info
        self.max_batch = max_batch
        self._path_or_repo = path_or_repo
        self._revision = revision
        self._dtype_name = dtype
        self._local_files_only = local_files_only
        self._threads = threads
        self._compile = compile
        self._device = torch.device("cpu")
        self._dtype = torch.float32
        self._network: Any = None
        #: Tokenizers written in Rust set padding and truncation on themselves, and panic where two
        #: threads do so at once.
        self._tokenizing = threading.Lock()

    def load(self, device: str) -> None:
        """See :meth:`pipeline.models.base.Model.load`."""
        transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
        transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        if self._threads is not None:
            torch.set_num_threads(self._threads)
        folder = find_checkpoint(
            self.info.name, self._path_or_repo, self._revision, self._local_files_only
        )
        try:
            with self._memory_guard():
                self._device = usable_device(self.info.name, device)
                self._dtype = pick_dtype(self._dtype_name, self._device)
                self._check_digest(folder)
                self._load_parts(folder)
        except (ModelUnavailableError, ConfigurationError, ResourceExhaustedError):
            self.unload()
            raise
        except _LOAD_ERRORS as error:
            self.unload()
            raise ModelUnavailableError(
                f"model {self.info.name} cannot be loaded from {folder} "
                f"({type(error).__name__}: {_first_line(error)}); give it a complete checkpoint "
                "of the right kind"
            ) from error

    def prepare(self, item: Any) -> Any:
        """See :meth:`pipeline.models.base.Model.prepare`."""
        return item

    def unload(self) -> None:
        """Free the weights, also on the device. May be called twice."""
        self._network = None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    @property
    def memory_bytes(self) -> int:
        """See :attr:`pipeline.models.base.Model.memory_bytes`."""
        return 0 if self._network is None else module_bytes(self._network)

    def _load_parts(self, folder: Path) -> None:
        """Set ``self._network`` and what prepares its inputs. May raise vendor errors."""
        raise NotImplementedError

    def _load_network(
        self, auto_class: Any, folder: Path, optional: str | None = None, **settings: Any
    ) -> Any:
        """The network in evaluation mode on the device, every weight taken from the checkpoint.

        ``optional``: prefix of weights that are not used and may be absent. ``settings`` go to
        ``from_pretrained``.
        """
        weights = [path for path in folder.iterdir() if path.suffix == ".safetensors"]
        if not weights:
            raise ModelUnavailableError(
                f"model {self.info.name} has no *.safetensors weights in {folder}; save it as "
                "safetensors (pickled weights are not read)"
            )
        network, report = auto_class.from_pretrained(
            folder,
            dtype=self._dtype,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            **settings,
        )
        # transformers fills absent weights with random numbers and only logs it.
        absent = sorted(
            key
            for key in report["missing_keys"]
            if optional is None or not key.startswith(optional)
        )
        if absent:
            raise ModelUnavailableError(
                f"model {self.info.name} lacks {len(absent)} weights in {folder} ({absent[0]}, …); "
                f"the checkpoint is not a complete {type(network).__name__}"
            )
        network = network.eval().requires_grad_(False).to(self._device)
        if self._device.type == "cuda":
            network = network.to(memory_format=torch.channels_last)
        return network

    def _compiled(self, module: Any) -> None:
        """Have torch compile a part of the network, where the option asks for it."""
        if self._compile and self._device.type == "cuda":
            module.compile()

    def _check_digest(self, folder: Path) -> None:
        """Results must not be stored under the revision of weights that are gone."""
        if self.info.sha256 is not None and checkpoint_digest(folder) != self.info.sha256:
            raise ModelUnavailableError(
                f"model {self.info.name}: the files in {folder} changed since it was registered; "
                "start again, so that the new weights get their own revision"
            )

    def _ready(self) -> Any:
        if self._network is None:
            raise ContractError(f"model {self.info.name} was asked to infer before it was loaded")
        return self._network

    @contextmanager
    def _memory_guard(self) -> Iterator[None]:
        """Translate memory that ran out, on the device or on the host."""
        try:
            yield
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            if self._device.type == "cuda":
                torch.cuda.empty_cache()
            raise ResourceExhaustedError(
                f"model {self.info.name} ran out of memory on {self._device}; use a smaller batch "
                "or a device with more memory"
            ) from error

    @contextmanager
    def _inference(self) -> Iterator[Any]:
        """The loaded network, with gradients off and its libraries' errors translated."""
        network = self._ready()
        with vendor_errors(self.info.name), self._memory_guard(), torch.inference_mode():
            yield network

    def _placed(self, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor on the device: numbers in the network's arithmetic, ids as they are.

        On a CUDA GPU it is copied from pinned memory while the CPU goes on, and batches of
        pictures ``(n, 3, height, width)`` are laid out with the channels last.
        """
        kind = self._dtype if tensor.is_floating_point() else tensor.dtype
        if self._device.type != "cuda":
            return tensor.to(self._device, kind)
        # A copy that also converts would convert on the CPU, out of the pinned memory.
        placed = tensor.pin_memory().to(self._device, non_blocking=True).to(kind)
        return placed.contiguous(memory_format=torch.channels_last) if placed.ndim == 4 else placed


def find_checkpoint(
    name: str, path_or_repo: str, revision: str | None, local_files_only: bool
) -> Path:
    """The folder that holds the checkpoint: the one given, or the repository's snapshot.

    Raises:
        ModelUnavailableError: there is no such folder, or the snapshot is not in the local cache
            (and could not be fetched, where that is allowed).
    """
    folder = Path(path_or_repo).expanduser()
    if folder.is_dir():
        return folder
    if not _REPOSITORY.fullmatch(path_or_repo):
        raise ModelUnavailableError(
            f"model {name}: folder {path_or_repo} does not exist; set its path to a folder with "
            "config.json and *.safetensors"
        )
    try:
        return Path(
            snapshot_download(
                path_or_repo,
                revision=revision,
                local_files_only=local_files_only,
                allow_patterns=list(CHECKPOINT_FILES),
            )
        )
    except (OSError, ValueError, HfHubHTTPError, IncompleteSnapshotError) as error:
        at = f" --revision {revision}" if revision else ""
        raise ModelUnavailableError(
            f"model {name}: {path_or_repo} at revision {revision or 'main'} is not in the local "
            f"hub cache and could not be fetched; run `hf download {path_or_repo}{at}`, or set "
            "the model's path to a folder"
        ) from error


def to_pil(picture: Image, model: str) -> PilImage.Image:
    """An uint8 HWC RGB array as the picture type the processors take.

    Of a picture longer than 16 times its shorter side only the middle is kept, to that length.

    Raises:
        ContractError: it is no such array, or has no pixels.
    """
    check_picture(picture, model)
    height, width = picture.shape[:2]
    longest = min(height, width) * _MAX_ASPECT
    top, left = max(0, height - longest) // 2, max(0, width - longest) // 2
    return PilImage.fromarray(picture[top : top + longest, left : left + longest])


def unit_rows(vectors: torch.Tensor, model: str) -> list[FloatArray]:
    """Each row of ``(n, dimension)`` as its own L2-normalised float32 array.

    Raises:
        ContractError: a number in them is not finite.
    """
    rows = torch.nn.functional.normalize(vectors.float(), dim=-1).cpu().numpy()
    return [row.copy() for row in check_finite(rows, model)]


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else "no message"
