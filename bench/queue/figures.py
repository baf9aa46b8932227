"""What a figure is."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A figure that was asked for. ``seen``: a ratio; ``notes``: what it is made of."""

    name: str
    asked: str
    seen: float
    met: bool
    notes: Sequence[str] = ()
