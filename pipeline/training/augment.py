"""Variations of what a fuser sees in training. All randomness is torch's own, of one seed."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from pipeline.fusion.neural.base import Encoded, Logits
from pipeline.fusion.neural.batches import Batch
from pipeline.fusion.neural.towers import Tower
from pipeline.training.options import TowerAugment


def vary_inputs(
    batch: Batch, towers: Mapping[str, Tower], options: Mapping[str, TowerAugment]
) -> Batch:
    """The batch with the inputs of towers shifted, masked and made noisy."""
    varied = dict(batch)
    for name, augment in options.items():
        each = varied[name]
        flat = each.values.flatten(0, 1)
        tower = towers[name]
        flat = _shifted(flat, augment.shift)
        flat = _blanked(flat, augment.mask, tower.offset)
        if augment.noise:
            flat = flat + augment.noise * tower.scale * torch.randn_like(flat)
        varied[name] = replace(each, values=flat.view_as(each.values))
    return varied


def hide_modalities(encoded: Encoded, share: float) -> Encoded:
    """Modality dropout (Neverova et al. 2015): each modality hidden by chance, one always left."""
    if not share or len(encoded.tokens) < 2:
        return encoded
    present = encoded.present()
    drawn = torch.rand(present.shape, device=present.device).masked_fill(~present, -1)
    # The modality with the highest draw stays: it would be the last to be hidden.
    kept = (drawn >= share) | (drawn == drawn.max(dim=1, keepdim=True).values)
    return encoded.masked({name: kept[:, [at]] for at, name in enumerate(encoded.tokens)})


def add_noise(encoded: Encoded, spread: float) -> Encoded:
    """Gaussian noise on every feature."""
    if not spread:
        return encoded
    tokens = {
        name: replace(each, values=each.values + spread * torch.randn_like(each.values))
        for name, each in encoded.tokens.items()
    }
    return Encoded(tokens=tokens)


def mix(encoded: Encoded, partner: Tensor, share: Tensor) -> Encoded:
    """Feature mixup (Verma et al. 2019, "Manifold mixup").

    ``partner``: int64 ``(B,)``, whom each item is mixed with. ``share``: ``(B,)``, how much of
    the item itself stays. Tokens are mixed where both have one; others stay as they are.
    """
    tokens = {}
    for name, each in encoded.tokens.items():
        both = (each.mask & each.mask[partner])[..., None]
        part = share[:, None, None].to(each.values.dtype)
        mixed = part * each.values + (1 - part) * each.values[partner]
        tokens[name] = replace(each, values=torch.where(both, mixed, each.values))
    return Encoded(tokens=tokens)


def mix_answers(said: Logits, partner: Tensor, share: Tensor) -> Logits:
    """What a teacher says of items that are mixed so: its answers to both, mixed before they are
    made probabilities."""
    part = share[:, None].to(said.classes.dtype)
    return Logits(
        tags=part * said.tags + (1 - part) * said.tags[partner],
        classes=part * said.classes + (1 - part) * said.classes[partner],
    )


def draw_mix(size: int, alpha: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """Partners and shares for :func:`mix`; the item itself always makes up half or more."""
    drawn = torch.distributions.Beta(alpha, alpha).sample((size,))
    share = torch.maximum(drawn, 1 - drawn).to(device)
    return torch.randperm(size).to(device), share


def _shifted(values: Tensor, most: tuple[int, int]) -> Tensor:
    if not any(most):
        return values
    n, _, height, width = values.shape
    rows = _moved(n, height, most[0], values.device)
    columns = _moved(n, width, most[1], values.device)
    at = torch.arange(n, device=values.device)[:, None, None]
    return values.permute(0, 2, 3, 1)[at, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _moved(n: int, length: int, most: int, device: torch.device) -> Tensor:
    """``(n, length)``: for each place, whence its value is taken."""
    steps = torch.randint(-most, most + 1, (n, 1), device=device)
    return (torch.arange(length, device=device) + steps).clamp(0, length - 1)


def _blanked(values: Tensor, most: tuple[int, int], fill: Tensor) -> Tensor:
    if not any(most):
        return values
    n, _, height, width = values.shape
    rows = _band(n, height, most[0], values.device)[:, None, :, None]
    columns = _band(n, width, most[1], values.device)[:, None, None, :]
    return torch.where(rows | columns, fill, values)


def _band(n: int, length: int, most: int, device: torch.device) -> Tensor:
    """bool ``(n, length)``: a band of up to ``most`` places."""
    size = torch.randint(0, most + 1, (n, 1), device=device)
    start = torch.randint(0, length, (n, 1), device=device)
    places = torch.arange(length, device=device)
    return (places >= start) & (places < start + size)
