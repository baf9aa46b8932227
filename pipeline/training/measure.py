"""A network's scores on rows of a set, with any modalities hidden, and the figures of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.fusion.neural.base import FusionNetwork, Logits
from pipeline.fusion.neural.batches import PackedItems
from pipeline.training.losses import Targets
from pipeline.training.metrics import (
    Interval,
    Rows,
    accuracy,
    bootstrap,
    expected_calibration_error,
    macro_f1,
    mean_average_precision,
    tag_calibration_error,
)
from schemas.records import FloatArray

_BATCH = 256
#: The mean average precision of many tags takes a while.
_TAG_RESAMPLES = 200

_OF_CLASSES = {
    "accuracy": accuracy,
    "macro_f1": macro_f1,
    "calibration_error": expected_calibration_error,
}
_OF_TAGS = {
    "mean_average_precision": mean_average_precision,
    "tag_calibration_error": tag_calibration_error,
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Seen:
    """Uncalibrated logits of N rows, and the modalities ``present`` ``(N, M)`` of each."""

    logits: Logits
    present: Tensor


@torch.no_grad()
def look(
    network: FusionNetwork,
    packed: PackedItems,
    rows: Tensor,
    hidden: Sequence[frozenset[str]],
    device: torch.device,
) -> list[Seen]:
    """The rows with each of these sets of modalities hidden; tokens are encoded once."""
    network.eval()
    parts: list[list[Seen]] = [[] for _ in hidden]
    for indices in rows.split(_BATCH):  # type: ignore[no-untyped-call]
        encoded = network.encode(packed.batch(indices, device))
        none = torch.zeros((len(indices), 1), dtype=torch.bool, device=device)
        for part, names in zip(parts, hidden, strict=True):
            shown = encoded.masked(dict.fromkeys(names, none))
            part.append(Seen(logits=network.fuse(shown).logits, present=shown.present()))
    return [
        Seen(
            logits=Logits(
                tags=torch.cat([each.logits.tags for each in part]).cpu(),
                classes=torch.cat([each.logits.classes for each in part]).cpu(),
            ),
            present=torch.cat([each.present for each in part]).cpu(),
        )
        for part in parts
    ]


def choices(names: Sequence[str]) -> list[frozenset[str]]:
    """What is hidden for calibration: nothing, each modality, and all but each; each choice
    once."""
    everything = frozenset(names)
    found = [frozenset[str]()]
    if len(names) > 1:
        found += [frozenset({name}) for name in names] + [everything - {name} for name in names]
    return list(dict.fromkeys(found))


def figures(
    network: FusionNetwork,
    seen: Seen,
    targets: Targets,
    groups: Sequence[str],
    *,
    resamples: int = 1000,
) -> dict[str, Interval]:
    """Of the rows that have any modality and a known label: ``accuracy``, ``macro_f1`` and
    ``calibration_error`` of the classes, ``mean_average_precision`` and
    ``tag_calibration_error`` of the tags; empty where there are no such rows.

    ``resamples``: of the intervals; with 0, a figure is its own interval.
    """
    device = network.class_temperature.device
    logits = Logits(tags=seen.logits.tags.to(device), classes=seen.logits.classes.to(device))
    calibrated = network.calibrated(logits, seen.present.to(device))
    some = seen.present.any(dim=1)
    found: dict[str, Interval] = {}
    keep = (targets.classes_known & some).numpy()
    if network.config.classes and keep.any():
        scores = np.asarray(torch.softmax(calibrated.classes, dim=1).cpu().numpy()[keep])
        labels = targets.classes.argmax(dim=1).numpy()[keep]
        own = [groups[at] for at in np.flatnonzero(keep).tolist()]
        found |= {
            name: _interval(partial(_on_rows, measure, scores, labels), own, resamples)
            for name, measure in _OF_CLASSES.items()
        }
    keep = (targets.tags_known & some).numpy()
    if network.config.tags and keep.any():
        scores_of_tags: FloatArray = torch.sigmoid(calibrated.tags).cpu().numpy()[keep]
        truth = targets.tags.numpy()[keep] > 0.5
        own = [groups[at] for at in np.flatnonzero(keep).tolist()]
        fewer = min(resamples, _TAG_RESAMPLES)
        found |= {
            name: _interval(partial(_on_rows, measure, scores_of_tags, truth), own, fewer)
            for name, measure in _OF_TAGS.items()
        }
    return found


def _on_rows(
    measure: Callable[[Any, Any], float], scores: FloatArray, truth: Any, rows: Rows
) -> float:
    return measure(scores[rows], truth[rows])


def _interval(measure: Callable[[Rows], float], groups: Sequence[str], resamples: int) -> Interval:
    if not resamples:
        value = measure(np.arange(len(groups)))
        return Interval(value=value, low=value, high=value)
    return bootstrap(measure, groups, resamples=resamples)
