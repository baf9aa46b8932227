"""The two sets of pairs as training sets."""

from pathlib import Path

import numpy as np

from pipeline.errors import ConfigurationError
from pipeline.fusion.neural.items import FusionItem, TokenSet
from pipeline.training.data import Split, TrainingSet, split_by_group
from schemas.records import FloatArray

MODALITIES = ("picture", "sound")
DEV, CLEAN = "avmnist_dev", "avmnist_small_clean"
LICENCE = "CC BY-SA 4.0 (spoken digits)"
#: Of the small set, which has no validation part of its own.
_VALIDATION_SHARE = 0.1


def load_set(folder: Path, name: str) -> tuple[TrainingSet, Split]:
    """``avmnist_dev`` or ``avmnist_small_clean`` with its own split.

    Raises:
        ConfigurationError: the file is not there.
    """
    path = folder / f"{name}.npz"
    if not path.is_file():
        raise ConfigurationError(
            f"{path} is not there; give the folder that holds {DEV}.npz and {CLEAN}.npz as DATA"
        )
    with np.load(path) as file:
        parts = {key.split("_")[0]: len(file[key]) for key in file.files if key.endswith("label")}
        pictures = np.concatenate([_floats(file[f"{part}_image"]) for part in parts])
        sounds = np.concatenate([_floats(file[f"{part}_audio"]) for part in parts])
        labels = np.concatenate([file[f"{part}_label"] for part in parts])
        recordings = [
            str(source)
            for part in parts
            if f"{part}_audio_src" in file.files
            for source in file[f"{part}_audio_src"]
        ]
    data = TrainingSet(
        items=[
            FusionItem(
                modalities={
                    "picture": TokenSet.whole(picture[None]),
                    "sound": TokenSet.whole(sound[None]),
                }
            )
            for picture, sound in zip(pictures, sounds, strict=True)
        ],
        # Pictures occur once, recordings several times.
        groups=recordings or [str(row) for row in range(len(labels))],
        classes=[str(label) for label in labels],
        name=name,
        licence=LICENCE,
    )
    return data, _split(parts, data)


def _floats(values: np.ndarray) -> FloatArray:
    """``(n, H, W)`` bytes as ``(n, 1, H, W)``, 0-1."""
    return np.asarray(values[:, None].astype(np.float32) / 255)


def _split(sizes: dict[str, int], data: TrainingSet) -> Split:
    rows: dict[str, tuple[int, ...]] = {}
    start = 0
    for part, size in sizes.items():
        rows[part] = tuple(range(start, start + size))
        start += size
    origin = "of the data set"
    if "val" in rows:
        return Split(train=rows["train"], validation=rows["val"], test=rows["test"], origin=origin)
    own = split_by_group(
        [data.groups[row] for row in rows["train"]],
        shares=(1 - _VALIDATION_SHARE, _VALIDATION_SHARE, 0.0),
    )
    return Split(
        train=own.train, validation=own.validation, test=rows["test"],
        origin=f"{origin}, {_VALIDATION_SHARE:g} of its training part to validate",
    )  # fmt: skip
