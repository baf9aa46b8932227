"""The models that are measured, and what they are given."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.models.base import ModelInfo
from pipeline.models.entry import ModelEntry
from pipeline.models.hub.entries import from_settings
from pipeline.models.registry import OFFLINE_ENTRIES, with_options
from schemas.records import Image

#: Pictures as splitting makes keyframes of 720p.
PICTURE_SHAPE = (360, 640, 3)
DISTINCT = 64
_WORDS = (
    "a the cat dog ship rocket plays sails over under near quiet blue sea harbour morning".split()
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """``items``: distinct inputs, to be gone round; ``count``: how many one timing takes."""

    entry: ModelEntry
    items: Sequence[Any]
    count: int


class Nothing:
    """A model that costs nothing: what is left is what the runtime costs."""

    max_batch = 32
    memory_bytes = 0

    def __init__(self, *, info: ModelInfo) -> None:
        self.info = info

    def load(self, device: str) -> None: ...

    def prepare(self, item: int) -> int:
        return item

    def infer(self, batch: Sequence[int]) -> list[int]:
        return list(batch)

    def unload(self) -> None: ...


def subjects(device: str, folder: Path) -> list[Subject]:
    """Those that this device can be measured by. ``folder``: where weights made here are put."""
    found = [
        Subject(entry=_offline("efficientnet-lite0"), items=_pictures(), count=600),
        Subject(entry=_offline("minilm"), items=_sentences(), count=2_000),
    ]
    if device != "cpu":
        # The size of CLIP's base model, with random weights: as fast as real ones.
        found[0] = Subject(entry=_vision_transformer(folder), items=_pictures(), count=20_000)
    return found


def nothing() -> Subject:
    info = ModelInfo(
        name="nothing", revision="1", task="text-embedding", licence="none", source="mediaweave"
    )
    entry = ModelEntry(info=info, factory="bench.infer.subjects:Nothing")
    return Subject(entry=entry, items=range(DISTINCT), count=100_000)


def lookup(found: Sequence[Subject]) -> Callable[[str], ModelEntry]:
    entries: Mapping[str, ModelEntry] = {one.entry.info.name: one.entry for one in found}
    return entries.__getitem__


def _offline(name: str) -> ModelEntry:
    return with_options(OFFLINE_ENTRIES[name], threads=1)


def _pictures() -> list[Image]:
    random_numbers = np.random.default_rng(0)
    return [random_numbers.integers(0, 256, PICTURE_SHAPE, dtype=np.uint8) for _ in range(DISTINCT)]


def _sentences() -> list[str]:
    """From 4 to 24 words, like subtitles."""
    chosen = random.Random(0)  # noqa: S311  the same every time
    return [" ".join(chosen.choices(_WORDS, k=chosen.randint(4, 24))) for _ in range(DISTINCT)]


def _vision_transformer(folder: Path) -> ModelEntry:
    import torch
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

    torch.manual_seed(0)
    CLIPModel(CLIPConfig()).save_pretrained(folder)
    CLIPImageProcessorPil().save_pretrained(folder)
    return from_settings("vit-b-32", implementation="image-text", path=str(folder))
