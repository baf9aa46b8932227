"""Small made sets whose labels only some modalities know, for trained fusion."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.fusion.neural.config import FuserConfig, ModalityConfig, TowerConfig
from pipeline.fusion.neural.items import FusionItem, TokenSet
from pipeline.training.data import TrainingSet

DIMENSION = 6
KINDS = ("late", "concat", "attention")


def vectors(*rows: Sequence[float]) -> TokenSet:
    """Tokens in the order of time, each with its part of the segment."""
    count = len(rows)
    edges = np.linspace(0, 1, count + 1, dtype=np.float32)
    return TokenSet(
        values=np.asarray(rows, dtype=np.float32),
        spans=np.stack([edges[:-1], edges[1:]], axis=1),
        weights=np.ones(count, dtype=np.float32),
    )


def direction(at: int, rng: np.random.Generator) -> np.ndarray:
    """One of ``DIMENSION`` directions, a little off."""
    return np.asarray(2 * np.eye(DIMENSION)[at] + rng.normal(0, 0.2, DIMENSION))


def small_config(kind: str = "concat", names: Sequence[str] = "ab", **other: Any) -> FuserConfig:
    given: dict[str, Any] = {
        "kind": kind,
        "modalities": tuple(
            ModalityConfig(name=name, dimension=DIMENSION, space="made") for name in names
        ),
        "width": 16,
        "depth": 1,
        "embedding_dimension": 8,
        "bottlenecks": 2,
        "dropout": 0.0,
        "tags": ("bright", "loud"),
        "classes": ("even", "odd"),
    }
    return FuserConfig(**(given | other))


def tower_config(**other: Any) -> FuserConfig:
    """Vectors, and two kinds of towers."""
    conv = TowerConfig(input_shape=(1, 8, 8), widths=(4, 8), grid=2)
    patch = TowerConfig(kind="patch", input_shape=(2, 8, 8), widths=(8,), patch=4, heads=2)
    modalities = (
        ModalityConfig(name="words", dimension=DIMENSION, space="made"),
        ModalityConfig(name="picture", dimension=8, tower=conv),
        ModalityConfig(name="sound", dimension=8, tower=patch),
    )
    return small_config(**({"modalities": modalities} | other))


def random_item(config: FuserConfig, rng: np.random.Generator, *counts: int) -> FusionItem:
    """As many tokens of each modality as said; 0 for an absent one."""
    found = {}
    for modality, count in zip(config.modalities, counts, strict=True):
        shape = modality.tower.input_shape if modality.tower else (modality.dimension,)
        if count:
            spans = np.sort(rng.random((count, 2)), axis=1).astype(np.float32)
            found[modality.name] = TokenSet(
                values=rng.standard_normal((count, *shape)).astype(np.float32),
                spans=spans,
                weights=rng.uniform(0.2, 1, count).astype(np.float32),
            )
    return FusionItem(modalities=found)


def xor_set(size: int = 160, seed: int = 0) -> TrainingSet:
    """Each of a and b says a bit; the class is their XOR, which neither knows, the tags are the
    bits. Two rows of each asset."""
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 2, (size, 2))
    return TrainingSet(
        items=[
            FusionItem(
                modalities={"a": vectors(direction(a, rng)), "b": vectors(direction(b, rng))}
            )
            for a, b in bits
        ],
        groups=[f"asset {row // 2}" for row in range(size)],
        classes=["odd" if a != b else "even" for a, b in bits],
        tags=[frozenset(n for n, bit in (("bright", a), ("loud", b)) if bit) for a, b in bits],
        name="xor",
    )


def hidden_token_set(size: int = 240, seed: int = 1) -> tuple[TrainingSet, list[int]]:
    """One of three tokens of a says the class, the others are all alike, b is noise; and which."""
    rng = np.random.default_rng(seed)
    items, classes, places = [], [], []
    for _ in range(size):
        odd, place = int(rng.integers(2)), int(rng.integers(3))
        tokens = [direction(5, rng) for _ in range(3)]
        tokens[place] = direction(odd, rng)
        noise = vectors(rng.normal(0, 1, DIMENSION))
        items.append(FusionItem(modalities={"a": vectors(*tokens), "b": noise}))
        classes.append(("even", "odd")[odd])
        places.append(place)
    data = TrainingSet(
        items=items, groups=[str(row) for row in range(size)], classes=classes, name="hidden"
    )
    return data, places
