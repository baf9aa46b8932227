"""Scores that mean what they say: temperatures, fitted on the validation part.

Source: Guo et al. 2017, "On calibration of modern neural networks". A fuser is as sure as it is
right only if it knows what it did not see, so the temperature depends on the modalities present:
its logarithm is a sum of one number, and one for each modality that is absent.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from pipeline.fusion.neural.base import FusionNetwork
from pipeline.training.losses import Targets
from pipeline.training.measure import Seen

_STEPS = 100
#: Of the logarithm of a temperature: beyond it, scores are 0 and 1, or all alike.
_MOST = 4.0


def fit_temperatures(network: FusionNetwork, seen: Sequence[tuple[Seen, Targets]]) -> None:
    """Set the network's temperatures to the likeliest ones.

    ``seen``: for several choices of modalities, what the network said of the same N rows, and the
    labels. A normal prior around 1 keeps a handful of rows from proving too much.
    """
    some = torch.cat([said.present.any(dim=1) for said, _ in seen])
    absent = torch.cat([_absences(said.present) for said, _ in seen])
    tags_known = torch.cat([targets.tags_known for _, targets in seen]) & some
    classes_known = torch.cat([targets.classes_known for _, targets in seen]) & some
    rows = max(1, len(seen[0][0].present))
    if network.config.tags and tags_known.any():
        logits = torch.cat([said.logits.tags for said, _ in seen])[tags_known]
        truth = torch.cat([targets.tags for _, targets in seen])[tags_known]
        found = _fit(
            lambda scale: F.binary_cross_entropy_with_logits(logits / scale, truth),
            absent[tags_known],
            rows,
        )
        network.tag_temperature.copy_(found)
    if network.config.classes and classes_known.any():
        logits = torch.cat([said.logits.classes for said, _ in seen])[classes_known]
        truth = torch.cat([targets.classes for _, targets in seen])[classes_known]
        found = _fit(
            lambda scale: F.cross_entropy(logits / scale, truth), absent[classes_known], rows
        )
        network.class_temperature.copy_(found)


def _absences(present: Tensor) -> Tensor:
    return torch.cat([torch.ones_like(present[:, :1]), ~present], dim=1).float()


def _fit(loss_at: Callable[[Tensor], Tensor], absent: Tensor, rows: int) -> Tensor:
    found = torch.zeros(absent.shape[1], requires_grad=True)
    optimizer = torch.optim.LBFGS([found], max_iter=_STEPS, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimizer.zero_grad()
        scale = torch.exp((absent @ found).clamp(-_MOST, _MOST))[:, None]
        loss = loss_at(scale) + found.square().sum() / (2 * rows)
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    with torch.enable_grad():
        optimizer.step(closure)  # type: ignore[no-untyped-call]
    return found.detach()
