"""A trained fuser as a model of the worker: behind the same interface as all others."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigurationError, ModelUnavailableError
from pipeline.fusion.neural.config import CARD_NAME, CONFIG_NAME, FuserConfig
from pipeline.fusion.neural.items import FusionItem, check_item


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Said:
    """``prediction``: a :class:`pipeline.fusion.neural.predict.Prediction`. ``caption``: of a fuser
    that writes captions, where it has something to say."""

    prediction: Any
    caption: str | None


class FuserModel:
    """Task ``fusion``: implements :class:`pipeline.models.base.Model`.

    ``path_or_repo``: the folder that training wrote.
    """

    def __init__(
        self,
        *,
        info: Any,
        path_or_repo: str,
        max_batch: int = 64,
        threads: int | None = None,
        **_of_repositories: Any,
    ) -> None:
        self.info = info
        self.max_batch = max_batch
        self._folder = Path(path_or_repo).expanduser()
        self._threads = threads
        self._fuser: Any = None
        try:
            text = (self._folder / CONFIG_NAME).read_text(encoding="utf-8")
            self.config = FuserConfig.from_json(text)
        except (OSError, UnicodeDecodeError, ConfigurationError) as error:
            raise ModelUnavailableError(
                f"fuser {info.name} has no readable {CONFIG_NAME} in {self._folder} ({error}); "
                "give it a folder that training wrote"
            ) from error
        self._card = self._read_card()

    def load(self, device: str) -> None:
        """Raises ModelUnavailableError as :func:`pipeline.fusion.neural.checkpoint.load`, and where
        another fuser is in the folder now: its results must not be stored as those of this one.
        """
        import torch

        from pipeline.fusion.neural import checkpoint

        if self._threads is not None:
            torch.set_num_threads(self._threads)
        fuser = checkpoint.load(self._folder, device)
        if self._read_card() != self._card:
            raise ModelUnavailableError(
                f"fuser {self.info.name}: the files in {self._folder} changed since it was "
                "registered; start again, so that the new weights get their own revision"
            )
        self._fuser = fuser

    def prepare(self, item: FusionItem) -> FusionItem:
        check_item(item, self.config)
        return item

    def infer(self, batch: Sequence[FusionItem]) -> list[Said | None]:
        """``None`` for an item without any modality."""
        predictions = self._fuser.predict(batch)
        captions = [None] * len(batch)
        if self.config.caption is not None:
            captions = self._fuser.caption(batch)
        return [
            None if prediction is None else Said(prediction=prediction, caption=caption or None)
            for prediction, caption in zip(predictions, captions, strict=True)
        ]

    def unload(self) -> None:
        self._fuser = None

    def _read_card(self) -> bytes | None:
        """The card, which says the digest of all other files; loading tells where there is none."""
        try:
            return (self._folder / CARD_NAME).read_bytes()
        except OSError:
            return None

    @property
    def memory_bytes(self) -> int:
        if self._fuser is None:
            return 0
        state = self._fuser.network.state_dict().values()
        return sum(each.numel() * each.element_size() for each in state)
